"""How a snapshot is named at a terminal, and what people read."""

from dataclasses import replace

import pytest

from node.commands import snapshot_options as snapshots
from node.commands import terminal
from node.model.ids import SnapshotId, VmId
from node.model.storage import SnapshotKind, SnapshotState
from node.model.vm import Snapshot, Vm
from tests.unit.node.vm.examples import SPEC

AT = "2026-11-22T08:00:00.000Z"
ONE, TWO = (SnapshotId(f"5a450000-0000-4000-8000-00000000000{n}") for n in (1, 2))


def taken(snapshot_id: SnapshotId, description: str) -> Snapshot:
    kind, state = SnapshotKind.REGULAR, SnapshotState.OK
    return Snapshot(snapshot_id, VmId("vm"), kind, state, AT, description)


VM = Vm(SPEC, 1, AT, snapshots=(taken(ONE, "one"), taken(TWO, "two")), snapshot_id=TWO)


@pytest.mark.parametrize("name", ["one", ONE, ONE.upper()], ids=["text", "id", "upper"])
def test_snapshot_is_named_by_its_id_or_description(name: str) -> None:
    assert snapshots.find(VM, name) == ONE


def test_description_of_several_is_refused() -> None:
    twins = replace(VM, snapshots=(taken(ONE, "x"), taken(TWO, "x")))
    with pytest.raises(snapshots.SeveralSnapshots):
        snapshots.find(twins, "x")
    with pytest.raises(snapshots.NoSuchSnapshot):
        snapshots.find(twins, "y")


def test_table_marks_what_the_vm_goes_on_from() -> None:
    _, *lines = terminal.plain(snapshots.table(VM, VM.snapshots)).splitlines()
    assert [line.startswith("*") for line in lines] == [False, True]
