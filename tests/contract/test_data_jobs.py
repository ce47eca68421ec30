"""Data that a node moves for the manager, with the real qemu-img and storage process.

Both roles are on one host here: what counts is what runs under which lease.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

import pytest

from node import jobs
from node.clock import SystemClock
from node.model.ids import NodeId
from node.storage.data.assigner import Assigner, Member, Patience
from node.storage.data.hand import Ground, Hand, Seat
from node.storage.data.slots import Board
from node.storage.data.volume_leases import VolumeLeases
from node.storage.disks.actions import Home, Homes
from node.storage.disks.executor import Executor, Mandate, NobodyWatches, Order
from node.storage.formats.layout import Layout
from node.storage.formats.volume_meta import Format
from node.storage.guard import GuardFiles
from node.storage.operations import add_volume, copy, create, merge, sparsify
from node.storage.operations.copy import CopyOf
from node.storage.operations.plan import Plan
from node.units import MiB
from tests.contract import disks
from tests.contract.disks import new
from tests.contract.test_disks_in_process import (
    DISK,
    JOB,
    OTHER,
    V1,
    V2,
    V3,
    Pool,
    pool,
)
from tests.unit.node.storage.examples import SD

__all__ = ["pool"]

pytestmark = pytest.mark.real

WAIT_S = 30.0
LOOK_S = 0.02
PATIENCE = Patience(look_s=LOOK_S)


@contextmanager
def working(pool: Pool) -> Iterator[Executor]:
    """Yield a manager that lets the node do all that it may."""
    homes = {SD: Home(str(pool.root))}
    leases, stopped = VolumeLeases(), threading.Event()
    path = str(Layout(PurePosixPath(pool.root)).data_jobs)

    def board(*needs: object) -> Board:
        files = GuardFiles(pool.guard, SD, str(pool.root), [pool.need] if needs else [])
        return Board(files, path)

    ground = Ground(Homes(homes), Seat(1, board()))
    # The node is another agent: it has its own knowledge of who works with a lease.
    hand = Hand(
        *(pool.guard, "pool", NodeId("other"), SystemClock(), VolumeLeases()),
        lambda: ground,
    )

    def look() -> None:
        while not stopped.wait(LOOK_S):
            hand.look()

    assigner = Assigner(
        *(pool.guard, Homes(homes), board(pool.need), leases),
        lambda _action, tried: None if tried else Member(NodeId("other"), 1),
        patience=PATIENCE,
    )
    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    mandate = Mandate("node", pool.need.version, {SD: (pool.need,)})
    try:
        yield Executor(pool.guard, homes, SD, mandate, assigner=assigner)
    finally:
        stopped.set()
        thread.join(WAIT_S)


def run(executor: Executor, plan: Plan) -> None:
    seen: list[NodeId | None] = []
    watch = Listener(seen)
    executor.execute(Order(JOB, "test", DISK), plan, watch)
    assert NodeId("other") in seen


class Listener(NobodyWatches):
    """Hears who does it."""

    def __init__(self, seen: list[NodeId | None]) -> None:
        self._seen = seen

    def step(self, percent: int, text: str, data_node_id: NodeId | None = None) -> None:
        self._seen.append(data_node_id)


def generation(pool: Pool, image_id: str, volume_id: str) -> int:
    meta = pool.domain.look(image_id).require().image.volumes[volume_id].meta
    assert meta is not None
    return meta.generation


def check_nothing_is_left(pool: Pool) -> None:
    assert list((pool.root / "dom_md" / "skerry" / "journals").iterdir()) == []
    assert pool.guard.steps() == ()
    assert {each.resource for each in pool.guard.leases().held} == {"SDM"}


def test_copy_merge_and_sparsify_are_done_under_the_volumes_lease(pool: Pool) -> None:
    pool.run(create.make(pool.domain.look(DISK), new(DISK, V1)))
    pool.run(add_volume.make(pool.domain.look(DISK), new(DISK, V2), V1))
    path = pool.root / "images" / DISK / V2
    disks.qemu_io(path, Format.COW, "write -P 7 0 1M", "write -P 0 1M 1M")
    with working(pool) as executor:
        source = pool.domain.look(DISK).require()
        request = CopyOf(OTHER, V3, 1, Format.RAW)
        run(executor, copy.make(source, V2, pool.domain.look(OTHER), request))
        copied = pool.root / "images" / OTHER / V3
        words = ("compare", "-f", "qcow2", "-F", "raw", str(path), str(copied))
        disks.run("qemu-img", *words)
        run(executor, merge.make(pool.domain.look(DISK), V1, V2))
        run(executor, sparsify.make(pool.domain.look(DISK), V1))
    merged = pool.root / "images" / DISK / V1
    words = ("compare", "-f", "qcow2", "-F", "raw", str(merged), str(copied))
    disks.run("qemu-img", *words)
    found = generation(pool, OTHER, V3), generation(pool, DISK, V1)
    assert found == (1, 2)
    check_nothing_is_left(pool)


def test_slow_copy_of_the_node_is_cancelled(pool: Pool) -> None:
    size = 64 * MiB
    raw = replace(new(DISK, V1), volume_format=Format.RAW, size_bytes=size)
    pool.run(create.make(pool.domain.look(DISK), raw))
    path = Path(pool.root, "images", DISK, V1)
    disks.qemu_io(path, Format.RAW, f"write -P 5 0 {size}")
    source = pool.domain.look(DISK).require()
    plan = copy.make(source, V1, pool.domain.look(OTHER), CopyOf(OTHER, V2, 1))

    class Canceller(NobodyWatches):
        def check(self) -> None:
            if any(step.step_id.startswith("data.") for step in pool.guard.steps()):
                raise jobs.Cancelled("no")

    with working(pool) as executor:
        order = Order(JOB, "copy", OTHER)
        execute = partial(executor.execute, order, plan, Canceller())
        assert disks.code_of(execute) == "job_cancelled"
    assert [each.name for each in (pool.root / "images").iterdir()] == [DISK]
    check_nothing_is_left(pool)
