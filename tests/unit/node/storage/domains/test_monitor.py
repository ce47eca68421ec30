"""Checks of storage domains: what a sample means, and that it is taken."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from node.errors import Busy, Error
from node.model import storage as model
from node.model.ids import NodeId, PoolId, StorageDomainId
from node.model.storage import (
    Connection,
    DomainState,
    PoolDomain,
    StorageDomain,
    StorageDomainDocument,
)
from node.storage.domains import Space, monitor
from node.storage.domains.monitor import Monitor, Sample
from node.storage.formats.domain_meta import DomainClass, DomainMeta, DomainType
from node.storage.formats.key_values import MetadataDamaged
from node.storage.formats.layout import Special
from node.storage.process.workers import StorageHangs
from node.units import GiB
from tests.fakes.pool_nodes import PoolNode, PoolWorld
from tests.unit.node.storage.examples import OTHER_SD, POOL, SD

BEFORE = StorageDomainDocument(
    StorageDomain(
        StorageDomainId(SD),
        "data",
        model.DomainClass.DATA,
        Connection(model.DomainType.POSIXFS, "nas:/a"),
        pool_id=PoolId(POOL),
    ),
    NodeId("n"),
    DomainState.ACTIVE,
    since="t0",
    checked_at="t0",
    total_bytes=100 * GiB,
    free_bytes=50 * GiB,
)
ACTIVE = PoolDomain(
    StorageDomainId(SD), model.DomainClass.DATA, state=DomainState.ACTIVE
)
RESTING = replace(ACTIVE, state=DomainState.MAINTENANCE)
META = DomainMeta(
    *(SD, DomainType.POSIXFS, DomainClass.DATA, "data", "nas:/a"), pool_ids=(POOL,)
)
WELL = Sample("t1", 0.01, Space(100 * GiB, 40 * GiB), META)
HANGS = Sample("t1", error=StorageHangs("no answer"))


def assess(
    sample: Sample,
    wanted: PoolDomain | None = ACTIVE,
    before: StorageDomainDocument = BEFORE,
) -> StorageDomainDocument:
    return monitor.assess(before, wanted, "nas:/a", POOL, sample, "node1")


def test_well_storage_domain_is_active_and_has_new_figures() -> None:
    found = assess(WELL)
    assert found == replace(
        BEFORE, latency_s=0.01, checked_at="t1", free_bytes=40 * GiB
    )


@pytest.mark.parametrize(
    ("sample", "code"),
    [
        pytest.param(HANGS, "storage_domain_unreachable", id="hangs"),
        pytest.param(
            Sample("t1", error=MetadataDamaged("x")),
            "storage_domain_damaged",
            id="metadata-damaged",
        ),
        pytest.param(
            replace(WELL, meta=replace(META, remote_path="nas:/copy")),
            "storage_domain_damaged",
            id="a-copy",
        ),
        pytest.param(
            replace(WELL, meta=replace(META, storage_domain_id=OTHER_SD)),
            "storage_domain_damaged",
            id="another-one",
        ),
        pytest.param(
            replace(WELL, meta=replace(META, pool_ids=())),
            "storage_domain_foreign",
            id="detached",
        ),
    ],
)
def test_storage_domain_that_cannot_be_used_says_why(sample: Sample, code: str) -> None:
    found = assess(sample)
    assert (found.state, found.since) == (DomainState.UNREACHABLE, "t1")
    assert found.reason is not None
    assert found.reason.code == code


def test_figures_stay_with_their_age_when_a_check_fails() -> None:
    found = assess(HANGS)
    assert (found.free_bytes, found.checked_at) == (50 * GiB, "t0")
    assert found.latency_s is None


def test_reason_keeps_its_beginning_and_goes_with_one_good_check() -> None:
    first = assess(HANGS)
    second = assess(replace(HANGS, at="t2"), before=first)
    assert second.since == "t1"
    assert second.reason is not None
    assert second.reason.since == "t1"
    well = assess(replace(WELL, at="t3"), before=second)
    assert (well.state, well.since, well.reason) == (DomainState.ACTIVE, "t3", None)


@pytest.mark.parametrize(
    ("wanted", "state"),
    [(None, DomainState.UNATTACHED), (RESTING, DomainState.MAINTENANCE)],
)
def test_what_is_not_wanted_active_is_not_unreachable(
    wanted: PoolDomain | None, state: DomainState
) -> None:
    assert assess(WELL, wanted).state is state
    assert assess(HANGS, wanted).state is state


@pytest.mark.parametrize(
    ("sample", "code"),
    [
        pytest.param(replace(WELL, latency_s=5.0), "storage_domain_slow", id="slow"),
        pytest.param(
            replace(WELL, space=Space(100 * GiB, GiB)), "storage_domain_low", id="full"
        ),
    ],
)
def test_problem_that_stops_nobody_is_told(sample: Sample, code: str) -> None:
    found = assess(sample)
    assert (found.state, found.reason) == (DomainState.ACTIVE, None)
    assert [each.code for each in found.problems] == [code]


@pytest.fixture
def world(tmp_path: Path) -> PoolWorld:
    return PoolWorld(tmp_path, POOL)


@pytest.fixture
def node(world: PoolWorld) -> PoolNode:
    return world.node("node-1")


def test_take_reads_the_storage(world: PoolWorld, node: PoolNode) -> None:
    access = world.make(node, SD)
    sample = monitor.take(node.guard, access, "t1")
    assert sample.error is None
    assert sample.meta == access.meta(node.guard)
    assert sample.space is not None
    assert sample.space.total_bytes > 0
    assert sample.latency_s is not None


def test_hanging_storage_domain_disturbs_no_other(
    world: PoolWorld, node: PoolNode
) -> None:
    one, two = world.make(node, SD), world.make(node, OTHER_SD)
    node.guard.hanging.add(SD)
    assert isinstance(monitor.take(node.guard, one, "t1").error, StorageHangs)
    assert monitor.take(node.guard, two, "t1").error is None
    node.guard.hanging.clear()
    assert monitor.take(node.guard, one, "t1").error is None


def test_monitor_tells_each_check_until_it_is_stopped(
    world: PoolWorld, node: PoolNode
) -> None:
    told: list[StorageDomainDocument] = []
    access = world.make(node, SD)
    watching = Monitor(node.guard, access, world.clock, assess, told.append)
    watching.start()
    watching.stop(10.0)
    assert len(told) == 1
    assert watching.check() == told[-1]


@pytest.mark.parametrize("error", [Busy("no"), KeyError("x")], ids=["error", "bug"])
def test_monitor_goes_on_when_nobody_could_be_told(
    world: PoolWorld,
    node: PoolNode,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    monkeypatch.setattr(monitor, "CHECK_S", 0.01)
    told = threading.Event()
    errors = [error]

    def tell(_document: StorageDomainDocument) -> None:
        if errors:
            raise errors.pop()
        told.set()

    access = world.make(node, SD)
    watching = Monitor(node.guard, access, world.clock, assess, tell)
    watching.start()
    assert told.wait(10.0)
    watching.stop(10.0)


def test_error_is_part_of_the_sample(world: PoolWorld, node: PoolNode) -> None:
    access = world.make(node, SD)
    Path(access.layout.special(Special.METADATA)).write_bytes(bytes(4096))
    sample = monitor.take(node.guard, access, "t1")
    assert isinstance(sample.error, Error)
    assert sample.meta is None
