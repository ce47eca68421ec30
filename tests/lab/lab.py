"""Bring a whole lab up and down, and hand out its members.

What is on the machine is found by name, and on disk by the lab's directory, so that
any command works after whoever ran the last one crashed half-way.

    /srv/skerry-<id>/lab.json   the layout, written before anything else exists
                    /shared     every host's shared storage
                    /witness    what each host changed there, and its faults
                    /watchdog   who cuts a host's power in the watchdog's place
                    /guest      the guest's image, kernel and initial RAM disk
                    /members    a disk and the records of each member
"""

import contextlib
import errno
import grp
import logging
import os
import shutil
import socket
import subprocess
import time
from collections import abc
from dataclasses import dataclass
from pathlib import Path

from tests.lab import (
    cgroups,
    command,
    errors,
    guest,
    layout,
    lock,
    members,
    mirror,
    network,
    requirements,
    running,
    subnet,
    watchdog,
)

log = logging.getLogger(__name__)

_FORWARDER = Path(__file__).with_name("forward.py")
_PRODUCT = "var.u/lib/skerry"  # below a host's directory: its /var/lib/skerry
_IMAGE_MODE = 0o644  # QEMU and the storage user read it; who may write gets a copy
_RECORD = "lab.json"
_FRESH = "lab.json.new"
_CONTENTS = ("members", "shared", "witness", "watchdog", "guest", _FRESH, _RECORD)
_HTTPS = 443


