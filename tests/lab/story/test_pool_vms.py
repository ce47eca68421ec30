"""VMs whose disks lie on a shared pool: three hosts, real sanlock six times as fast.

One writer at a time, whatever happens to the hosts: the mirrors saw who wrote what.
The guest counts on its second disk, each number in a sector of its own.
"""

import base64
import contextlib
import hashlib
import json
import shlex
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from node.storage.formats import volume_meta
from node.storage.formats.volume_meta import VolumeRole
from node.vm.devices import firmware
from tests.lab import Lab, command, fleet, members, mirror, running, waiting, witness

pytestmark = pytest.mark.lab

HOSTS = ("h1", "h2", "h3")
FOLDER = "pool"
MOUNT = f"{members.SHARED_STORAGE}/{FOLDER}"
SOCKET = "/run/skerry/local.sock"
IMAGE = f"/var/lib/skerry/images/{fleet.IMAGE}.qcow2"
# 8 × sanlock's timeout and the watchdog's 60, in sanlock's seconds.
DEAD_S = (8 * 10 + 60) / members.SANLOCK_SPEED
TIMEOUT_S = DEAD_S + 60.0
START_S = 60.0
DATA_BYTES = 4 << 20
RUNS_ELSEWHERE = "vm_runs_elsewhere"
# Somebody may look at the lease, or change hands, in this very moment.
REFUSALS = frozenset({RUNS_ELSEWHERE, "lease_busy"})
ENDS = frozenset({"vm_lease_lost", "vm_lease_moved", "vm_crashed", "vm_end_unknown"})
COUNT = (
    "n=0; while :; do n=$((n + 1)); printf 'STAMP %012d\\n' $n |"
    " dd of=/dev/vdb bs=512 seek=$n conv=notrunc,fsync 2>/dev/null || exit;"
    " sleep 0.05; done"
)


class Refused(Exception):
    """A node's answer, or its job, was an error; its code is the first argument."""


@dataclass(slots=True)
class Node:
    """One host's agent, asked on its own socket."""

    member: running.Member

    def call(self, method: str, path: str, body: object = None) -> Any:
        argv = ["curl", "-sS", "-m", "30", "--unix-socket", SOCKET, "-X", method]
        if body is not None:
            argv += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
        result = self.member.exec([*argv, f"http://node/v1{path}"])
        assert result.returncode == 0, result.stderr
        answer = json.loads(result.stdout)
        if "error" in answer and "code" in (answer["error"] or {}):
            raise Refused(answer["error"]["code"], answer["error"]["message"])
        return answer

    def answers(self) -> bool:
        argv = ["curl", "-fsS", "--unix-socket", SOCKET, "http://node/v1/pools"]
        return self.member.exec(argv).returncode == 0

    def do(self, path: str, body: Mapping[str, Any] | None = None) -> None:
        """Ask for a job, and wait for its end; Refused."""
        job = self.call("POST", path, body or {})

        def ended() -> Any:
            found = self.call("GET", f"/jobs/{job['job_id']}?wait_s=5")
            return found if "ended_at" in found else None

        done = waiting.until(f"{path} of {self.member.name}", ended, timeout_s=120.0)
        if done["state"] != "done":
            raise Refused(done["error"]["code"], done["error"]["message"])

    def code(self, path: str, body: Mapping[str, Any] | None = None) -> str:
        """Return the code of the error; empty: there was none."""
        try:
            self.do(path, body)
        except Refused as error:
            return str(error.args[0])
        return ""

    def run_of(self, vm_id: str) -> Any:
        return self.call("GET", f"/vms/{vm_id}")["run"]

    def guest(self, vm_id: str, script: str) -> None:
        """Run a script in the guest, and do not wait for its end."""
        arguments = {"path": "/bin/sh", "arg": ["-c", script]}
        words = json.dumps({"execute": "guest-exec", "arguments": arguments})
        argv = ["virsh", "-q", "qemu-agent-command", vm_id, words]

        def done() -> bool:
            return self.member.exec(argv).returncode == 0

        waiting.until("the guest's agent", done, timeout_s=START_S)


