"""A snapshot is fetched from a node while its VM writes on, by a real qemu-nbd."""

import base64
import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab import Lab, waiting
from tests.lab.story.test_snapshots import BLOCK, PROGRAM, Scene

pytestmark = pytest.mark.lab

SOCKET = "/run/skerry/transfer/transfer.sock"


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


def test_snapshot_is_fetched_while_its_guest_writes_on(scene: Scene) -> None:
    scene.start()
    scene.write("A")
    scene.ask("snapshot", "create", "web", "--description", "first")
    scene.write("B")
    (snapshot,) = scene.ask("snapshot", "list", "web")["snapshots"]
    words = ("transfer", "create", "download", scene.data)
    made = scene.ask(*words, "--snapshot", snapshot["snapshot_id"])
    transfer_id = made["transfer_id"]

    def shown() -> Any:
        found = scene.ask("transfer", "show", transfer_id)
        return found if found["phase"] == "transferring" else None

    found = waiting.until("the transfer", shown)
    data = fetched(scene, found["url"])
    assert data[:BLOCK] == b"A" * BLOCK
    assert data[BLOCK : 2 * BLOCK] == bytes(BLOCK)
    scene.write("C")  # the guest was let go on all the time
    scene.ask("transfer", "finalize", transfer_id)
    scene.ask("snapshot", "delete", "web", "first")
    scene.stop()
    scene.holds("ABC")
    scene.is_whole()


def fetched(scene: Scene, url: str) -> bytes:
    """Return what the transfer server of the node gives for an address."""
    name = f"fetched-{os.getpid()}"
    path = url.rpartition("/images/")[2]
    argv = ["curl", "-fsS", "--unix-socket", SOCKET, "-o", f"/run/{name}"]
    argv.append(f"http://node/images/{path}")
    done = scene.member.exec(argv, timeout_s=60.0)
    assert done.returncode == 0, done.stderr
    said = scene.member.exec(["base64", "-w0", f"/run/{name}"]).stdout
    scene.member.exec(["rm", f"/run/{name}"])
    return base64.b64decode(said)
