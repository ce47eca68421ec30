"""Tests of the tree of a VM's snapshots."""

from dataclasses import replace

import pytest

from aggregator.dashboard import snapshot_rows
from aggregator.dashboard.snapshot_rows import BEFORE, NOW
from node.model.ids import SnapshotId
from node.model.storage import SnapshotKind, SnapshotState
from node.model.vm import Preview, Snapshot, Vm, VmState
from tests.fakes import fleet_storage

VM = fleet_storage.definition()
S1, S2, S3 = (SnapshotId(f"s{n}") for n in (1, 2, 3))


def taken(
    snapshot_id: SnapshotId,
    parent_id: SnapshotId | None = None,
    state: SnapshotState = SnapshotState.OK,
) -> Snapshot:
    kind, at = SnapshotKind.REGULAR, "2026-11-22T09:00:00.000Z"
    name = snapshot_id.upper()
    return Snapshot(
        snapshot_id, VM.spec.vm_id, kind, state, at, name, parent_id=parent_id
    )


LINE = replace(VM, snapshots=(taken(S1), taken(S2, S1)), snapshot_id=S2)
SEEN = replace(
    VM,
    snapshots=(taken(S1, state=SnapshotState.IN_PREVIEW), taken(S2, S1)),
    snapshot_id=S1,
    preview=Preview(S1, VM.spec, S2),
)


def drawn(vm: Vm) -> list[tuple[str, int]]:
    found = snapshot_rows.lines(vm, VmState.DOWN)
    return [(each.name or each.sign.text, each.depth) for each in found]


def test_lines_are_none_without_snapshots() -> None:
    assert snapshot_rows.lines(VM, VmState.DOWN) == ()


def test_lines_end_with_the_vm() -> None:
    assert drawn(LINE) == [("S1", 0), ("S2", 0), (NOW.text, 0)]


def test_lines_indent_what_the_vm_does_not_go_on_from() -> None:
    assert drawn(SEEN) == [("S1", 0), ("S2", 1), (BEFORE.text, 1), (NOW.text, 0)]


def test_lines_show_what_has_lost_its_parent() -> None:
    lost = replace(VM, snapshots=(taken(S3, S2),), snapshot_id=S3)
    assert drawn(lost) == [("S3", 0), (NOW.text, 0)]


@pytest.mark.parametrize(
    ("vm", "state", "names"),
    [
        pytest.param(
            LINE, VmState.DOWN, ["preview", "restore", "clone", "delete"], id="down"
        ),
        pytest.param(LINE, VmState.UP, ["clone", "delete"], id="up"),
        pytest.param(SEEN, VmState.DOWN, [], id="in-preview"),
        pytest.param(
            replace(VM, snapshots=(taken(S1, state=SnapshotState.BROKEN),)),
            VmState.DOWN,
            ["delete"],
            id="broken",
        ),
        pytest.param(
            replace(VM, snapshots=(taken(S1, state=SnapshotState.LOCKED),)),
            VmState.DOWN,
            ["finish"],
            id="locked",
        ),
    ],
)
def test_lines_offer_what_may_be_done(vm: Vm, state: VmState, names: list[str]) -> None:
    first = snapshot_rows.lines(vm, state)[0]
    assert [each.name for each in first.actions] == names


@pytest.mark.parametrize(
    ("vm", "state", "names"),
    [
        pytest.param(LINE, VmState.UP, ["new"], id="running"),
        pytest.param(SEEN, VmState.DOWN, ["commit", "undo"], id="in-preview"),
        pytest.param(SEEN, VmState.UP, [], id="previewed-and-up"),
    ],
)
def test_of_vm_offers_what_the_vm_allows(
    vm: Vm, state: VmState, names: list[str]
) -> None:
    assert [each.name for each in snapshot_rows.of_vm(vm, state)] == names


@pytest.mark.parametrize(
    ("state", "vm_state", "names", "text"),
    [
        pytest.param(
            *(SnapshotState.LOCKED, VmState.UP, ["finish"], "finish it"), id="locked"
        ),
        pytest.param(
            SnapshotState.LOCKED,
            VmState.UNKNOWN,
            ["finish"],
            "is silent",
            id="locked-by-a-silent-node",
        ),
        pytest.param(
            SnapshotState.BROKEN, VmState.UP, ["delete"], "delete it again", id="broken"
        ),
    ],
)
def test_lines_say_what_to_do_about_what_nobody_ends(
    state: SnapshotState, vm_state: VmState, names: list[str], text: str
) -> None:
    vm = replace(VM, snapshots=(taken(S1, state=state),), snapshot_id=S1)
    line, _ = snapshot_rows.lines(vm, vm_state)
    assert [each.name for each in line.actions] == names
    assert text in line.remedy


def test_lines_offer_nothing_for_what_is_being_taken() -> None:
    locked = taken(S1, state=SnapshotState.LOCKED)
    vm = replace(VM, snapshots=(locked,), snapshot_id=S1)
    line, _ = snapshot_rows.lines(vm, VmState.UP, is_worked_on=True)
    assert (line.actions, line.remedy, line.sign.text) == ((), "", "Being taken")
