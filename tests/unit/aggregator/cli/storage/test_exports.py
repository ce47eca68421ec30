"""`vm export`, `template export` and `storage remove-exported` of `skerry`."""

import pytest

from node.model.exports import ExportTemplate, ExportVm, RemoveExported
from node.model.ids import VmId
from tests.fakes import fleet_storage
from tests.unit.aggregator.cli import shell
from tests.unit.aggregator.cli.shell import Desk

ID = "12345678-1234-4234-8234-123456789abc"


def test_export_calls_its_verb_and_ends_well(desk: Desk) -> None:
    desk.called.clear()
    desk.ok("vm", "export", "app", "data2")
    assert "vm_export" in desk.called
    ((verb, vm_id, request, _),) = desk.fleet.orders.storage.asked
    assert (verb, vm_id) == ("vm_export", fleet_storage.APP)
    assert request == ExportVm(fleet_storage.DATA2)


def test_template_is_exported(desk: Desk) -> None:
    desk.ok("template", "create", "app", "debian")
    desk.called.clear()
    desk.ok("template", "export", "debian", "data2")
    assert "template_export" in desk.called
    verb, _, request, _ = desk.fleet.orders.storage.asked[-1]
    assert (verb, request) == ("template_export", ExportTemplate(fleet_storage.DATA2))


def test_what_was_exported_is_removed_by_its_id(desk: Desk) -> None:
    desk.called.clear()
    desk.ok("storage", "remove-exported", "data2", ID, "--yes")
    assert "storage_domain_remove_exported" in desk.called
    ((verb, where, request, _),) = desk.fleet.orders.storage.asked
    wanted = ("storage_domain_remove_exported", fleet_storage.DATA2)
    assert (verb, where) == wanted
    assert request == RemoveExported(VmId(ID))


@pytest.mark.parametrize("words", ["none --yes", ID])
def test_nothing_is_removed_unless_it_is_meant(desk: Desk, words: str) -> None:
    ended = shell.run("storage", "remove-exported", "data2", *words.split())
    assert ended.status == 1
    assert desk.fleet.orders.storage.asked == []
