"""Tests of aggregator.dashboard.disk_rows."""

from aggregator.dashboard import disk_rows
from aggregator.federation.view import View
from node import wire
from node.model.ids import VolumeId
from node.model.reason import Reason
from node.model.storage import ChainSummary, DiskState
from node.model.vm import Vm
from tests.fakes import fleet_storage as stored
from tests.fakes import services as fakes
from tests.fakes.services import AT, OAK
from tests.unit.aggregator.dashboard.examples import say

WHY = Reason("disk_chain_illegal", AT, {"name": "loose", "detail": "a hole"})


def test_disk_line_tells_where_it_lies_and_who_uses_it(storage: View) -> None:
    line = disk_rows.disk_line(storage, storage.disks[stored.SYSTEM], str)
    assert (line.places, line.users) == (
        ((stored.DATA1, "data1"),),
        ((stored.APP, "app"),),
    )
    assert (line.size, line.allocated.text, line.what) == (
        "10 GiB",
        "2 GiB of 10 GiB",
        "qcow2, thin",
    )


def test_disk_line_says_what_is_no_disk_of_a_guest(storage: View) -> None:
    line = disk_rows.disk_line(storage, storage.disks[stored.CD], str)
    assert line.what == "CD image, raw, thin"


def test_disk_line_is_not_alarmed_by_a_full_disk(storage: View) -> None:
    line = disk_rows.disk_line(storage, storage.disks[stored.CD], str)
    assert (line.allocated.percent, line.allocated.tone) == (100, "good")


def test_disk_line_says_why_it_is_not_well(storage: View) -> None:
    told = stored.disk(stored.LOOSE, "loose", state=DiskState.ILLEGAL, reason=WHY)
    view = say(storage, OAK, told)
    line = disk_rows.disk_line(view, view.disks[stored.LOOSE], str)
    assert (line.sign.text, line.why) == (
        "Damaged",
        "The chain of disk loose is not whole: a hole",
    )


def test_disk_without_a_name_is_called_by_its_id(storage: View) -> None:
    view = say(storage, OAK, stored.disk(stored.LOOSE, ""))
    assert disk_rows.name(view.disks[stored.LOOSE]) == stored.LOOSE


def test_reasons_tell_a_problem_once(storage: View) -> None:
    told = stored.disk(
        stored.LOOSE,
        "loose",
        state=DiskState.ILLEGAL,
        reason=WHY,
        chain=ChainSummary(problems=(WHY,)),
    )
    row = storage.disks[stored.LOOSE]
    assert disk_rows.reasons(storage, row, told) == (WHY,)


def test_chain_goes_from_the_template_to_the_newest() -> None:
    volumes = tuple(map(VolumeId, ("b", "m", "n")))
    told = stored.disk(
        stored.LOOSE, "loose", chain=ChainSummary(volumes, template=VolumeId("t"))
    )
    assert disk_rows.chain(told) == [
        ("of the template", "t"),
        ("base", "b"),
        ("in between", "m"),
        ("newest", "n"),
    ]


def test_chain_of_one_has_no_base(storage: View) -> None:
    told = disk_rows.document(storage.disks[stored.SYSTEM])
    assert disk_rows.chain(told) == [("the only one", stored.LEAF)]


def _disks(view: View, vm_id: str) -> list[disk_rows.VmDiskLine]:
    vm = next(each for each in view.vms.values() if each.vm_id == vm_id)
    spec = wire.decode(Vm, vm.vm_document).spec
    return list(disk_rows.vm_disks(view, spec.disks, str))


def test_vm_disks_tell_the_state_of_those_of_a_pool(storage: View) -> None:
    (disk,) = _disks(storage, stored.APP)
    assert (disk.disk_id, disk.sign and disk.sign.text, disk.places) == (
        stored.SYSTEM,
        "OK",
        ((stored.DATA1, "data1"),),
    )


def test_vm_disks_of_the_node_alone_have_no_page(storage: View) -> None:
    (disk,) = _disks(storage, fakes.WEB1)
    assert (disk.disk_id, disk.sign, disk.places) == (None, None, ())
