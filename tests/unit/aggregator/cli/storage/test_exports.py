"""`skerry vm export`."""

from aggregator.api.export_verbs import VERBS
from node.model.exports import ExportVm
from tests.fakes import fleet_storage
from tests.unit.aggregator.cli.shell import Desk


def test_export_calls_its_verb_and_ends_well(desk: Desk) -> None:
    desk.called.clear()
    desk.ok("vm", "export", "app", "data2")
    assert {verb.name for verb in VERBS} <= set(desk.called)
    ((verb, vm_id, request, _),) = desk.fleet.orders.storage.asked
    assert (verb, vm_id) == ("vm_export", fleet_storage.APP)
    assert request == ExportVm(fleet_storage.DATA2)
