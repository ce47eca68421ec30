"""Which node is asked about a transfer, also by an aggregator that has just begun."""

from typing import Any

import pytest

from aggregator.control import transfers as control
from aggregator.control.routes import DiskInUse, DiskNotFound
from aggregator.control.transfers import Transfers
from aggregator.federation.view import View
from node.errors import NotFound, Unavailable
from node.model import transfer_verbs as verbs
from node.model.ids import DiskId, JobId, NodeId, TransferId
from node.model.storage import DiskState, TransferDirection, TransferPhase
from node.model.storage_requests import ActOnTransfer, CreateTransfer
from node.model.verb import Verb
from node.model.vm import VmRun, VmState
from tests.fakes import fleet_storage
from tests.fakes.fleet_storage import APP, LOOSE, SYSTEM
from tests.fakes.services import AT, ELM, OAK, Fleet
from tests.fakes.storage_orders import say
from tests.fakes.transfers import FakeTransfers

ID = TransferId("12345678-1234-4234-8234-123456789abc")
UNKNOWN = DiskId("ffffffff-0000-4000-8000-00000000000f")
REQUEST = CreateTransfer(ID, LOOSE, TransferDirection.UPLOAD)


class Nodes:
    """The nodes' own APIs; `silent` do not answer."""

    def __init__(self) -> None:
        self.of: dict[NodeId, FakeTransfers] = {}
        self.silent: set[NodeId] = set()

    def client(self, node_id: NodeId) -> Any:
        return _Client(self, node_id)

    def asked(self, node_id: NodeId) -> list[str]:
        found = self.of.get(node_id)
        return [name for name, _ in found.asked] if found else []


class _Client:
    def __init__(self, nodes: Nodes, node_id: NodeId) -> None:
        self._nodes = nodes
        self._node_id = node_id

    def call(self, verb: Verb, kind: type, request: Any = None, **path: str) -> Any:
        if self._node_id in self._nodes.silent:
            raise Unavailable("the node does not answer")
        transfers = self._nodes.of.setdefault(self._node_id, FakeTransfers())
        return transfers.answer(verb, request, path.get("transfer_id", ""))


@pytest.fixture
def fleet() -> Fleet:
    return fleet_storage.make_fleet()


@pytest.fixture
def nodes() -> Nodes:
    return Nodes()


def of(fleet: Fleet, nodes: Nodes) -> Transfers:
    def view() -> View:
        return fleet.mirror.view

    return Transfers(view, nodes.client)


def test_manager_of_the_pool_begins_and_is_asked_from_then_on(
    fleet: Fleet, nodes: Nodes
) -> None:
    transfers = of(fleet, nodes)
    made = transfers.create(REQUEST)
    assert made.phase is TransferPhase.INITIALIZING
    assert transfers.show(ID).phase is TransferPhase.TRANSFERRING
    done = transfers.act(verbs.TRANSFER_FINALIZE, ID, ActOnTransfer())
    assert done.phase is TransferPhase.FINISHED_SUCCESS
    assert nodes.asked(OAK) == [
        "transfer_create",
        "transfer_show",
        "transfer_finalize",
    ]
    assert nodes.asked(ELM) == []


def test_aggregator_that_began_later_finds_it_by_the_lock(
    fleet: Fleet, nodes: Nodes
) -> None:
    of(fleet, nodes).create(REQUEST)
    locked = fleet_storage.disk(
        LOOSE, "loose", state=DiskState.LOCKED, lock_owner=JobId(ID)
    )
    later = of(fleet, nodes)
    with pytest.raises(NotFound) as caught:
        later.show(ID)
    assert caught.value.code == "transfer_not_found"
    assert later.list() == ()
    say(fleet.mirror, OAK, locked)
    assert later.show(ID).disk_id == LOOSE
    assert [each.transfer_id for each in later.list()] == [ID]


def test_list_passes_over_a_silent_node(fleet: Fleet, nodes: Nodes) -> None:
    transfers = of(fleet, nodes)
    transfers.create(REQUEST)
    nodes.silent.add(OAK)
    assert transfers.list() == ()
    with pytest.raises(Unavailable):
        transfers.show(ID)


def test_disk_that_nobody_knows_is_refused(fleet: Fleet, nodes: Nodes) -> None:
    request = CreateTransfer(ID, UNKNOWN, TransferDirection.DOWNLOAD)
    with pytest.raises(DiskNotFound):
        of(fleet, nodes).create(request)


def test_disk_of_a_vm_that_runs_is_refused(fleet: Fleet, nodes: Nodes) -> None:
    say(fleet.mirror, OAK, VmRun(APP, OAK, VmState.PAUSED, AT))
    with pytest.raises(DiskInUse):
        of(fleet, nodes).create(CreateTransfer(ID, SYSTEM, TransferDirection.DOWNLOAD))
    assert nodes.asked(OAK) == []


def test_only_so_many_are_remembered(
    fleet: Fleet, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "KNOWN_MAX", 1)
    transfers = of(fleet, nodes)
    transfers.create(REQUEST)
    other = TransferId("12345678-1234-4234-8234-123456789abd")
    transfers.create(CreateTransfer(other, LOOSE, TransferDirection.UPLOAD))
    assert transfers.show(other).transfer_id == other
    with pytest.raises(NotFound):
        transfers.show(ID)
