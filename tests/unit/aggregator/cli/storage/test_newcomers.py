"""`skerry storage unregistered` and what goes with it."""

import pytest

from aggregator.api.register_verbs import VERBS
from node.model.ids import VmId
from node.model.unregistered import Source, Unregistered, UnregisteredVm
from tests.fakes import fleet_storage, services
from tests.unit.aggregator.cli import shell
from tests.unit.aggregator.cli.shell import Desk

VM = VmId("aaaaaaaa-0000-4000-8000-0000000000ff")
COMMANDS = {
    "storage_domain_unregistered": "unregistered data1",
    "storage_domain_register_vm": "register data1 came --as new",
    "storage_domain_write_ovf": "write-ovf data1",
}


@pytest.fixture
def desk(desk: Desk) -> Desk:
    found = UnregisteredVm(services.spec(VM, "came"), Source.OVF_STORE, 3)
    desk.fleet.node.lying = Unregistered((found,))
    return desk


def test_command_is_there_for_every_verb() -> None:
    assert set(COMMANDS) == {verb.name for verb in VERBS}


@pytest.mark.parametrize("verb", COMMANDS)
def test_command_calls_its_verb_and_ends_well(desk: Desk, verb: str) -> None:
    desk.called.clear()
    desk.ok("storage", *COMMANDS[verb].split())
    assert verb in desk.called


def test_register_asks_for_what_was_said(desk: Desk) -> None:
    desk.ok("storage", "register", "data1", VM, "--clone", "--lose-disks")
    ((_, where, request, _),) = desk.fleet.orders.storage.asked
    assert (where, request.vm_id, request.may_lose_disks) == (
        fleet_storage.DATA1,
        VM,
        True,
    )
    assert request.as_vm_id not in (None, VM)
    assert len(request.macs) == len(services.spec(VM, "came").nics)


def test_register_keeps_macs_if_told_so(desk: Desk) -> None:
    desk.ok("storage", "register", "data1", "came", "--clone", "--keep-macs")
    ((_, _, request, _),) = desk.fleet.orders.storage.asked
    assert request.macs == ()


def test_register_of_what_does_not_wait_says_so(desk: Desk) -> None:
    ended = shell.run("storage", "register", "data1", "none")
    assert (ended.status, "no VM named none waits there" in ended.err) == (1, True)


def test_register_names_where_what_was_exported_goes(desk: Desk) -> None:
    desk.ok("storage", "register", "data2", "came", "--to", "data1")
    ((_, where, request, _),) = desk.fleet.orders.storage.asked
    assert where == fleet_storage.DATA2
    assert request.to_storage_domain_id == fleet_storage.DATA1
