"""Snapshots of VMs, with a real guest, libvirt and QEMU, on a local and a shared pool.

The guest writes a letter into a block of its second disk, each letter at a place of
its own; what a state holds is read from the files when the VM is down.
"""

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.lab import Lab, layout, running, waiting
from tests.lab.story import test_pool_vms
from tests.lab.story.test_pool_vms import Three

pytestmark = pytest.mark.lab

HOST = "h1"
PROGRAM = str(layout.VIRTUAL_ENVIRONMENT / "bin/skerry-node")
IMAGE = "/var/lib/skerry/images/lab-guest.qcow2"
IMAGES = "/var/lib/skerry/local"
LETTERS = "ABC"
BLOCK = 64 << 10
START_S = 90.0


class Refused(Exception):
    """What the node's command line complained of."""


@dataclass(slots=True)
class Scene:
    """One host, and a VM with a system and a data disk on its local pool."""

    lab: Lab
    vm: str = field(default_factory=lambda: str(uuid.uuid4()))
    root: str = field(default_factory=lambda: str(uuid.uuid4()))
    data: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def member(self) -> running.Member:
        return self.lab.member(HOST)

    def ask(self, *words: str, typed: str = "") -> Any:
        """Return what the node says, as JSON; Refused."""
        argv = [PROGRAM, "--json", *words]
        if typed:
            argv = ["sh", "-c", f"echo '{typed}' | {' '.join(argv)}"]
        result = self.member.exec(argv, timeout_s=180.0)
        if result.returncode != 0:
            raise Refused(f"{words}: {result.stderr.strip()[-400:]}")
        return json.loads(result.stdout or "null")

    def make(self) -> None:
        pool = self._until("the local pool", self._local)
        where = pool["master"]
        spec = {
            "vm_id": self.vm,
            "name": "web",
            "memory_bytes": 128 << 20,
            "pool_id": pool["pool_id"],
            "disks": [
                self._disk(self.root, 64 << 20, where) | {"is_bootable": True},
                self._disk(self.data, 4 << 20, where),
            ],
        }
        typed = json.dumps({"spec": spec})
        # libvirt may not have told yet what it can do.
        words = ("vm", "create", "--spec", "-")
        self._until("the VM", lambda: self.ask(*words, typed=typed))
        argv = ["qemu-img", "convert", "-n", "-O", "raw", IMAGE, self.leaf(self.root)]
        assert self.member.exec(argv, timeout_s=60.0).returncode == 0

    def start(self) -> None:
        self.ask("vm", "start", "web")
        self._until(
            "the guest's agent", lambda: self.ask("vm", "show", "web")["run"]["guest"]
        )

    def stop(self) -> None:
        self.ask("vm", "stop", "web", "--manner", "force")

    def write(self, letter: str) -> None:
        """Let the guest write a letter, and wait until it is on the disk."""
        place = LETTERS.index(letter)
        script = (
            f"head -c {BLOCK} /dev/zero | tr '\\000' {letter} |"
            f" dd of=/dev/vdb bs={BLOCK} seek={place} conv=notrunc,fsync"
        )
        arguments = {"path": "/bin/sh", "arg": ["-c", script]}
        pid = self._guest("guest-exec", arguments)["pid"]

        def ended() -> Any:
            found = self._guest("guest-exec-status", {"pid": pid})
            return found if found["exited"] else None

        assert self._until("the guest's dd", ended)["exitcode"] == 0

    def holds(self, letters: str) -> None:
        """Check what the data disk of the VM, which is down, holds."""
        for place, letter in enumerate(LETTERS):
            value = ord(letter) if letter in letters else 0
            command = f"read -P {value} {place * BLOCK} {BLOCK}"
            leaf = self.leaf(self.data)
            kind = self._info(leaf)["format"]
            argv = ["qemu-io", "-r", "-f", kind, "-c", command, leaf]
            said = self.member.exec(argv).stdout
            assert "verification failed" not in said, f"{letter}: {said}"
            assert "ops" in said, said

    def volumes(self, disk: str) -> list[str]:
        """Return the files of a disk's volumes."""
        find = ["find", IMAGES, "-path", f"*/images/{disk}/*", "-not", "-name", "*.*"]
        return self.member.exec(find).stdout.split()

    def leaf(self, disk: str) -> str:
        """Return the file that the VM writes to, by its definition."""
        found = self.ask("vm", "show", "web")["vm"]["spec"]["disks"]
        named = next(each for each in found if each["disk_id"] == disk)
        files = self.volumes(disk)
        if "volume_id" not in named:
            (alone,) = files
            return alone
        return next(e for e in files if e.endswith(named["volume_id"]))

    def opened(self) -> set[str]:
        """Return the names of all files on the pool that QEMU has opened."""
        words = json.dumps({"execute": "query-named-block-nodes"})
        argv = ["virsh", "-q", "qemu-monitor-command", self.vm, words]
        nodes = json.loads(self.member.exec(argv).stdout)["return"]
        files = {each["file"] for each in nodes if each["drv"] == "file"}
        return {each for each in files if each.startswith(IMAGES)}

    def snapshots(self) -> dict[str, str]:
        """Return the states of the snapshots, by their descriptions."""
        found = self.ask("snapshot", "list", "web")["snapshots"]
        return {each["description"]: each["state"] for each in found}

    def is_whole(self) -> None:
        """Check that the node finds nothing wrong with its disks."""
        (name,) = [
            each["storage_domain"]["name"]
            for each in self.ask("storage", "list")["storage_domains"]
        ]
        check = ("storage", "check", name)  # what other tests deleted goes by itself
        self._until("no problem", lambda: not self.ask(*check).get("problems"))

    def crash_agent(self) -> None:
        """End the agent as a crash does; it is started again by itself."""
        before = self.member.service_pid("agent")
        argv = ["pgrep", "-o", "-f", "skerry-node run"]
        found = self.member.exec(argv).stdout.strip()
        assert self.member.exec(["kill", "-9", found]).returncode == 0
        self._until("another", lambda: self.member.service_pid("agent") != before)
        self._until("the agent", lambda: self.ask("status"))

    def end_of(self, job: Any) -> Any:
        def ended() -> Any:
            found = self.ask("job", "show", job["job_id"])
            return found if "ended_at" in found else None

        return self._until(f"the end of {job['verb']}", ended)

    def _local(self) -> Any:
        found = self.ask("pool", "list")["pools"]
        return next((e for e in found if e.get("is_local") and e.get("mark")), None)

    def _disk(self, disk_id: str, size_bytes: int, where: str) -> dict[str, Any]:
        return {
            "disk_id": disk_id,
            "name": disk_id[:8],
            "size_bytes": size_bytes,
            "storage_domain_id": where,
            "disk_format": "raw",
        }

    def _info(self, path: str) -> Any:
        argv = ["qemu-img", "info", "-U", "--output=json", path]
        return json.loads(self.member.exec(argv).stdout)

    def _guest(self, command: str, arguments: dict[str, Any]) -> Any:
        words = json.dumps({"execute": command, "arguments": arguments})
        argv = ["virsh", "-q", "qemu-agent-command", self.vm, words]
        result = self.member.exec(argv)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)["return"]

    def _until(self, what: str, look: Any) -> Any:
        def found() -> Any:
            try:
                return look()
            except (Refused, KeyError):
                return None

        return waiting.until(what, found, timeout_s=START_S)


