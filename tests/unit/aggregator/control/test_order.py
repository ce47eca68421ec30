"""An order and its steps, and how it is stored."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.control import actions, order
from node import wire
from node.errors import Conflict
from node.model.ids import DiskId
from node.model.job import ErrorReport, JobState
from node.model.requests import StopManner
from node.model.vm import Cpu, CpuMode, Disk
from tests.fakes import fleet
from tests.unit.aggregator.control.ordering import ONE, ORIGIN, TWO

IDS = (fleet.job_id(1), ONE, fleet.vm_id(1), ORIGIN.correlation_id)
SPEC = fleet.spec(
    1, cpu=Cpu(CpuMode.NAMED, "Haswell"), disks=(Disk(DiskId("d"), "d", 1, "debian"),)
)
_ACTIONS: list[actions.Action] = [
    actions.CreateVm(*IDS, SPEC),
    actions.StartVm(*IDS, is_paused=True),
    actions.StopVm(*IDS, manner=StopManner.FORCE, deadline_s=7.5),
    actions.PauseVm(*IDS),
    actions.ResumeVm(*IDS),
    actions.ResetVm(*IDS),
    actions.DeleteVm(*IDS),
    actions.AttachDisk(*IDS, disk=SPEC.disks[0]),
    actions.DetachDisk(*IDS, disk_id=DiskId("d")),
    actions.ResizeDisk(*IDS, disk_id=DiskId("d"), size_bytes=7),
]
START = order.record(actions.StartVm(*IDS), "web", ORIGIN, fleet.AT)


@pytest.mark.parametrize("action", _ACTIONS, ids=actions.verb_of)
def test_from_body_reads_what_to_body_wrote(action: actions.Action) -> None:
    entry = order.record(action, "web", ORIGIN, fleet.AT, is_pinned=True)
    body = wire.parse(wire.encode(order.to_body(entry)))
    assert order.from_body(body) == entry


# What can travel: the wire lets nothing else in.
_TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@given(
    st.integers(0, 3),
    st.booleans(),
    st.none() | st.builds(Conflict, _TEXTS),
    st.sampled_from(list(JobState)),
)
def test_from_body_reads_any_state(
    sends: int, is_moved: bool, error: Conflict | None, state: JobState
) -> None:
    entry = order.follow(START, fleet.job(1, state), fleet.AT)
    for _ in range(sends):
        entry = order.count_send(entry)
    if is_moved:
        entry = order.move(entry, TWO)
    if error is not None:
        entry = order.refuse(entry, error, fleet.AT)
    assert order.from_body(order.to_body(entry)) == entry


def test_verb_of_knows_all_actions() -> None:
    assert [actions.verb_of(each) for each in _ACTIONS] == list(actions.ACTIONS)


def test_follow_runs_when_the_job_is_queued_at_the_node() -> None:
    after = order.follow(START, fleet.job(1, JobState.QUEUED), fleet.AT)
    assert after.order.state is JobState.RUNNING
    assert after.order.ended_at is None


def test_follow_ends_with_the_job() -> None:
    error = ErrorReport("failed", "vm_start_failed", "no memory")
    job = fleet.job(1, JobState.FAILED, error=error)
    after = order.follow(START, job, fleet.AT)
    assert (after.order.error, after.order.ended_at) == (error, fleet.AT)
    assert after.is_ended
    assert not after.is_refused


def test_follow_tells_who_else_moves_the_data() -> None:
    job = fleet.job(1, JobState.RUNNING, data_node_id=TWO)
    assert order.follow(START, job, fleet.AT).order.data_node_id == TWO


def test_move_counts_sends_anew() -> None:
    moved = order.move(order.count_send(START), TWO)
    assert (moved.order.node_id, moved.action.node_id) == (TWO, TWO)
    assert (moved.sends, moved.is_moved) == (0, True)


def test_error_of_is_what_was_refused() -> None:
    refusal = Conflict("it runs", vm="web", kind="odd")
    refusal.code, refusal.remedy = "vm_runs", "Stop it."
    found = order.error_of(order.report(refusal))
    assert isinstance(found, Conflict)
    assert (found.code, found.remedy, str(found)) == ("vm_runs", "Stop it.", "it runs")
    assert found.fields == {"vm": "web"}
