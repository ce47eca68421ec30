"""What is ordered of snapshots: by the manager alone, or with the guest's node."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aggregator.access.defaults import ensure_defaults
from aggregator.control.order import Order
from aggregator.control.orders import Orders, VmNotFound
from aggregator.control.routes import VmPoolUnknown
from node.model import export_verbs
from node.model import snapshot_verbs as verbs
from node.model.exports import ExportVm
from node.model.ids import SnapshotId, StorageDomainId
from node.model.job import ErrorReport, JobState
from node.model.storage_requests import (
    CreateSnapshot,
    DeleteSnapshot,
    PreviewSnapshot,
    SnapshotPart,
)
from node.model.verb import Verb
from node.model.vm import VmState
from tests.fakes import fleet
from tests.unit.aggregator.control.ordering import ONE, ORIGIN, TWO, Parts
from tests.unit.aggregator.control.test_crash_replay import crash_everywhere
from tests.unit.aggregator.control.test_storage_orders import (
    POOL,
    finish_jobs,
    share_storage,
    with_pool,
)

VM = fleet.vm_id(7)
_TARGET = StorageDomainId("e0e0e0e0-0000-4000-8000-000000000001")
CHOSEN = SnapshotId("5a450000-0000-4000-8000-000000000001")
CREATE = CreateSnapshot(CHOSEN, "before", generation=4)
DELETE = DeleteSnapshot(CHOSEN)
BEGIN, GUEST = SnapshotPart.BEGIN, SnapshotPart.GUEST
WHOLE, FINISH = SnapshotPart.WHOLE, SnapshotPart.FINISH


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    made = Parts(tmp_path)
    ensure_defaults(made.database)
    share_storage(made)
    finish_jobs(made)
    with_vm(made)
    yield made
    made.database.close()


def with_vm(parts: Parts, runs_on: int | None = 1) -> None:
    """Let a VM be on the pool that node 2 manages."""
    with_pool(parts)
    parts.say(2, fleet.vm(7, spec=fleet.spec(7, "app", pool_id=POOL)))
    if runs_on is None:
        parts.say(2, fleet.run(7, 2))
    else:
        parts.say(runs_on, fleet.run(7, runs_on, VmState.UP))


def asked(parts: Parts) -> list[tuple[int, str, SnapshotPart]]:
    """Return which node was asked for which part, without repetitions."""
    numbers = {ONE: 1, TWO: 2}
    found = [
        (numbers[node_id], verb, getattr(request, "part", WHOLE), request.job_id)
        for node_id, node in parts.nodes.items()
        for verb, _, request in node.requests
    ]
    order = list(_ORDER)
    unique = {each[3]: each[:3] for each in found}
    return sorted(unique.values(), key=lambda each: order.index(each[2]))


_ORDER = (BEGIN, GUEST, WHOLE, FINISH)


def order(orders: Orders, verb: Verb, request: Any) -> Order:
    return orders.act_on_storage(verb, VM, request, ORIGIN)


@pytest.mark.parametrize(
    ("verb", "request_"),
    [(verbs.VM_SNAPSHOT_CREATE, CREATE), (verbs.VM_SNAPSHOT_DELETE, DELETE)],
    ids=["create", "delete"],
)
def test_manager_begins_and_finishes_what_the_guests_node_does(
    parts: Parts, verb: Verb, request_: Any
) -> None:
    parts.nodes[ONE].job_result = "turned"
    made = order(parts.orders, verb, request_)
    assert (made.state, made.vm_id, made.name) == (JobState.DONE, VM, "app")
    name = verb.name
    assert asked(parts) == [(2, name, BEGIN), (1, name, GUEST), (2, name, FINISH)]
    # The first part changed the definition: the others cannot name its generation.
    generations = [request.generation for _, _, request in parts.nodes[TWO].requests]
    assert generations == [request_.generation, None]


def test_guests_node_writes_the_memory_of_a_vm_that_is_suspended(
    parts: Parts,
) -> None:
    made = parts.orders.suspend_vm(VM, ORIGIN)
    assert made.state is JobState.DONE
    name = "vm_suspend"
    assert asked(parts) == [(2, name, BEGIN), (1, name, GUEST), (2, name, WHOLE)]


@pytest.mark.parametrize(
    ("result", "is_consistent"), [("turned", False), ("frozen", True)]
)
def test_snapshot_is_consistent_if_the_guest_was_frozen(
    parts: Parts, result: str, is_consistent: bool
) -> None:
    parts.nodes[ONE].job_result = result
    order(parts.orders, verbs.VM_SNAPSHOT_CREATE, CREATE)
    finish = parts.nodes[TWO].requests[-1][2]
    assert (finish.is_consistent, finish.description) == (is_consistent, "before")


def test_manager_looks_itself_if_the_guest_did_not_turn(parts: Parts) -> None:
    order(parts.orders, verbs.VM_SNAPSHOT_CREATE, CREATE)
    assert [part for _, _, part in asked(parts)] == [BEGIN, GUEST, WHOLE]


@pytest.mark.parametrize("runs_on", [2, None], ids=["at-the-manager", "down"])
def test_manager_does_it_alone(tmp_path: Path, runs_on: int | None) -> None:
    parts = Parts(tmp_path)
    ensure_defaults(parts.database)
    with_vm(parts, runs_on)
    finish_jobs(parts)
    order(parts.orders, verbs.VM_SNAPSHOT_CREATE, CREATE)
    assert asked(parts) == [(2, "vm_snapshot_create", WHOLE)]
    parts.database.close()


def test_manager_goes_on_alone_if_the_vm_has_ended(parts: Parts) -> None:
    parts.nodes[TWO].job_state = JobState.RUNNING
    made = order(parts.orders, verbs.VM_SNAPSHOT_CREATE, CREATE)
    parts.say(1, fleet.run(7, 1))
    finish_jobs(parts)
    node = parts.nodes[TWO]
    ended = replace(node.jobs[made.order_id], state=JobState.DONE)
    node.jobs[made.order_id] = ended
    parts.say(2, ended)
    for _ in range(3):
        parts.pass_time(11.0)
    assert parts.orders.get(made.order_id).state is JobState.DONE
    assert asked(parts) == [
        (2, "vm_snapshot_create", BEGIN),
        (2, "vm_snapshot_create", WHOLE),
    ]


def test_order_fails_with_the_guests_part(parts: Parts) -> None:
    parts.nodes[ONE].job_error = ErrorReport("failed", "live_merge_stopped", "no")
    made = order(parts.orders, verbs.VM_SNAPSHOT_DELETE, DELETE)
    assert made.state is JobState.FAILED
    assert made.error is not None
    assert made.error.code == "live_merge_stopped"
    assert [part for _, _, part in asked(parts)] == [BEGIN, GUEST]


def test_restore_previews_and_commits(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    ensure_defaults(parts.database)
    with_vm(parts, None)
    finish_jobs(parts)
    request = PreviewSnapshot(CHOSEN)
    made = parts.orders.storage.restore(VM, request, ORIGIN)
    assert made.state is JobState.DONE
    assert parts.nodes[TWO].asked == ["vm_snapshot_preview", "vm_snapshot_commit"]
    parts.database.close()


def test_manager_exports_a_vm(parts: Parts) -> None:
    made = order(parts.orders, export_verbs.VM_EXPORT, ExportVm(_TARGET))
    assert made.state is JobState.DONE
    ((verb, _, request),) = parts.nodes[TWO].requests
    assert (verb, request.storage_domain_id) == ("vm_export", _TARGET)
    assert request.job_id == made.order_id


def test_vm_must_be_there_with_its_definition(parts: Parts) -> None:
    act = parts.orders.act_on_storage
    with pytest.raises(VmNotFound):
        act(verbs.VM_SNAPSHOT_CREATE, fleet.vm_id(9), CREATE, ORIGIN)
    parts.say(1, fleet.run(8, 1, VmState.UP))
    with pytest.raises(VmPoolUnknown):
        act(verbs.VM_SNAPSHOT_CREATE, fleet.vm_id(8), CREATE, ORIGIN)


def test_parts_are_done_once_whenever_it_crashes(tmp_path: Path) -> None:
    def prepare(parts: Parts) -> None:
        ensure_defaults(parts.database)
        for node in parts._whole.values():  # type: ignore[attr-defined]  # a FragileParts
            node.job_state, node.job_result = JobState.DONE, "turned"
        with_vm(parts)

    def ask(orders: Orders) -> Order:
        return order(orders, verbs.VM_SNAPSHOT_CREATE, CREATE)

    crashes = 0
    for parts in crash_everywhere(tmp_path, ask, prepare):
        crashes += 1
        for _ in range(3):
            parts.pass_time(11.0)
        orders = parts.orders.list()
        assert all(each.state is JobState.DONE for each in orders)
        expected = [BEGIN, GUEST, FINISH] if orders else []
        assert [part for _, _, part in asked(parts)] == expected
    assert crashes >= 10
