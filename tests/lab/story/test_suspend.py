"""A VM that is suspended on one host and goes on upon another, with its memory.

Its guest counts in a process that knows the next number and nothing else: one that
booted would not count at all. So it is with a snapshot that has its memory, however
far the guest has counted since.
"""

import base64
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from tests.lab import Lab, waiting
from tests.lab.story.test_pool_vms import MOUNT, Three, last_stamp, made

pytestmark = pytest.mark.lab

_PARTS = ("begin", "guest", "finish")
_NUMBERS = 20
_COPY = "/run/numbers.raw"
SNAPSHOT = {"snapshot_id": "5a450000-0000-4000-8000-000000000001"}


@pytest.fixture
def three(lab: Lab) -> Iterator[Three]:
    with made(lab) as found:
        yield found


def memory(three: Three) -> Any:
    """Return what the manager's definition says of the memory that is kept."""
    return three["h1"].call("GET", f"/vms/{three.vm}")["vm"].get("memory")


def go_on(three: Three, name: str) -> None:
    """Start the VM on a host, and wait until its guest has counted on."""
    last = three.check_stamps()
    assert last >= _NUMBERS
    three[name].do(f"/vms/{three.vm}/start")
    waiting.until("more stamps", lambda: three.check_stamps() > last + _NUMBERS)
    assert three.writer() == name
    waiting.until("the memory removed", lambda: memory(three) is None)


def test_suspended_guest_counts_on_upon_another_host(three: Three) -> None:
    three.start("h1")
    waiting.until("stamps", lambda: three.check_stamps() >= _NUMBERS)
    three["h1"].do(f"/vms/{three.vm}/suspend")
    run = three["h1"].run_of(three.vm)
    assert (run["state"], run["end"]["cause"]) == ("down", "suspended")
    assert memory(three)["is_saved"]
    go_on(three, "h2")
    # Its manager is another host than its own.
    for name, part in zip(("h1", "h2", "h1"), _PARTS, strict=True):
        three[name].do(f"/vms/{three.vm}/suspend", {"part": part})
    assert three["h1"].code(f"/vms/{three.vm}/snapshots", SNAPSHOT) == "vm_suspended"
    go_on(three, "h3")
    assert three.check_one_writer() == ["h1", "h2", "h3"]
    three["h3"].do(f"/vms/{three.vm}/stop", {"manner": "force"})
    three["h1"].do(f"/vms/{three.vm}/start")
    three.wait_state("h1", "powering_up", "up")


def leaf(three: Three) -> str:
    """Return the file of the second disk that the definition names."""
    vm = three["h1"].call("GET", f"/vms/{three.vm}")["vm"]
    (named,) = (e for e in vm["spec"]["disks"] if e["disk_id"] == three.data)
    (path,) = (
        each
        for each in three.files("h1", three.data)
        if each.endswith(f"/{named['volume_id']}")
    )
    return path


def counted(three: Three, path: str) -> int:
    """Return how far a guest has counted, in a disk and all beneath it."""
    # QEMU has it open on another host: what it has flushed is on the disk.
    read = f"qemu-img convert -U -O raw {path} {_COPY} && base64 -w0 {_COPY}"
    said = three.lab.member("h1").exec(["sh", "-c", read], timeout_s=60.0)
    assert said.returncode == 0, said.stderr
    return last_stamp(base64.b64decode(said.stdout))


def images(three: Three) -> set[str]:
    """Return the disks that lie on the storage domain."""
    folder = f"{MOUNT}/{three.sd}/images"
    return set(three.lab.member("h1").exec(["ls", folder]).stdout.split())


def test_guest_counts_on_from_its_snapshot_again_and_again(three: Three) -> None:
    three.start("h2")
    waiting.until("stamps", lambda: three.check_stamps() >= _NUMBERS)
    (base,) = three.files("h1", three.data)
    with_memory = {**SNAPSHOT, "has_memory": True}
    for name, part in zip(("h1", "h2", "h1"), _PARTS, strict=True):
        three[name].do(f"/vms/{three.vm}/snapshots", {**with_memory, "part": part})
    (snapshot,) = three["h1"].call("GET", f"/vms/{three.vm}/snapshots")["snapshots"]
    assert snapshot["memory"]["is_saved"]
    kept, path = counted(three, base), leaf(three)
    assert kept >= _NUMBERS
    waiting.until("more stamps", lambda: counted(three, path) > kept + _NUMBERS)
    three["h2"].do(f"/vms/{three.vm}/stop", {"manner": "force"})
    for name in ("h3", "h2"):
        three["h1"].do(f"/vms/{three.vm}/snapshots/preview", with_memory)
        assert memory(three)["is_saved"]
        tried = leaf(three)
        assert counted(three, tried) == kept
        three[name].do(f"/vms/{three.vm}/start")
        waiting.until("the next ones", partial(has_counted, three, tried, kept))
        waiting.until("the copy removed", lambda: memory(three) is None)
        three[name].do(f"/vms/{three.vm}/stop", {"manner": "force"})
        three["h1"].do(f"/vms/{three.vm}/snapshots/undo")
    assert counted(three, base) == kept
    assert snapshot["memory"]["disk_id"] in images(three)
    three["h1"].do(f"/vms/{three.vm}/snapshots/delete", SNAPSHOT)
    assert snapshot["memory"]["disk_id"] not in images(three)
    assert three.check_stamps() > kept + _NUMBERS


def has_counted(three: Three, path: str, before: int) -> bool:
    return counted(three, path) > before + _NUMBERS
