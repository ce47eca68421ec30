"""Transfers of nodes in one pool: real folders, a fake sanlock, nothing is moved."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from node.clock import SystemClock
from node.errors import Busy, Conflict, Error, Invalid, NotFound
from node.model.ids import (
    DiskId,
    PoolId,
    SnapshotId,
    StorageDomainId,
    TransferId,
    VmId,
    VolumeId,
)
from node.model.job import JobState
from node.model.storage import (
    DiskFormat,
    DiskState,
    SnapshotKind,
    SnapshotState,
    Transfer,
    TransferDirection,
    TransferPhase,
)
from node.model.storage_requests import (
    ActOnDisk,
    ActOnStorageDomain,
    ActOnTransfer,
    AttachStorageDomain,
    BecomeSpm,
    ConnectPool,
    CreateDisk,
    CreatePool,
    CreateStorageDomain,
    CreateTransfer,
    FinalizeTransfer,
    LeaveSpm,
)
from node.model.vm import Disk, Snapshot, SnapshotDisk, Vm
from node.storage.disks.work import Asked
from node.storage.pools.world import Use
from node.storage.transfers import ledger as ledgers
from node.storage.transfers import rules
from node.storage.transfers.service import Transfers
from node.units import MiB
from tests.contract.disks import code_of
from tests.fakes.guard import Outcome
from tests.fakes.tickets import FakeTickets
from tests.unit.node.storage.pools.nodes import Node, Nodes, wait_until
from tests.unit.node.vm.examples import SPEC

ALPHA = StorageDomainId("11111111-1111-4222-8333-00000000000a")
BETA = StorageDomainId("11111111-1111-4222-8333-00000000000b")
POOL = PoolId("22222222-1111-4222-8333-00000000000a")
DISK = DiskId("cccccccc-1111-4222-8333-000000000001")
SIZE = 4 * MiB
AT = "2026-01-01T00:00:00.000Z"
_P = TransferPhase


@dataclass(slots=True)
class Place:
    """A node of a pool, and its transfers."""

    node: Node
    tickets: FakeTickets
    transfers: Transfers

    def begin(self, request: CreateTransfer) -> Transfer:
        self.transfers.transfer_create(request)
        return self.wait(request.transfer_id, _P.TRANSFERRING)

    def wait(self, transfer_id: TransferId, phase: TransferPhase) -> Transfer:
        wait_until(lambda: self.phase(transfer_id) is phase)
        return self.transfers.transfer_show(transfer_id)

    def phase(self, transfer_id: TransferId) -> TransferPhase:
        return self.transfers.transfer_show(transfer_id).phase

    def finalize(self, transfer_id: TransferId, sha256: str = "") -> None:
        self.transfers.transfer_finalize(transfer_id, FinalizeTransfer(sha256))

    def state(self) -> DiskState | None:
        """Return how the disk is; None: it was not read yet."""
        try:
            return self.node.storage.disk_show(DISK).state
        except NotFound:
            return None

    def steps(self) -> list[str]:
        """Return the qemu-nbds of transfers that the storage process knows."""
        found = self.node.guard.steps()
        return [each.step_id for each in found if "transfer" in each.step_id]


def serve(words: tuple[str, ...]) -> Outcome | None:
    """Be a qemu-nbd: have a socket, and run on."""
    (socket,) = (each for each in words if each.startswith("--socket="))
    Path(socket.partition("=")[2]).touch()
    return None


def of(node: Node, tickets: FakeTickets) -> Transfers:
    """Return the transfers of a node as its agent makes them."""
    folder = node.folder / "transfer"
    folder.mkdir(exist_ok=True)
    node.guard.programs["env"] = serve
    storage = node.storage
    return Transfers(
        node.store,
        storage.world,
        storage.roster,
        (tickets, tickets),
        folder,
        ("192.0.2.1", 54322),
    )


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    made = Nodes(tmp_path)
    yield made
    made.close()


@pytest.fixture
def places() -> Iterator[list[Place]]:
    """Return where places are noted that are to be stopped."""
    made: list[Place] = []
    yield made
    for each in made:
        each.transfers.stop(5.0)


@pytest.fixture
def one(nodes: Nodes, places: list[Place]) -> Place:
    """Return the manager of a pool with one raw disk."""
    node = nodes.start()
    request = CreateStorageDomain(ALPHA, "alpha", nodes.connection("alpha"))
    node.done(node.storage.storage_domain_create(request))
    node.done(node.storage.pool_create(CreatePool(POOL, "main", ALPHA)))
    create = CreateDisk(DISK, "disk", ALPHA, SIZE, DiskFormat.RAW)
    node.done(node.storage.disk_create(create))
    place = begun(node, places)
    wait_until(lambda: place.state() is DiskState.OK)  # it is told in a moment
    return place


def begun(node: Node, places: list[Place]) -> Place:
    tickets = FakeTickets()
    place = Place(node, tickets, of(node, tickets))
    place.transfers.start()
    places.append(place)
    return place


def request(
    direction: TransferDirection = TransferDirection.UPLOAD, **fields: object
) -> CreateTransfer:
    made = CreateTransfer(TransferId(str(uuid.uuid4())), DISK, direction)
    return replace(made, **fields)  # type: ignore[arg-type]  # a test's own words


def test_upload_is_closed_served_and_believed_at_its_end(one: Place) -> None:
    asked = request()
    transfer = one.begin(asked)
    ticket_id = transfer.url.rpartition("/")[2]
    assert transfer.url == f"https://192.0.2.1:54322/images/{ticket_id}"
    ticket = one.tickets.installed[ticket_id]
    assert (ticket.size, ticket.ops, ticket.sparse) == (SIZE, ("write",), True)
    (run,) = [each for each in one.node.guard.runs if each.argv[0] == "env"]
    assert {"--persistent", "--shared=8", "--format=raw", "--cache=none"} < set(
        run.argv
    )
    assert {"--discard=unmap", "--detect-zeroes=unmap"} < set(run.argv)
    assert [need.lockspace for need in run.needs] == [ALPHA]
    assert one.state() is DiskState.LOCKED
    one.tickets.transferred = SIZE
    one.finalize(asked.transfer_id)
    done = one.wait(asked.transfer_id, _P.FINISHED_SUCCESS)
    assert (done.transferred_bytes, one.tickets.flushes) == (SIZE, 1)
    assert (one.tickets.installed, one.steps()) == ({}, [])
    wait_until(lambda: one.state() is DiskState.OK)


def test_snapshot_is_fetched_while_its_vm_runs(one: Place) -> None:
    seat = one.node.storage.roster.seat(POOL)
    (sight,) = seat.catalog.find(DISK)
    (kept,) = sight.volumes
    new = str(uuid.uuid4())
    vm_id, snapshot_id = VmId(str(uuid.uuid4())), SnapshotId(str(uuid.uuid4()))
    one.node.done(seat.disks.add_volume(DISK, new, kept, Asked(None, None)))
    disk = Disk(DISK, "root", SIZE, storage_domain_id=ALPHA, volume_id=VolumeId(new))
    snapshot = Snapshot(
        *(snapshot_id, vm_id, SnapshotKind.REGULAR, SnapshotState.OK, AT),
        disks=(SnapshotDisk(DISK, VolumeId(kept)),),
    )
    spec = replace(SPEC, vm_id=vm_id, pool_id=POOL, disks=(disk,))
    seat.vms.write(Vm(spec, 1, AT, snapshots=(snapshot,)), ALPHA, 0)
    one.node.uses[DISK] = Use(vm_id, ALPHA)
    asked = request(TransferDirection.DOWNLOAD, snapshot_id=snapshot_id)
    seat.volume_in(snapshot_id, DISK)
    broken = replace(snapshot, state=SnapshotState.BROKEN)
    seat.vms.write(Vm(spec, 2, AT, snapshots=(broken,)), ALPHA, 1)
    assert code_of(lambda: one.begin(asked)) == "snapshot_unresolved"
    seat.vms.write(Vm(spec, 3, AT, snapshots=(snapshot,)), ALPHA, 2)
    assert one.begin(asked).snapshot_id == snapshot_id
    (run,) = [each for each in one.node.guard.runs if each.argv[0] == "env"]
    assert run.argv[-1].endswith(f"/{DISK}/{kept}")
    assert "--read-only" in run.argv
    del one.node.uses[DISK]
    with pytest.raises(Busy) as caught:  # what is fetched stays as it is
        one.node.storage.disk_delete(DISK, ActOnDisk())
    assert caught.value.code == "disk_locked"


@pytest.mark.parametrize(
    ("removes", "left"),
    [
        pytest.param(True, None, id="made-for-it"),
        pytest.param(False, DiskState.ILLEGAL, id="there-before"),
    ],
)
def test_cancelled_upload_takes_its_disk_along_if_asked(
    one: Place, removes: bool, left: DiskState | None
) -> None:
    asked = request(removes_disk=removes)
    one.begin(asked)
    one.transfers.transfer_cancel(asked.transfer_id, ActOnTransfer())
    one.wait(asked.transfer_id, _P.CANCELLED)
    wait_until(lambda: one.state() is left)
    assert one.node.storage.roster.seat(POOL).work.lock_owners() == {}
    wanted = ["disk_created", "transfer_started", "transfer_ended"]
    if removes:
        wanted.insert(2, "disk_deleted")

    def told() -> list[str]:
        codes = [each.code for each in one.node.store.events(0).events]
        return [each for each in codes if each in {*wanted, "disk_deleted"}]

    wait_until(lambda: told() == wanted)


def test_download_is_read_only_and_leaves_the_disk_as_it_is(one: Place) -> None:
    asked = request(TransferDirection.DOWNLOAD)
    one.begin(asked)
    (run,) = [each for each in one.node.guard.runs if each.argv[0] == "env"]
    assert "--read-only" in run.argv
    assert not {"--discard=unmap", "--detect-zeroes=unmap"} & set(run.argv)
    verbs = {each.verb for each in one.node.jobs.list()}
    assert not {"disk_begin_upload", "disk_end_upload"} & verbs
    one.finalize(asked.transfer_id)
    one.wait(asked.transfer_id, _P.FINISHED_SUCCESS)
    wait_until(lambda: one.state() is DiskState.OK)


def test_asked_twice_it_is_one_transfer(one: Place) -> None:
    asked = request()
    one.begin(asked)
    assert one.transfers.transfer_create(asked).transfer_id == asked.transfer_id
    assert len(one.transfers.transfer_list().transfers) == 1
    with pytest.raises(Conflict) as caught:
        one.transfers.transfer_create(replace(asked, inactivity_s=5.0))
    assert caught.value.code == "transfer_id_taken"


@pytest.mark.parametrize("lost", ["lease", "left"])
def test_manager_that_is_none_any_more_gives_up_and_the_next_one_serves(
    nodes: Nodes, one: Place, places: list[Place], lost: str
) -> None:
    other = nodes.start(1)
    (known,) = (
        each.storage_domain
        for each in one.node.storage.storage_domain_list().storage_domains
    )
    other.done(other.storage.pool_connect(POOL, ConnectPool("main", (known,))))
    asked = request()
    one.begin(asked)
    if lost == "lease":
        one.node.guard.lose(ALPHA)
        one.node.storage.roster.seat(POOL).poke()  # its next round would see it
    else:
        one.node.done(one.node.storage.spm_leave(POOL, LeaveSpm(stand_back_s=60.0)))
    failed = one.wait(asked.transfer_id, _P.FINISHED_FAILURE)
    assert failed.reason is not None
    assert failed.reason.code == "transfer_manager_lost"
    assert one.steps() == []
    nodes.leases.die(ALPHA, 1)
    wait_until(lambda: _is_manager(other))
    second = begun(other, places)
    wait_until(lambda: second.state() is DiskState.ILLEGAL)
    again = request()
    second.begin(again)
    second.finalize(again.transfer_id)
    second.wait(again.transfer_id, _P.FINISHED_SUCCESS)
    wait_until(lambda: second.state() is DiskState.OK)


def _is_manager(node: Node) -> bool:
    """Ask a node to manage the pool; tell whether it does."""
    job = node.end_of(node.storage.spm_become(POOL, BecomeSpm()))
    return job.state is JobState.DONE


def test_maintenance_of_the_storage_domain_ends_it(nodes: Nodes, one: Place) -> None:
    storage, done = one.node.storage, one.node.done
    request_ = CreateStorageDomain(BETA, "beta", nodes.connection("beta"))
    done(storage.storage_domain_create(request_))
    done(storage.storage_domain_attach(BETA, AttachStorageDomain(POOL)))
    done(storage.storage_domain_activate(BETA, ActOnStorageDomain()))
    other = DiskId("cccccccc-1111-4222-8333-000000000002")
    done(storage.disk_create(CreateDisk(other, "b", BETA, SIZE, DiskFormat.RAW)))
    asked = request(disk_id=other)
    one.begin(asked)
    storage.storage_domain_maintain(BETA, ActOnStorageDomain())
    failed = one.wait(asked.transfer_id, _P.FINISHED_FAILURE)
    assert failed.reason is not None
    assert "active no more" in str(failed.reason.fields["detail"])
    assert one.steps() == []


def test_other_than_the_manager_refuses_plainly(
    nodes: Nodes, one: Place, places: list[Place]
) -> None:
    other = nodes.start(1)
    (known,) = (
        each.storage_domain
        for each in one.node.storage.storage_domain_list().storage_domains
    )
    other.done(other.storage.pool_connect(POOL, ConnectPool("main", (known,))))
    second = begun(other, places)
    with pytest.raises(Conflict) as caught:
        second.transfers.transfer_create(request())
    assert caught.value.code == "not_spm"


def test_paused_transfer_is_given_up_after_a_time(
    one: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = request()
    one.begin(asked)
    monkeypatch.setattr(rules, "PAUSED_MAX_S", 0.0)
    one.transfers.transfer_pause(asked.transfer_id, ActOnTransfer())
    one.wait(asked.transfer_id, _P.CANCELLED)


def test_paused_transfer_outlives_a_clock_that_is_set(
    one: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, now = request(), SystemClock.now
    one.begin(asked)
    one.transfers.transfer_pause(asked.transfer_id, ActOnTransfer())
    one.wait(asked.transfer_id, _P.PAUSED_USER)
    tomorrow = timedelta(days=2)
    monkeypatch.setattr(SystemClock, "now", lambda clock: now(clock) + tomorrow)
    (course,) = one.transfers._courses.values()
    course._rest(course.kept)
    assert one.phase(asked.transfer_id) is _P.PAUSED_USER


@pytest.mark.parametrize("at", ["initializing", "transferring", "paused"])
def test_restarted_agent_keeps_the_disk_locked_and_goes_on(
    nodes: Nodes, one: Place, places: list[Place], at: str
) -> None:
    asked = request()
    if at == "initializing":
        one.tickets.is_down = True  # so it waits where tickets are made
        one.transfers.transfer_create(asked)
        wait_until(lambda: one.steps())
    else:
        one.begin(asked)
    if at == "paused":
        one.transfers.transfer_pause(asked.transfer_id, ActOnTransfer())
        wait_until(lambda: not one.steps())
    one.transfers.stop(5.0)
    nodes.stop(one.node)
    node = nodes.start()
    again = Place(node, one.tickets, of(node, one.tickets))
    places.append(again)
    one.tickets.is_down = False
    wait_until(lambda: any(each.is_serving for each in node.storage.roster.seats()))
    with pytest.raises(Busy) as caught:
        node.storage.disk_delete(DISK, ActOnDisk())
    assert caught.value.code == "disk_locked"
    again.transfers.start()
    if at == "paused":
        again.transfers.transfer_resume(asked.transfer_id, ActOnTransfer())
    found = again.wait(asked.transfer_id, _P.TRANSFERRING)
    assert len(again.steps()) == 1
    assert found.url.rpartition("/")[2] in one.tickets.installed
    again.finalize(asked.transfer_id)
    again.wait(asked.transfer_id, _P.FINISHED_SUCCESS)
    wait_until(lambda: again.state() is DiskState.OK)


def test_transfer_server_that_forgot_its_tickets_pauses_it(one: Place) -> None:
    asked = request()
    one.begin(asked)
    one.tickets.installed.clear()
    paused = one.wait(asked.transfer_id, _P.PAUSED_SYSTEM)
    assert paused.reason is not None
    assert paused.reason.code == "transfer_server_restarted"
    wait_until(lambda: not one.steps())
    one.transfers.transfer_resume(asked.transfer_id, ActOnTransfer())
    assert one.wait(asked.transfer_id, _P.TRANSFERRING).reason is None


def test_bytes_of_earlier_rounds_count(one: Place) -> None:
    asked = request()
    one.begin(asked)
    one.tickets.transferred = MiB
    one.transfers.transfer_pause(asked.transfer_id, ActOnTransfer())
    wait_until(lambda: not one.steps())
    assert one.transfers.transfer_show(asked.transfer_id).transferred_bytes == MiB
    one.transfers.transfer_resume(asked.transfer_id, ActOnTransfer())
    one.wait(asked.transfer_id, _P.TRANSFERRING)
    wait_until(
        lambda: (
            one.transfers.transfer_show(asked.transfer_id).transferred_bytes == 2 * MiB
        )
    )


@pytest.mark.parametrize("then", ["go-on", "cancel"])
def test_hasty_pause_and_resume_leave_one_qemu_nbd(one: Place, then: str) -> None:
    asked = request()
    one.begin(asked)
    for _ in range(5):
        one.transfers.transfer_pause(asked.transfer_id, ActOnTransfer())
        one.transfers.transfer_resume(asked.transfer_id, ActOnTransfer())
    if then == "cancel":
        one.transfers.transfer_cancel(asked.transfer_id, ActOnTransfer())
        one.wait(asked.transfer_id, _P.CANCELLED)
        assert one.steps() == []
        assert one.tickets.installed == {}
        return
    one.wait(asked.transfer_id, _P.TRANSFERRING)
    assert one.steps() == [f"transfer.{asked.transfer_id}.5"]


def test_qemu_nbd_that_does_not_start_pauses_it_with_its_words(one: Place) -> None:
    one.node.guard.programs["env"] = lambda _words: Outcome(1, stderr="no such file")
    asked = request()
    one.transfers.transfer_create(asked)
    paused = one.wait(asked.transfer_id, _P.PAUSED_SYSTEM)
    assert paused.reason is not None
    assert "no such file" in str(paused.reason.fields["detail"])
    one.node.guard.programs["env"] = serve
    one.transfers.transfer_resume(asked.transfer_id, ActOnTransfer())
    one.wait(asked.transfer_id, _P.TRANSFERRING)


def test_stray_qemu_nbd_is_ended_at_a_start(
    nodes: Nodes, one: Place, places: list[Place]
) -> None:
    step_id = f"transfer.{uuid.uuid4()}.0"
    (folder,) = (one.node.folder / "transfer",)
    words = ["env", f"--socket={folder}/stray.nbd"]
    one.node.guard.run(step_id, words)
    one.transfers.stop(5.0)
    begun(one.node, places)
    wait_until(lambda: not one.steps())


def test_too_many_are_refused_and_lock_nothing(
    one: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledgers, "RUNNING_MAX", 0)
    with pytest.raises(Busy) as caught:
        one.transfers.transfer_create(request())
    assert caught.value.code == "too_many_transfers"
    assert one.state() is DiskState.OK
    monkeypatch.setattr(ledgers, "RUNNING_MAX", 1)
    one.begin(request())


@pytest.mark.parametrize(
    ("fields", "kind", "code"),
    [
        ({"inactivity_s": -1.0}, Invalid, "bad_inactivity"),
        ({"transfer_id": "x"}, Invalid, "bad_name"),
        ({"is_shallow": True}, Error, "transfer_of_snapshot_unsupported"),
        ({"snapshot_id": DISK}, Error, "transfer_of_snapshot_unsupported"),
        (
            {"snapshot_id": DISK, "direction": TransferDirection.DOWNLOAD},
            NotFound,
            "transfer_snapshot_unknown",
        ),
        ({"disk_format": DiskFormat.QCOW2}, Error, "transfer_format_unsupported"),
    ],
    ids=["inactivity", "id", "shallow", "to-snapshot", "no-snapshot", "format"],
)
def test_what_cannot_be_is_refused_and_locks_nothing(
    one: Place, fields: dict[str, object], kind: type[Error], code: str
) -> None:
    with pytest.raises(kind) as caught:
        one.transfers.transfer_create(replace(request(), **fields))  # type: ignore[arg-type]  # a test's own words
    if code != "bad_name":
        assert caught.value.code == code
    assert one.state() is DiskState.OK


def test_disk_that_a_guest_runs_with_is_not_served(one: Place) -> None:
    vm_id = VmId("bbbbbbbb-1111-4222-8333-000000000001")
    one.node.uses[DISK] = Use(vm_id, ALPHA)
    for direction in TransferDirection:
        with pytest.raises(Conflict) as caught:
            one.transfers.transfer_create(request(direction))
        assert caught.value.code == "disk_in_use"