@pytest.fixture
def scene(lab: Lab) -> Iterator[Scene]:
    made = Scene(lab)
    try:
        made.make()
        yield made
    finally:
        made.member.exec([PROGRAM, "vm", "stop", "web", "--manner", "force"])
        made.member.exec([PROGRAM, "vm", "delete", "web", "--yes"])
        lab.restore()


def test_running_guest_keeps_its_data_while_snapshots_come_and_go(
    scene: Scene,
) -> None:
    scene.start()
    for letter in LETTERS:
        scene.write(letter)
        if letter != "C":
            scene.ask("snapshot", "create", "web", "--description", letter)
    assert scene.snapshots() == {"A": "ok", "B": "ok"}
    found = scene.ask("snapshot", "list", "web")["snapshots"]
    assert [each["is_consistent"] for each in found] == [True, True]
    assert len(scene.volumes(scene.data)) == 3
    scene.ask("snapshot", "delete", "web", "A")
    scene.ask("snapshot", "delete", "web", "B")
    assert scene.snapshots() == {}
    files = {*scene.volumes(scene.data), *scene.volumes(scene.root)}
    assert len(files) == 2
    assert scene.opened() == files
    assert scene.ask("vm", "show", "web")["run"]["state"] == "up"
    scene.stop()
    scene.holds("ABC")
    scene.is_whole()
    scene.start()