@dataclass(slots=True)
class Three:
    """Three nodes in one pool, and a VM on it whose guest counts."""

    lab: Lab
    sd: str = field(default_factory=lambda: str(uuid.uuid4()))
    pool: str = field(default_factory=lambda: str(uuid.uuid4()))
    vm: str = field(default_factory=lambda: str(uuid.uuid4()))
    root: str = field(default_factory=lambda: str(uuid.uuid4()))
    data: str = field(default_factory=lambda: str(uuid.uuid4()))

    def __getitem__(self, name: str) -> Node:
        return Node(self.lab.member(name))

    def make(self) -> None:
        """Make the storage domain, the pool and the VM on h1; join the others."""
        connection = {"kind": "posixfs", "path": MOUNT}
        known: dict[str, Any] = {
            "storage_domain_id": self.sd,
            "name": "shared",
            "connection": connection,
        }
        self["h1"].do("/storage-domains", known)
        pool = {"pool_id": self.pool, "name": "main", "master": self.sd}
        self["h1"].do("/pools", pool)
        request = {"name": "main", "domains": [{**known, "domain_class": "data"}]}
        for name in HOSTS[1:]:
            self[name].do(f"/pools/{self.pool}/connect", request)
        self["h1"].call("POST", "/vms", {"spec": self._spec()})
        self._fill()

    def start(self, name: str) -> None:
        """Start the VM, and let its guest count."""
        self[name].do(f"/vms/{self.vm}/start")
        self[name].guest(self.vm, COUNT)
        waiting.until(f"stamps of {name}", lambda: self.writer() == name)

    def take_over(self, name: str, strike: Callable[[], object] = int) -> float:
        """Strike, and start the VM elsewhere as soon as it may; return how long."""
        began = time.monotonic()
        strike()

        def is_started() -> bool:
            code = self[name].code(f"/vms/{self.vm}/start")
            assert not code or code in REFUSALS, code
            return not code

        waiting.until(f"the VM on {name}", is_started, timeout_s=TIMEOUT_S)
        return time.monotonic() - began

    def changes(self, disk: str) -> list[witness.Change]:
        """Return who wrote a disk, in order."""
        return [
            each
            for each in witness.read(self.lab.plan)
            if f"/images/{disk}/" in each.path
            and each.verb == "write"
            and "." not in each.path.rpartition("/")[2]
        ]

    def check_one_writer(self) -> list[str]:
        """Return the hosts in the order in which they wrote; none beside another."""
        for disk in (self.root, self.data):
            assert witness.overlaps(self.changes(disk)) == []
        return [each.host for each in witness.turns(self.changes(self.data))]

    def check_stamps(self, name: str = "h1") -> int:
        """Return how far the guest counted; each number up to there is in place."""
        read = f"base64 -w0 {shlex.quote(self._volume(name, self.data))}"
        said = self.lab.member(name).exec(["sh", "-c", read], timeout_s=60.0)
        return last_stamp(base64.b64decode(said.stdout))

    def count(self) -> int:
        """Return how many numbers were written."""
        return len(self.changes(self.data))

    def writer(self) -> str:
        """Return the host that wrote the last number; empty: none did."""
        done = self.changes(self.data)
        return done[-1].host if done else ""

    def wait_state(self, name: str, *states: str) -> None:
        def reached() -> bool:
            return self[name].run_of(self.vm)["state"] in states

        what = f"the VM {' or '.join(states)} on {name}"
        waiting.until(what, reached, timeout_s=START_S)

    def lease_version(self, name: str) -> int:
        return int(self[name].run_of(self.vm)["lease_version"])

    def ends(self, name: str) -> list[str]:
        """Return how runs of the VM ended on a host, but those that we ended."""
        events = self[name].call("GET", "/events")["events"]
        ours = [each["code"] for each in events if each.get("vm_id") == self.vm]
        return [code for code in ours if code in ENDS]

    def volumes(self, name: str) -> set[str]:
        return {self._volume(name, disk) for disk in (self.root, self.data)}

    def opened(self, name: str) -> set[str]:
        """Return the files on the pool that QEMU has opened."""
        words = json.dumps({"execute": "query-named-block-nodes"})
        argv = ["virsh", "-q", "qemu-monitor-command", self.vm, words]
        nodes = json.loads(self.lab.member(name).exec(argv).stdout)["return"]
        assert {each["drv"] for each in nodes} <= {"file", "raw", "qcow2"}
        return {each["file"] for each in nodes if each["drv"] == "file"}

    def _spec(self) -> dict[str, Any]:
        return {
            "vm_id": self.vm,
            "name": "counter",
            "memory_bytes": 128 << 20,
            "pool_id": self.pool,
            "disks": [
                self.disk(self.root, 64 << 20) | {"is_bootable": True},
                self.disk(self.data, DATA_BYTES),
            ],
        }

    def disk(self, disk_id: str, size_bytes: int) -> dict[str, Any]:
        return {
            "disk_id": disk_id,
            "name": disk_id[:8],
            "size_bytes": size_bytes,
            "storage_domain_id": self.sd,
            "disk_format": "raw",
        }

    def files(self, name: str, disk: str) -> set[str]:
        """Return the paths of a disk's volumes in a host."""
        folder = f"{MOUNT}/{self.sd}/images/{disk}"
        names = self.lab.member(name).exec(["ls", folder]).stdout.split()
        return {f"{folder}/{each}" for each in names if "." not in each}

    def add_layer(self, disk: str) -> None:
        """Let a disk have a snapshot, as if one had been taken."""
        (base,) = map(self._outside, self.files("h1", disk))
        leaf = base.with_name(str(uuid.uuid4()))
        words = ("-f", "qcow2", "-b", base.name, "-F", "qcow2", str(leaf))
        command.check(["qemu-img", "create", "-q", *words])
        found = volume_meta.parse(base.with_name(f"{base.name}.meta").read_bytes())
        metas = {
            base: replace(found, role=VolumeRole.INTERNAL),
            leaf: replace(found, parent_id=base.name),
        }
        for path, meta in metas.items():
            path.with_name(f"{path.name}.meta").write_bytes(volume_meta.write(meta))
        lease = leaf.with_name(f"{leaf.name}.lease")
        lease.touch()
        for path in (leaf, lease, leaf.with_name(f"{leaf.name}.meta")):
            shutil.chown(path, 36, 36)
            path.chmod(0o660)

    def _outside(self, path: str) -> Path:
        """Return where a file of the shared storage is on this machine."""
        return self.lab.plan.shared / Path(path).relative_to(members.SHARED_STORAGE)

    def _volume(self, name: str, disk: str) -> str:
        (path,) = self.files(name, disk)
        return path

    def _fill(self) -> None:
        """Put the guest's system on its first disk, as an upload would."""
        path = self._volume("h1", self.root)
        argv = ["qemu-img", "convert", "-n", "-O", "raw", IMAGE, path]
        result = self.lab.member("h1").exec(argv, timeout_s=60.0)
        assert result.returncode == 0, result.stderr


