"""Hold simulated nodes to what the aggregator makes of their deltas."""

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.federation import positions
from aggregator.federation.positions import Position, Verdict
from node import wire
from node.model.feed import Delta, DeltaOutcome, DeltaReply, Document, Kind
from node.model.vm import Vm, VmRun, VmState
from tests.scale import samples, simulated
from tests.scale.samples import Samples
from tests.scale.simulated import SimulatedNode

AT = "2026-11-22T08:00:00.000Z"
VMS = range(40, 44)
RECORDED: Samples = samples.read()


def _node(jobs: int = 3) -> SimulatedNode:
    return SimulatedNode(RECORDED, 7, VMS, jobs=jobs)


def _push(node: SimulatedNode) -> Delta:
    (body,) = node.deltas()
    return wire.decode(Delta, body)


def _ok(delta: Delta) -> DeltaReply:
    last = max((event.number for event in delta.events), default=0)
    return DeltaReply(DeltaOutcome.OK, delta.to_rev, events_acknowledged=last)


def _states(documents: Iterable[Document]) -> dict[str, VmState]:
    return {
        each.id: wire.from_json(VmRun, dict(each.body)).state
        for each in documents
        if each.kind == Kind.VM_RUN
    }


def test_first_push_tells_everything() -> None:
    delta = _push(_node())
    kinds = [each.kind for each in delta.changed]
    assert delta.from_rev == 0
    assert [kinds.count(kind) for kind in (Kind.VM, Kind.VM_RUN, Kind.JOB)] == [4, 4, 3]
    assert _states(delta.changed) == dict.fromkeys(map(simulated.vm_id, VMS), "up")


def test_documents_are_numbered_in_order() -> None:
    delta = _push(_node())
    revs = [each.rev for each in delta.changed]
    assert revs == sorted(set(revs))
    assert delta.to_rev >= revs[-1]


def test_vms_are_told_apart() -> None:
    specs = [
        wire.from_json(Vm, dict(each.body)).spec
        for each in _push(_node()).changed
        if each.kind == Kind.VM
    ]
    assert [spec.name for spec in specs] == list(map(simulated.vm_name, VMS))
    for values in (
        {spec.vm_id for spec in specs},
        {spec.nics[0].mac for spec in specs},
        {spec.disks[0].disk_id for spec in specs},
    ):
        assert len(values) == len(VMS)


def test_no_mark_is_left() -> None:
    node = _node()
    node.toggle(40, AT)
    (body,) = node.deltas(node.stats(AT, 12.5))
    assert b"@" not in body


def test_toggle_is_pushed_with_its_job_and_event() -> None:
    node = _node()
    node.hear(_ok(_push(node)))
    node.toggle(41, AT)
    delta = _push(node)
    assert {each.kind for each in delta.changed} == {Kind.VM, Kind.VM_RUN, Kind.JOB}
    assert _states(delta.changed) == {simulated.vm_id(41): VmState.PAUSED}
    assert [each.kind for each in delta.gone] == [Kind.JOB]  # the oldest makes room
    assert {event.boot_id for event in delta.events} == {delta.boot_id}
    assert {event.vm_id for event in delta.events} == {simulated.vm_id(41)}


def test_quiet_node_pushes_a_heartbeat() -> None:
    node = _node()
    node.hear(_ok(_push(node)))
    delta = _push(node)
    assert delta.from_rev == delta.to_rev
    assert (delta.changed, delta.gone, delta.events) == ((), (), ())


def test_resync_starts_from_nothing() -> None:
    node = _node()
    first = _push(node)
    node.hear(_ok(first))
    node.hear(DeltaReply(DeltaOutcome.RESYNC, 0))
    assert not node.is_known
    assert _push(node) == first


def test_stats_speak_of_every_vm() -> None:
    node = _node()
    (body,) = node.deltas(node.stats(AT, 12.5))
    stats = wire.decode(Delta, body).stats
    assert stats is not None
    assert stats.node.cpu_percent == 12.5
    assert [each.vm_id for each in stats.vms] == list(map(simulated.vm_id, VMS))


def test_large_nodes_tell_everything_in_parts() -> None:
    node = SimulatedNode(RECORDED, 0, range(1500))
    node.toggle(0, AT)
    bodies = list(node.deltas(node.stats(AT, 1.0)))
    gathering = None
    for body in bodies:
        delta = wire.decode(Delta, body)
        gathering = positions.gather(gathering, delta)
    assert len(bodies) > 1
    assert max(map(len, bodies)) <= simulated.PART_BYTES_MAX
    assert gathering is not None
    assert positions.is_whole(gathering)
    assert len(gathering.whole.changed) == node.document_count
    assert gathering.whole.events


@pytest.mark.parametrize("jobs", [1, 3, 500], ids=["one", "some", "too-many"])
def test_jobs_stay_as_many(jobs: int) -> None:
    node = _node(jobs)
    count = node.document_count
    for _ in range(5):
        node.toggle(40, AT)
    assert node.document_count == count


ACTS = st.lists(st.tuples(st.sampled_from(VMS), st.booleans()), max_size=20)


@given(ACTS)
@settings(deadline=None)
def test_deltas_add_up_to_everything(acts: list[tuple[int, bool]]) -> None:
    """Lose some replies: what an aggregator gathers is what the node has."""
    node = _node()
    held: dict[tuple[str, str], Document] = {}
    position: Position | None = None
    for vm, is_reply_lost in [(VMS[0], False), *acts, (VMS[0], False)]:
        node.toggle(vm, AT)
        delta = _push(node)
        verdict = positions.judge(position, delta)
        assert verdict is not Verdict.RESYNC
        if verdict is Verdict.REPLACE:
            held.clear()
        held.update({(each.kind, each.id): each for each in delta.changed})
        for gone in delta.gone:
            held.pop((gone.kind, gone.id), None)
        position = positions.advance(position, delta)
        if not is_reply_lost:
            node.hear(_ok(delta))
    node.hear(DeltaReply(DeltaOutcome.RESYNC, 0))
    everything = _push(node).changed
    assert held == {(each.kind, each.id): each for each in everything}