def test_vm_goes_back_to_what_it_was(scene: Scene) -> None:
    scene.start()
    scene.write("A")
    scene.ask("snapshot", "create", "web", "--description", "first")
    scene.write("B")
    scene.stop()
    scene.ask("snapshot", "preview", "web", "first")
    scene.holds("A")
    scene.start()
    scene.write("C")
    scene.stop()
    scene.holds("AC")
    scene.ask("snapshot", "undo", "web")
    scene.holds("AB")
    scene.ask("snapshot", "preview", "web", "first")
    scene.ask("snapshot", "commit", "web")
    scene.holds("A")
    scene.ask("snapshot", "delete", "web", "first")
    scene.holds("A")
    scene.is_whole()
    scene.start()


@pytest.mark.parametrize("step", range(4))
def test_agent_that_is_killed_in_the_middle_ends_what_it_began(
    scene: Scene, step: int
) -> None:
    scene.start()
    scene.write("A")
    job = scene.ask("snapshot", "create", "web", "--description", "A", "--no-wait")
    _pause(scene, step)
    scene.crash_agent()
    assert scene.end_of(_first(job))["state"] == "done"
    assert scene.snapshots() == {"A": "ok"}
    scene.write("B")
    job = scene.ask("snapshot", "delete", "web", "A", "--no-wait")
    _pause(scene, step)
    scene.crash_agent()
    assert scene.end_of(_first(job))["state"] == "done"
    scene.write("C")
    assert scene.snapshots() == {}
    scene.stop()
    scene.holds("ABC")
    scene.is_whole()


def _first(shown: Any) -> Any:
    """Return the job that a command printed."""
    return shown[0] if isinstance(shown, list) else shown


def _pause(scene: Scene, step: int) -> None:
    """Let so many twentieths of a second pass in the host."""
    scene.member.exec(["sleep", str(step / 20)])


@pytest.fixture
def three(lab: Lab) -> Iterator[Three]:
    with test_pool_vms.made(lab) as found:
        yield found


def test_guest_of_another_node_keeps_its_data(three: Three) -> None:
    """h1 manages the pool, the guest runs on h2 and counts; h3 has it in the end."""
    taken, deleted = (f"/vms/{three.vm}/snapshots{e}" for e in ("", "/delete"))
    snapshot = {"snapshot_id": str(uuid.uuid4()), "description": "first"}
    three.start("h2")
    for host, part in (("h1", "begin"), ("h2", "guest"), ("h1", "finish")):
        three[host].do(taken, {**snapshot, "part": part})
    _counts_on(three)
    assert len(three.files("h1", three.data)) == 2
    (known,) = three["h1"].call("GET", taken)["snapshots"]
    assert known["state"] == "ok"
    gone = {"snapshot_id": snapshot["snapshot_id"]}
    three["h1"].do(deleted, {**gone, "part": "begin"})
    three["h2"].do(deleted, {**gone, "part": "guest"})
    # The manager has done nothing yet: the guest goes on, and ends.
    _counts_on(three)
    counted = three.count()
    three["h2"].do(f"/vms/{three.vm}/stop", {"manner": "force"})
    assert three["h3"].code(f"/vms/{three.vm}/start") == "volume_illegal"
    three["h1"].do(deleted, {**gone, "part": "finish"})
    assert three["h1"].call("GET", taken)["snapshots"] == []
    assert 0 < three.check_stamps() <= counted
    three.start("h3")
    assert three.opened("h3") == three.volumes("h3")


def _counts_on(three: Three) -> None:
    before = three.count()
    waiting.until("more stamps", lambda: three.count() > before + 5)
