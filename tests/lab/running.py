"""Boot, kill and use one member of the lab.

A member is a process tree below one PID 1 (init.py) in seven namespaces of its own.
Its disk is `members/NAME/` in the lab's directory and survives `kill`.
"""

import contextlib
import json
import logging
import os
import select
import signal
import subprocess
import time
from collections import abc
from dataclasses import dataclass
from pathlib import Path

from tests.lab import (
    cgroups,
    command,
    control,
    errors,
    layout,
    lock,
    members,
    mirror,
    network,
    polling,
    processes,
    witness,
)

log = logging.getLogger(__name__)

# About 1 s, on a machine that is not busy; its first libvirtd probes QEMU.
READY_TIMEOUT_S = 60.0
_KILL_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 5.0  # for a service to end by itself before it is killed
_INIT = Path(__file__).with_name("init.py")
_PYTHON = "/usr/bin/python3"
_LAYERS = ("etc.u", "etc.w", "var.u", "var.w")


@dataclass(frozen=True, slots=True)
class Member:
    """One host, one aggregator or the switch."""

    plan: layout.Layout
    place: layout.Place

    @property
    def name(self) -> str:
        return self.place.name

    @property
    def address(self) -> str:
        return self.place.address

    @property
    def directory(self) -> Path:
        return self.plan.member_directory(self.name)

    @property
    def console(self) -> Path:
        """Return the log of PID 1 itself."""
        return self.directory / "console.log"

    def is_alive(self) -> bool:
        """Tell whether the member's PID 1 runs."""
        return self._identity() is not None

    def is_plugged(self) -> bool:
        """Tell whether all of the member's cables are in the switch."""
        ports = {layout.port_name(self.place, port) for port in self.place.ports}
        return ports <= network.plugged_ports(self.plan)

    def exec(
        self,
        argv: abc.Sequence[str],
        *,
        input: str | None = None,
        timeout_s: float = command.TIMEOUT_S,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the member and return its output and status."""
        return command.run(self.entering(argv), input=input, timeout_s=timeout_s)

    def entering(self, argv: abc.Sequence[str]) -> list[str]:
        """Return the command that runs `argv` in all namespaces of the member."""
        spaces = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup")
        target = ["nsenter", "--target", str(self._living().pid), *spaces, "--"]
        return [*cgroups.joining_again(self.plan.prefix, self.name), *target, *argv]

    def boot(self) -> None:
        """Switch the member on and wait until its own services are up."""
        with lock.held(self.plan.directory):
            if self.is_alive():
                self.wait_ready()
                return
            with self.launched() as lifeline:
                self.wait_ready(lifeline)

    @contextlib.contextmanager
    def launched(self) -> abc.Iterator[int]:
        """Start PID 1; yield the descriptor that tells of its readiness or end."""
        if self.is_alive():
            raise errors.Collision(
                self.name, "it is up already", remedy="kill it first"
            )
        log.info("%s boots", self.name)
        self._clear()
        for layer in _LAYERS:
            (self.directory / layer).mkdir(parents=True, exist_ok=True)
        (self.directory / "pid.json").unlink(missing_ok=True)
        spec = self.directory / "spec.json"
        spec.write_text(json.dumps(members.specification(self.plan, self.place)))
        cgroups.create(self.plan.prefix, self.name)
        if not self._has_network():
            network.create(self.plan, self.place)
        reader, writer = os.pipe()
        try:
            with self.console.open("ab") as console:
                command.detach(
                    self._launcher(spec, writer), output=console.fileno(), keep=[writer]
                )
        finally:
            os.close(writer)
        try:
            yield reader
        finally:
            os.close(reader)

    def wait_ready(self, lifeline: int | None = None) -> None:
        """Wait until PID 1 says that the member's own services are up.

        `lifeline` is what `launched` yielded; None: ask a PID 1 that runs already.
        """
        begin = time.monotonic()
        if lifeline is not None:
            ready, _, _ = select.select([lifeline], [], [], READY_TIMEOUT_S)
            if ready and not os.read(lifeline, 64):
                raise errors.StepFailed(
                    self.name,
                    f"its PID 1 died at boot: {_tail(self.console, 3)}",
                    remedy="read the log; then: python -m tests.lab up",
                    log=self.console,
                )
        late: list[str] | None = None

        def is_ready() -> bool:
            nonlocal late
            late = self._late()
            return late == []

        if not polling.until(is_ready, READY_TIMEOUT_S):
            raise errors.TimedOut(
                self.name,
                f"{', '.join(late or ['its PID 1'])} not up after "
                f"{READY_TIMEOUT_S:.0f} s",
                remedy="read the log; then: python -m tests.lab up",
                log=self.log_path(late[0]) if late else self.console,
            )
        log.info("%s is up (%.1f s)", self.name, time.monotonic() - begin)

    def kill(self) -> None:
        """Cut the power: the network falls silent, then everything dies at once."""
        begin = time.monotonic()
        with lock.held(self.plan.directory):
            if self._has_network():
                with contextlib.suppress(errors.StepFailed):  # booted half-way
                    self.cut()
            self._clear()
            (self.directory / "pid.json").unlink(missing_ok=True)
        log.info("%s lost its power (%.1f s)", self.name, time.monotonic() - begin)

    def cut(self) -> None:
        """Pull all network cables; the member runs on alone."""
        network.set_cables(self.plan, self.place, is_up=False)

    def heal(self) -> None:
        """Put the network cables back."""
        self._living()
        network.set_cables(self.plan, self.place, is_up=True)

    def hang_storage(self) -> None:
        """Let every access to the shared storage hang."""
        self._signal_storage(signal.SIGSTOP)

    def resume_storage(self) -> None:
        """Let the shared storage go on where it hung."""
        self._signal_storage(signal.SIGCONT)

    def set_fault(self, fault: mirror.Fault, pattern: str = "") -> None:
        """Let the shared storage fail from now on, for paths of a pattern; "": all."""
        mirror.set_fault(self.plan, self.name, fault, pattern)

    def services(self) -> list[control.State]:
        """Return what the member's services do."""
        return control.states(self._control())

    def service_pid(self, name: str) -> int:
        """Return a running service's pid as the machine sees it, for `os.kill`."""
        inner = self._state(name).pid
        for identity in cgroups.members(self.plan.prefix, self.name):
            if inner and processes.inner_pid(identity.pid) == inner:
                return identity.pid
        raise errors.NotRunning(
            f"{self.name} {name}",
            "it does not run",
            remedy=f"python -m tests.lab service {self.name} start {name}",
            log=self.log_path(name),
        )

    def start_service(self, name: str) -> None:
        """Start a service, and wait until it does its work or waits for its need."""
        control.start(self._control(), name)
        self._wait_state(name, lambda s: s.is_waiting or (s.pid > 0 and s.is_ready))

    def stop_service(self, name: str) -> None:
        """Stop a service for good; SIGKILL if it takes too long."""
        control.stop(self._control(), name, signal.SIGTERM)
        try:
            self._wait_state(name, lambda state: state.pid == 0)
        except errors.TimedOut:
            control.stop(self._control(), name, signal.SIGKILL)
            self._wait_state(name, lambda state: state.pid == 0)

    def add_service(
        self,
        name: str,
        argv: abc.Sequence[str],
        *,
        environment: abc.Mapping[str, str] | None = None,
        passed: abc.Sequence[int] = (),
    ) -> None:
        """Keep one more program running in the member until its next boot.

        It finds the descriptors `passed` from 3 on.
        """
        service = members.Service(name, tuple(argv), tuple((environment or {}).items()))
        control.add(self._control(), service, passed)
        self._wait_state(name, lambda state: state.starts > 0)

    def log_path(self, name: str) -> Path:
        """Return a service's log; readable from the machine, also when it is off."""
        return self.directory / "var.u/log/lab" / f"{name}.log"

    def log(self, name: str) -> str:
        """Return all that a service has logged; empty if it never started."""
        path = self.log_path(name)
        return path.read_text(errors="replace") if path.exists() else ""

    def _identity(self) -> processes.Identity | None:
        return processes.read_record(self.directory / "pid.json")

    def _living(self) -> processes.Identity:
        identity = self._identity()
        if identity is None:
            raise errors.NotRunning(
                self.name,
                "it is off",
                remedy=f"python -m tests.lab boot {self.name}",
                log=self.console,
            )
        return identity

    def _control(self) -> Path:
        self._living()
        return self.directory / "control.sock"

    def _launcher(self, spec: Path, lifeline: int) -> list[str]:
        """Return the command whose last process is the member's PID 1."""
        spaces = ("--mount", "--propagation", "private", "--uts", "--ipc", "--pid")
        return [
            *cgroups.joining_namespace(self.plan.prefix, self.name),
            *network.entering(self.plan, self.name),
            *("unshare", *spaces, "--fork", "--kill-child=KILL", "--"),
            *(_PYTHON, "-I", str(_INIT), str(spec), str(lifeline)),
        ]

    def _end_processes(self) -> None:
        """SIGKILL PID 1, which ends all others, and whoever is left in the group."""
        first = self._identity()
        if first is not None:
            processes.send(first, signal.SIGKILL)
            processes.wait_gone(first, _KILL_TIMEOUT_S)
        busy = cgroups.destroy(self.plan.prefix, self.name)
        if busy:
            raise errors.StepFailed(
                self.name,
                f"the cgroup {busy[0]} does not go",
                remedy="see its cgroup.procs; then: python -m tests.lab down",
                log=self.console,
            )
        if first is not None:
            witness.note_death(self.plan, self.name)

    def _clear(self) -> None:
        """Remove what is not on disk: cgroups and the network of the last boot.

        The switch's network is what the others are plugged into: it stays.
        """
        self._end_processes()
        if self.place.kind is not layout.Kind.SWITCH:
            network.unplug(self.plan, self.place)

    def _has_network(self) -> bool:
        return self.plan.netns(self.name) in network.namespaces(self.plan.lab_id)

    def _signal_storage(self, signal_number: signal.Signals) -> None:
        pid = self.service_pid(members.STORAGE_SERVICE)
        os.kill(pid, signal_number)

    def _state(self, name: str) -> control.State:
        states = {state.name: state for state in self.services()}
        if name not in states:
            raise errors.BadSetting(
                self.name,
                f"there is no service {name!r}",
                remedy=f"name one of: {', '.join(states)}",
            )
        return states[name]

    def _wait_state(
        self, name: str, is_reached: abc.Callable[[control.State], bool]
    ) -> None:
        if polling.until(lambda: is_reached(self._state(name)), _STOP_TIMEOUT_S):
            return
        raise errors.TimedOut(
            f"{self.name} {name}",
            f"still {self._state(name)} after {_STOP_TIMEOUT_S:.0f} s",
            remedy="read the log",
            log=self.log_path(name),
        )

    def _late(self) -> list[str] | None:
        """Return the services that are not up; None: PID 1 cannot tell yet."""
        try:
            states = self.services()
        except errors.NotRunning:
            self._living()  # it listens after it has mounted its world
            return None
        return [state.name for state in states if not state.is_ready]


def _tail(path: Path, lines: int) -> str:
    if not path.exists():
        return ""
    return " | ".join(path.read_text(errors="replace").splitlines()[-lines:])