@dataclass(frozen=True, slots=True)
class Lab:
    """A lab that is up; see `Lab.load` and `Lab.up`."""

    plan: layout.Layout

    @classmethod
    def load(cls, settings: layout.Settings | None = None) -> "Lab":
        """Return the lab that runs; None: the one the environment names."""
        settings = settings or layout.read_settings(os.environ)
        try:
            text = (settings.directory / _RECORD).read_text()
        except FileNotFoundError as problem:
            raise errors.NotRunning(
                f"lab {settings.lab_id}",
                "it is not up",
                remedy="python -m tests.lab up",
            ) from problem
        return cls(layout.parse(text))

    @classmethod
    def up(
        cls,
        hosts: int = layout.DEFAULT_HOSTS,
        aggregators: int = layout.DEFAULT_AGGREGATORS,
        settings: layout.Settings | None = None,
    ) -> "Lab":
        """Bring a lab up, or what lacks of it; clean stale remains first."""
        begin = time.monotonic()
        settings = settings or layout.read_settings(os.environ)
        layout.check_size(hosts, aggregators)
        requirements.check(requirements.missing())
        requirements.check_directory(settings.directory)
        _check_ours(settings.directory)
        built = guest.build()
        mirror.build()
        with lock.held(settings.directory):
            lab = cls._running(settings, hosts, aggregators)
            if lab is None:
                _clean(settings)
                lab = cls._create(settings, hosts, aggregators, built)
            lab._boot_all()
        log.info(
            "lab %s is up: %d hosts, %d aggregators, network %s.0/24 (%.1f s)",
            settings.lab_id,
            hosts,
            aggregators,
            lab.plan.subnet,
            time.monotonic() - begin,
        )
        return lab

    @classmethod
    def _running(
        cls, settings: layout.Settings, hosts: int, aggregators: int
    ) -> "Lab | None":
        """Return the lab that is up; refuse if it has another shape."""
        with contextlib.suppress(errors.NotRunning):
            lab = cls.load(settings)
            if not lab.member(layout.SWITCH).is_alive():
                return None
            if (lab.plan.hosts, lab.plan.aggregators) != (hosts, aggregators):
                raise errors.Collision(
                    f"lab {settings.lab_id}",
                    f"it is up with {lab.plan.hosts} hosts and "
                    f"{lab.plan.aggregators} aggregators",
                    remedy="python -m tests.lab down, or set another SKERRY_LAB_ID",
                )
            return lab
        return None

    @classmethod
    def _create(
        cls,
        settings: layout.Settings,
        hosts: int,
        aggregators: int,
        built: guest.Guest,
    ) -> "Lab":
        """Lay the lab's directory out; nothing on the machine exists before that."""
        used = subnet.used_networks(
            network.machine_routes(), network.machine_interfaces()
        )
        chosen = subnet.choose(settings.subnet, used)
        if chosen not in (settings.subnet, subnet.DEFAULT):
            log.info("%s.0/24 is in use here: taking %s.0/24", subnet.DEFAULT, chosen)
        lab = cls(
            layout.Layout(
                settings.lab_id, settings.directory, chosen, hosts, aggregators
            )
        )
        text = layout.dump(lab.plan)
        fresh = settings.directory / _FRESH
        fresh.write_text(text)
        fresh.replace(settings.directory / _RECORD)
        settings.directory.chmod(0o755)
        lab.plan.shared.mkdir()
        lab.plan.shared.chmod(0o777)
        for one in lab.members(layout.Kind.HOST):
            one.set_fault(mirror.Fault.NONE)
        lab.plan.guest.mkdir()
        for source in (built.disk, built.kernel, built.initrd):
            shutil.copy(source, lab.plan.guest)
        for one in lab.members(layout.Kind.HOST):
            _give_image(one, built.disk)
        return lab

    def down(self) -> None:
        """Take the lab down and check that nothing is left."""
        take_down(layout.Settings(self.plan.lab_id, self.plan.directory, None))

    def member(self, name: str) -> running.Member:
        """Return one member; `sw` is the switch."""
        for one in self.members():
            if one.name == name:
                return one
        raise errors.BadSetting(
            f"lab {self.plan.lab_id}",
            f"there is no member {name!r}",
            remedy=f"name one of: {', '.join(m.name for m in self.members())}",
        )

    def members(self, kind: layout.Kind | None = None) -> list[running.Member]:
        """Return the members, the switch first; None: of every kind."""
        return [
            running.Member(self.plan, place)
            for place in layout.places(self.plan)
            if kind in (None, place.kind)
        ]

    def in_switch(
        self,
        argv: abc.Sequence[str],
        *,
        input: str | None = None,
        timeout_s: float = command.TIMEOUT_S,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of the machine in the lab's network."""
        words = [
            *cgroups.joining_again(self.plan.prefix, layout.SWITCH),
            *network.entering(self.plan, layout.SWITCH),
            *argv,
        ]
        return command.run(words, input=input, timeout_s=timeout_s)

    def start_side(
        self,
        name: str,
        argv: abc.Sequence[str],
        environment: abc.Mapping[str, str] | None = None,
    ) -> None:
        """Keep a program running beside the members, at the switch, until `down`."""
        self.member(layout.SWITCH).add_service(name, argv, environment=environment)

    def forward(self, port: int, aggregator: str = "a1") -> None:
        """Forward the machine's 127.0.0.1:PORT to an aggregator's HTTPS."""
        target = self.member(aggregator).address
        switch = self.member(layout.SWITCH)
        name = _forwarder_name(port)
        if name in {state.name for state in switch.services()}:
            return
        with _listener(port) as listener:
            listener.listen()
            argv = ["/usr/bin/python3", "-I", str(_FORWARDER), "3", target, str(_HTTPS)]
            switch.add_service(name, argv, passed=[listener.fileno()])
        log.info("https://127.0.0.1:%d/ leads to %s", port, aggregator)

    def restore(self) -> None:
        """Undo what a test did: power, cables, storage and services as after `up`."""
        watchdog.ensure(self.plan)
        plugged = network.plugged_ports(self.plan)
        for one in self.members(layout.Kind.HOST):
            one.set_fault(mirror.Fault.NONE)
        for one in self.members():
            if not one.is_alive():
                one.boot()
                continue
            ports = {layout.port_name(one.place, port) for port in one.place.ports}
            if not ports <= plugged:
                one.heal()
            # What a test added and stopped is over.
            born = {each.name for each in members.services(self.plan, one.place)}
            for state in one.services():
                if state.name == members.STORAGE_SERVICE and state.pid:
                    one.resume_storage()
                if not state.is_wanted and state.name in born:
                    one.start_service(state.name)

    def forget_storage(self) -> None:
        """Let every host lose its power, and all that it keeps of pools and VMs.

        They stay off until `restore`, and wait for an admission then. A sanlock that
        lives would not forget its lockspaces.
        """
        for one in self.members(layout.Kind.HOST):
            one.kill()
            kept = one.directory / "var.u/lib/skerry"
            for path in kept.glob("node.db*"):
                path.unlink()
            if (kept / "local").exists():
                shutil.rmtree(kept / "local")

    def _boot_all(self) -> None:
        """Start every dead member, then wait for all of them together."""
        with contextlib.ExitStack() as stack:
            lifelines: dict[str, int] = {}
            for one in self.members():
                if not one.is_alive():
                    lifelines[one.name] = stack.enter_context(one.launched())
            watchdog.ensure(self.plan)
            for one in self.members():
                one.wait_ready(lifelines.get(one.name))


def check_port(settings: layout.Settings, port: int) -> None:
    """Refuse a port of this machine that anything but this lab's forwarder has."""
    with contextlib.suppress(errors.NotRunning):
        switch = Lab.load(settings).member(layout.SWITCH)
        if _forwarder_name(port) in {state.name for state in switch.services()}:
            return
    with _listener(port):
        pass


def take_down(settings: layout.Settings) -> None:
    """Take a lab down, whatever is left of it, and check that nothing is."""
    begin = time.monotonic()
    requirements.check(requirements.missing())
    _check_ours(settings.directory)
    with lock.held(settings.directory):
        _clean(settings)
        shutil.rmtree(settings.directory)
    left = leftovers(settings)
    if left:
        raise errors.StepFailed(
            f"lab {settings.lab_id}",
            f"left behind: {'; '.join(left)}",
            remedy="end what holds them, then: python -m tests.lab down",
        )
    log.info("lab %s is gone (%.1f s)", settings.lab_id, time.monotonic() - begin)


def leftovers(settings: layout.Settings) -> list[str]:
    """Return a sentence for each trace of a lab on the machine."""
    prefix = f"skerry-{settings.lab_id}"
    traces = [f"process {p.pid}" for p in cgroups.members(prefix)]
    traces += [f"network namespace {n}" for n in network.namespaces(settings.lab_id)]
    traces += [
        f"cgroup {root / prefix}"
        for root in cgroups.hierarchies()
        if (root / prefix).exists()
    ]
    table = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
    points = [line.split()[4] for line in table.splitlines()]
    traces += [
        f"mount {point}"
        for point in points
        if Path(point).is_relative_to(settings.directory)
    ]
    traces += [
        f"link {link['ifname']}"
        for link in network.machine_interfaces()
        if layout.is_mac_of(link.get("address", ""), settings.lab_id)
    ]
    if settings.directory.exists():
        traces.append(f"directory {settings.directory}")
    return traces


@contextlib.contextmanager
def _listener(port: int) -> abc.Iterator[socket.socket]:
    """Hold a port of the machine's loopback; Collision if it cannot be had."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as problem:
            if problem.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            raise errors.Collision(
                "forwarder",
                f"port {port} of this machine is taken",
                remedy="choose another: make demo SKERRY_DEMO_PORT=PORT, "
                "or --forward PORT",
            ) from problem
        yield listener


def _forwarder_name(port: int) -> str:
    return f"forward-{port}"


def _clean(settings: layout.Settings) -> None:
    """End all processes of a lab and remove all it has but its directory itself."""
    prefix = f"skerry-{settings.lab_id}"
    busy = cgroups.destroy(prefix)
    if busy:
        raise errors.StepFailed(
            f"lab {settings.lab_id}",
            f"the cgroup {busy[0]} does not go",
            remedy="see its cgroup.procs; then: python -m tests.lab down",
        )
    for name in network.namespaces(settings.lab_id):
        network.delete(name)
    # The record goes last: without it, the rest would not be known as ours.
    for name in _CONTENTS:
        path = settings.directory / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _check_ours(directory: Path) -> None:
    """Refuse a directory that holds anything but a lab: `down` removes it all."""
    names = {path.name for path in directory.glob("*")} - {lock.NAME, _FRESH}
    if names and (_RECORD not in names or names - set(_CONTENTS)):
        raise errors.Collision(
            "directory",
            f"{directory} holds {', '.join(sorted(names)[:3])}, which no lab put there",
            remedy="set SKERRY_LAB_DIR to a directory that is empty or does not exist",
        )


def _give_image(one: running.Member, disk: Path) -> None:
    """Put the guest's disk where a host finds its images."""
    product = one.directory / _PRODUCT
    directory = product / "images"
    directory.mkdir(parents=True)
    # What the machine itself may have there does not show through.
    os.setxattr(product, "trusted.overlay.opaque", b"y")
    image = directory / disk.name
    shutil.copyfile(disk, image)
    os.chown(image, 0, grp.getgrnam("kvm").gr_gid)
    image.chmod(_IMAGE_MODE)