def last_stamp(data: bytes) -> int:
    """Return the last number on a disk; each one up to there is in place."""
    last = 0
    for number in range(1, len(data) // 512):
        sector = data[512 * number : 512 * (number + 1)]
        if not sector.startswith(b"STAMP"):
            break
        assert sector.startswith(b"STAMP %012d\n" % number), sector[:32]
        last = number
    return last


@pytest.fixture
def three(lab: Lab) -> Iterator[Three]:
    with made(lab) as found:
        yield found


@contextlib.contextmanager
def made(lab: Lab) -> Iterator[Three]:
    """Make a pool of three hosts with a VM, and let them forget it."""
    found = Three(lab)
    folder = ["install", "-d", "-o", "36", "-g", "36", "-m", "0770", MOUNT]
    lab.member("h1").exec(folder)
    try:
        # No aggregator shall hear of the pool: it would let them join it again.
        lab.member("a1").stop_service("aggregator")
        for name in HOSTS:
            ready = found[name].answers
            waiting.until(f"the agent of {name}", ready, timeout_s=START_S)
        found.make()
        yield found
    finally:
        lab.forget_storage()
        lab.restore()
        lab.member("h1").exec(["rm", "-rf", MOUNT])


def test_vm_runs_on_one_host_at_a_time(three: Three) -> None:
    three.start("h1")
    assert three.opened("h1") == three.volumes("h1")
    assert three["h2"].code(f"/vms/{three.vm}/start") in REFUSALS
    three["h1"].do(f"/vms/{three.vm}/pause")
    assert three["h2"].code(f"/vms/{three.vm}/start") in REFUSALS
    count = three.count()
    three["h1"].do(f"/vms/{three.vm}/resume")
    waiting.until("more stamps", lambda: three.count() > count)
    # A disk that fails costs time, and no data.
    version = three.lease_version("h1")
    three.lab.member("h1").set_fault(mirror.Fault.EIO, f"*/images/{three.data}/*")
    three.wait_state("h1", "paused")
    assert three["h1"].run_of(three.vm)["reason"]["code"] == "vm_paused_by_error"
    waiting.until("the lease parked", lambda: three.lease_version("h1") > version)
    assert three["h2"].code(f"/vms/{three.vm}/start") in REFUSALS
    three.lab.member("h1").set_fault(mirror.Fault.NONE)
    before, count = three.check_stamps(), three.count()
    waiting.until("more stamps", lambda: three.count() > count, timeout_s=START_S)
    assert three.check_one_writer() == ["h1"]
    assert three.check_stamps() > before


def test_disks_come_and_go_while_the_vm_runs(three: Three) -> None:
    three.start("h1")
    h1, vm = three["h1"], f"/vms/{three.vm}"
    new = three.disk(str(uuid.uuid4()), 8 << 20)
    wanted = {each: new[each] for each in ("disk_id", "name", "size_bytes")}
    place = {"storage_domain_id": three.sd, "disk_format": "qcow2"}
    h1.do("/disks", wanted | place)
    three.add_layer(new["disk_id"])
    h1.do(f"{vm}/attach-disk", {"disk": new | {"disk_format": "qcow2"}})
    files = three.files("h1", new["disk_id"])
    assert len(files) == 2
    assert three.opened("h1") == three.volumes("h1") | files
    h1.guest(three.vm, "dd if=/dev/zero of=/dev/vdc bs=4096 conv=fsync")
    waiting.until("writes to it", lambda: three.changes(new["disk_id"]))
    h1.do(f"{vm}/resize-disk", {"disk_id": new["disk_id"], "size_bytes": 16 << 20})
    shown = waiting.until(
        "the new size",
        lambda: h1.call("GET", f"/disks/{new['disk_id']}")["size_bytes"] == 16 << 20,
    )
    assert shown
    assert h1.code(f"/disks/{new['disk_id']}/delete") == "disk_in_use"
    h1.do(f"{vm}/detach-disk", {"disk_id": new["disk_id"]})
    assert three.opened("h1") == three.volumes("h1")
    spec = h1.call("GET", vm)["vm"]["spec"]
    assert [each["disk_id"] for each in spec["disks"]] == [three.root, three.data]
    h1.do(f"/disks/{new['disk_id']}/delete")


def test_uefi_remembers_on_every_host(three: Three) -> None:
    vm_id, disk = str(uuid.uuid4()), three.disk(str(uuid.uuid4()), 0)
    spec = {
        "vm_id": vm_id,
        "name": "modern",
        "memory_bytes": 128 << 20,
        "firmware": "uefi",
        "pool_id": three.pool,
        "disks": [disk | {"is_bootable": True, "image": fleet.IMAGE}],
    }
    vm, path = f"/vms/{vm_id}", f"{MOUNT}/{three.sd}/master/vms/{vm_id}/variables"
    three["h1"].call("POST", "/vms", {"spec": spec})
    three["h1"].do(f"{vm}/start")

    def variables() -> str:
        return str(three.lab.member("h1").exec(["sha256sum", path]).stdout.split()[0])

    first = hashlib.sha256(firmware.OVMF_VARIABLES.read_bytes()).hexdigest()
    waiting.until(
        "what the firmware writes", lambda: variables() != first, timeout_s=START_S
    )
    three["h1"].do(f"{vm}/stop", {"manner": "force"})
    kept = variables()
    three["h2"].do(f"{vm}/start", {"is_paused": True})
    xml = three.lab.member("h2").exec(["virsh", "-q", "dumpxml", vm_id]).stdout
    assert f">{path}</nvram>" in xml
    assert variables() == kept
    three["h2"].do(f"{vm}/stop", {"manner": "force"})
    # It was paused: h2 itself had its lease, and gives it back in a moment.
    waiting.until("its end", lambda: three["h1"].code(f"{vm}/delete") == "")
    assert three.lab.member("h1").exec(["test", "-e", path]).returncode != 0


def test_vm_that_ran_elsewhere_while_it_was_paused_is_killed(three: Three) -> None:
    """Libvirt alone would let it go on, and it would write over what is newer."""
    three.start("h3")
    three["h3"].do(f"/vms/{three.vm}/pause")
    # Nobody is left on h3 who has the lease.
    for service in ("agent", "skerry-storage"):
        three.lab.member("h3").stop_service(service)
    three.take_over("h2")
    three["h2"].guest(three.vm, COUNT)
    waiting.until("stamps of h2", lambda: three.writer() == "h2")
    three["h2"].do(f"/vms/{three.vm}/stop", {"manner": "force"})
    for service in ("skerry-storage", "agent"):
        three.lab.member("h3").start_service(service)
    waiting.until("the agent of h3", three["h3"].answers, timeout_s=START_S)
    waiting.until("its end", lambda: three.ends("h3"), timeout_s=START_S)
    assert three.ends("h3") == ["vm_lease_moved"]
    assert three.check_one_writer() == ["h3", "h2"]


def test_vm_outlives_its_hosts(three: Three) -> None:
    three.start("h1")
    took_s = three.take_over("h2", three.lab.member("h1").kill)
    print(f"started after {took_s:.1f} s")
    # Not before its time: the last renewal was up to 20 of its seconds before.
    assert DEAD_S - 4.0 < took_s < TIMEOUT_S
    before = three.check_stamps("h2")
    assert before > 0
    three["h2"].guest(three.vm, COUNT)
    waiting.until("stamps of h2", lambda: three.writer() == "h2")
    three.lab.member("h1").boot()
    took_s = three.take_over("h3", three.lab.member("h2").hang_storage)
    print(f"started after {took_s:.1f} s")
    three["h3"].guest(three.vm, COUNT)
    waiting.until("stamps of h3", lambda: three.writer() == "h3")
    if three.lab.member("h2").is_alive():
        three.lab.member("h2").resume_storage()
        waiting.until("its end", lambda: three.ends("h2"), timeout_s=START_S)
        assert three.ends("h2") == ["vm_lease_lost"]
    # What hung, and was not killed, would be carried out by now.
    count = three.count()
    waiting.until("more stamps", lambda: three.count() > count)
    assert three.check_one_writer() == ["h1", "h2", "h3"]
    assert three.check_stamps("h3") >= before
