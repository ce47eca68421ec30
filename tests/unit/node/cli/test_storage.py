"""The commands on storage: what they ask the agent for, and what people read."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from node import wire
from node.contract.volumes import DiskBusy
from node.errors import Conflict
from node.jobs import Progress
from node.model import storage_requests as bodies
from node.model.feed import Kind
from node.model.ids import DiskId, JobId, PoolId, SnapshotId, StorageDomainId
from node.model.reason import Reason
from node.model.requests import AttachDisk, CreateVm, DetachDisk, ResizeVmDisk
from node.model.storage import (
    Allocation,
    Connection,
    ContentType,
    DiskFormat,
    DiskQos,
    DiskState,
    DomainClass,
    DomainState,
    DomainType,
)
from node.model.unregistered import NetworkChange, RegisterVm
from node.model.vm import Disk, DiskInterface, Vm
from node.units import GiB, MiB
from tests.contract.agents import IDLE, UNKNOWN, FakeAgent
from tests.fakes.storage_service import (
    DATA,
    FRESH,
    LAN,
    NAS,
    PROBLEMS,
    ROOT,
    SINCE,
    SPARE,
    WAITING,
    FakeStorage,
    disk,
    storage_domain,
)
from tests.fakes.volumes import FakeVolumes, of_pool
from tests.unit.node.cli.shell import Shell, serving
from tests.unit.node.vm.examples import DISK, NODE_ID, SPEC

SERVER = Connection(DomainType.NFS, "/export/nas", "server")
LOOK = ("storage_domain_look", bodies.LookForStorageDomains(SERVER))


class Refused(Conflict):
    code = "not_now"
    remedy = "Wait for the full moon."


@pytest.fixture
def shell(served: Shell) -> Shell:
    """Return the shell as it is: no VM is touched here."""
    return served


@pytest.fixture
def storage(shell: Shell) -> Iterator[FakeStorage]:
    """Return what the agent's storage is in this test alone."""
    known, fresh = shell.agent.storage, FakeStorage(shell.agent.jobs)
    kept = {name: getattr(known, name) for name in vars(known)}
    vars(known).update(vars(fresh))
    yield known
    vars(known).update(kept)


# --- what is asked for

ACTS = [
    pytest.param(
        "storage create new --nfs server:/export/nas --nfs-version 4.2 "
        f"--mount-options soft,ro --class iso --description few --id {UNKNOWN} "
        "--sector-size 4096 --wipe-after-delete",
        "storage_domain_create",
        bodies.CreateStorageDomain(
            StorageDomainId(UNKNOWN),
            "new",
            replace(SERVER, nfs_version="4.2", options="soft,ro"),
            DomainClass.ISO,
            "few",
            4096,
            wipe_after_delete=True,
        ),
        id="create-nfs",
    ),
    pytest.param(
        f"storage create new --local /srv/new --id {UNKNOWN}",
        "storage_domain_create",
        bodies.CreateStorageDomain(
            StorageDomainId(UNKNOWN), "new", Connection(DomainType.LOCALFS, "/srv/new")
        ),
        id="create-local",
    ),
    pytest.param(
        f"storage create new --posix mon1:/ --file-system ceph --id {UNKNOWN}",
        "storage_domain_create",
        bodies.CreateStorageDomain(
            StorageDomainId(UNKNOWN),
            "new",
            Connection(DomainType.POSIXFS, "mon1:/", file_system="ceph"),
        ),
        id="create-posix",
    ),
    pytest.param(
        "storage create new --nfs [fe80::1]:/export/nas --id " + UNKNOWN,
        "storage_domain_create",
        bodies.CreateStorageDomain(
            StorageDomainId(UNKNOWN), "new", replace(SERVER, address="[fe80::1]")
        ),
        id="create-ipv6",
    ),
    pytest.param(
        f"storage import --nfs server:/export/nas --id {SPARE} --pool lan --force",
        "storage_domain_import",
        bodies.ImportStorageDomain(SERVER, SPARE, LAN, is_forced=True),
        id="import",
    ),
    pytest.param(
        "storage import --nfs server:/export/nas",
        "storage_domain_import",
        bodies.ImportStorageDomain(SERVER),
        id="import-the-only-one",
    ),
    pytest.param(
        "storage attach fresh lan",
        "storage_domain_attach",
        bodies.AttachStorageDomain(LAN, replace(SERVER, path="/export/fresh")),
        id="attach",
    ),
    pytest.param(
        f"storage activate {SPARE}",
        "storage_domain_activate",
        bodies.ActOnStorageDomain(),
        id="activate-by-id",
    ),
    pytest.param(
        "storage maintain spare",
        "storage_domain_maintain",
        bodies.ActOnStorageDomain(),
        id="maintain",
    ),
    pytest.param(
        "storage detach spare --force --yes",
        "storage_domain_detach",
        bodies.ActOnStorageDomain(is_forced=True),
        id="detach",
    ),
    pytest.param(
        "storage remove fresh --yes",
        "storage_domain_remove",
        bodies.RemoveStorageDomain(),
        id="forget",
    ),
    pytest.param(
        "storage remove fresh --format --yes",
        "storage_domain_remove",
        bodies.RemoveStorageDomain(is_formatted=True),
        id="destroy",
    ),
    pytest.param(
        f"pool create second --master fresh --id {UNKNOWN}",
        "pool_create",
        bodies.CreatePool(PoolId(UNKNOWN), "second", FRESH),
        id="pool-create",
    ),
    pytest.param(
        "storage register nas came --as new --network a=b --network c= "
        "--lose-disks --lose-cards --force",
        "storage_domain_register_vm",
        RegisterVm(
            WAITING.spec.vm_id,
            "new",
            networks=(NetworkChange("a", "b"), NetworkChange("c", "")),
            may_lose_disks=True,
            may_lose_nics=True,
            is_forced=True,
        ),
        id="register",
    ),
    pytest.param(
        "storage register nas came --to nas",
        "storage_domain_register_vm",
        RegisterVm(WAITING.spec.vm_id, to_storage_domain_id=NAS),
        id="import",
    ),
    pytest.param(
        "storage write-ovf nas",
        "storage_domain_write_ovf",
        bodies.ActOnStorageDomain(),
        id="write-ovf",
    ),
    pytest.param(
        "pool disconnect lan --yes",
        "pool_disconnect",
        bodies.ActOnPool(),
        id="disconnect",
    ),
    pytest.param(
        "pool move-master lan spare",
        "pool_move_master",
        bodies.MoveMaster(SPARE),
        id="move-master",
    ),
    pytest.param(
        "pool move-master lan spare --reconstruct --yes",
        "pool_move_master",
        bodies.MoveMaster(SPARE, is_reconstruction=True),
        id="reconstruct",
    ),
    pytest.param(
        "pool become-manager lan --ask-holder",
        "spm_become",
        bodies.BecomeSpm(ask_holder=True),
        id="become",
    ),
    pytest.param(
        f"pool leave-manager {LAN} --stand-back 90",
        "spm_leave",
        bodies.LeaveSpm(stand_back_s=90.0),
        id="leave",
    ),
    pytest.param(
        f"disk create new nas 20GiB --format raw --allocation preallocated --shared "
        f"--description few --content iso --no-wipe-after-delete --from data "
        f"--limit total_iops=500 --limit read_bytes_s=10M --id {UNKNOWN}",
        "disk_create",
        bodies.CreateDisk(
            DiskId(UNKNOWN),
            "new",
            NAS,
            20 * GiB,
            DiskFormat.RAW,
            Allocation.PREALLOCATED,
            "few",
            ContentType.ISO,
            is_shared=True,
            wipe_after_delete=False,
            qos=DiskQos(total_iops=500, read_bytes_s=10 * MiB),
            from_disk_id=DATA,
        ),
        id="disk-create",
    ),
    pytest.param(
        f"disk create new nas 1T --id {UNKNOWN}",
        "disk_create",
        bodies.CreateDisk(DiskId(UNKNOWN), "new", NAS, 1024 * GiB),
        id="disk-create-plain",
    ),
    pytest.param(
        "disk delete root --yes", "disk_delete", bodies.ActOnDisk(), id="delete"
    ),
    pytest.param(
        "disk delete root --storage-domain nas --yes",
        "disk_delete",
        bodies.ActOnDisk(storage_domain_id=NAS),
        id="delete-copy",
    ),
    pytest.param(
        f"disk resize {ROOT} 30G",
        "disk_resize",
        bodies.ResizeDisk(30 * GiB),
        id="resize",
    ),
    pytest.param(
        "disk change root --name top --description few --shared",
        "disk_change",
        bodies.ChangeDisk("top", "few", is_shared=True),
        id="change",
    ),
    pytest.param(
        "disk change root --limit total_iops=7",
        "disk_change",
        bodies.ChangeDisk(qos=DiskQos(total_iops=7, write_iops=3)),
        id="change-one-limit",
    ),
    pytest.param(
        f"disk copy root spare --name twin --format raw --allocation thin "
        f"--snapshot {LAN} --id {UNKNOWN}",
        "disk_copy",
        bodies.CopyDisk(
            DiskId(UNKNOWN),
            SPARE,
            "twin",
            DiskFormat.RAW,
            Allocation.THIN,
            SnapshotId(LAN),
        ),
        id="copy",
    ),
    pytest.param(
        "disk move root spare", "disk_move", bodies.MoveDisk(SPARE), id="move"
    ),
    pytest.param(
        "disk sparsify root", "disk_sparsify", bodies.SparsifyDisk(), id="sparsify"
    ),
]


@pytest.mark.parametrize(("command", "verb", "request_"), ACTS)
def test_command_asks_for_what_was_typed(
    shell: Shell, storage: FakeStorage, command: str, verb: str, request_: object
) -> None:
    storage.disks[ROOT] = disk(ROOT, "root", qos=DiskQos(write_iops=3))
    ended = shell.ok(*command.split())
    assert storage.asked == [(verb, request_)]
    assert f"{verb}: done 100 %" in ended.err


@pytest.mark.parametrize(
    ("typed", "priority"),
    [("never", -1), ("-1", -1), ("LOW", 2), ("high", 7), ("10", 10)],
)
def test_priority_is_a_word_or_a_number(
    shell: Shell, storage: FakeStorage, typed: str, priority: int
) -> None:
    said = shell.ok("pool", "priority", "lan", typed).text
    assert said == f"Pool lan: this node has priority {priority}.\n"
    assert storage.asked == [("spm_priority", bodies.SetSpmPriority(priority))]


def test_connect_joins_the_pool_of_what_lies_there(
    shell: Shell, storage: FakeStorage
) -> None:
    nas, spare = (storage.domains[each].storage_domain for each in (NAS, SPARE))
    fresh = storage.domains[FRESH].storage_domain
    storage.found = bodies.FoundStorageDomains((nas, fresh, spare))
    shell.ok("pool", "connect", "--nfs", "server:/export/nas")
    assert storage.asked == [
        LOOK,
        ("pool_connect", bodies.ConnectPool("", (nas, spare))),
    ]


def test_connect_chooses_among_the_pools_that_lie_there(
    shell: Shell, storage: FakeStorage
) -> None:
    nas, spare = (storage.domains[each].storage_domain for each in (NAS, SPARE))
    other = replace(spare, pool_id=PoolId(UNKNOWN))
    storage.found = bodies.FoundStorageDomains((nas, other))
    words = ["pool", "connect", "--nfs", "server:/export/nas"]
    ended = shell.run(*words)
    assert (ended.status, storage.asked) == (1, [LOOK])
    assert LAN in ended.err
    assert UNKNOWN in ended.err
    shell.ok(*words, "--pool", UNKNOWN, "--name", "second")
    assert storage.asked[2:] == [
        ("pool_connect", bodies.ConnectPool("second", (other,)))
    ]


def test_connect_says_so_when_no_pool_lies_there(
    shell: Shell, storage: FakeStorage
) -> None:
    storage.found = bodies.FoundStorageDomains((storage.domains[FRESH].storage_domain,))
    ended = shell.run("pool", "connect", "--nfs", "server:/export/nas")
    assert (ended.status, storage.asked) == (1, [LOOK])
    assert "storage look" in ended.err


# --- VMs with disks of a pool


def test_vm_is_made_with_its_disk_on_a_storage_domain(
    shell: Shell, storage: FakeStorage
) -> None:
    shell.called.clear()
    shell.bodies.clear()
    shell.run(*["vm", "create", "pooled", "--disk", "20G", "--storage-domain", "nas"])
    body = shell.bodies[shell.called.index("vm_create")]
    spec = wire.decode(CreateVm, body).spec
    (made,) = spec.disks
    assert (spec.pool_id, made.storage_domain_id, made.size_bytes) == (
        LAN,
        NAS,
        20 * GiB,
    )


def test_disk_of_a_pool_is_attached_as_it_is(
    shell: Shell, storage: FakeStorage
) -> None:
    storage.disks[DATA] = disk(DATA, "data", is_shared=True)
    shell.called.clear()
    shell.bodies.clear()
    words = "vm attach-disk idle data --read-only --bootable --interface virtio_scsi"
    shell.run(*words.split(), "--generation", "7")
    body = shell.bodies[shell.called.index("vm_attach_disk")]
    given = Disk(
        DATA,
        "data",
        20 * GiB,
        is_bootable=True,
        storage_domain_id=NAS,
        is_read_only=True,
        is_shared=True,
        interface=DiskInterface.VIRTIO_SCSI,
    )
    assert wire.decode(AttachDisk, body) == AttachDisk(given, generation=7)


def test_detach_names_the_run_elsewhere_that_let_the_disk_go(shell: Shell) -> None:
    shell.called.clear()
    shell.bodies.clear()
    words = "vm detach-disk idle root --lease-version 9 --generation 7"
    shell.run(*words.split())
    body = shell.bodies[shell.called.index("vm_detach_disk")]
    assert wire.decode(DetachDisk, body).lease_version == 9


@pytest.mark.parametrize(
    ("command", "request_"),
    [
        pytest.param("vm detach-disk idle root", DetachDisk, id="detach"),
        pytest.param("vm resize-disk idle root 30G", ResizeVmDisk, id="resize"),
    ],
)
def test_disk_of_a_vm_is_found_by_its_name_there(
    shell: Shell,
    storage: FakeStorage,
    command: str,
    request_: type[DetachDisk | ResizeVmDisk],
) -> None:
    spec = shell.agent.vms.show(IDLE).vm.spec
    shell.called.clear()
    shell.bodies.clear()
    shell.run(*command.split(), "--generation", "7")
    verb = command.split()[1].replace("-", "_")
    asked = wire.decode(request_, shell.bodies[shell.called.index(f"vm_{verb}")])
    assert (asked.disk_id, asked.generation) == (spec.disks[0].disk_id, 7)
    ended = shell.run(*command.replace("root", "none").split())
    assert (ended.status, "vm show" in ended.err) == (1, True)


def test_vm_is_not_made_on_a_storage_domain_of_no_pool(
    shell: Shell, storage: FakeStorage
) -> None:
    shell.called.clear()
    ended = shell.run(*["vm", "create", "pooled", "--storage-domain", "fresh"])
    assert (ended.status, "vm_create" in shell.called) == (1, False)
    assert "storage attach" in ended.err


def test_vm_of_an_image_is_made_on_a_storage_domain(
    shell: Shell, storage: FakeStorage
) -> None:
    shell.called.clear()
    shell.bodies.clear()
    shell.run("vm", "create", "pooled", "--storage-domain", "nas", "--image", "debian")
    asked = wire.decode(CreateVm, shell.bodies[shell.called.index("vm_create")])
    (disk,) = asked.spec.disks
    assert (disk.image, disk.size_bytes) == ("debian", 0)
    assert disk.storage_domain_id is not None


@pytest.mark.parametrize("ends_well", [True, False])
def test_vm_whose_disk_takes_long_is_made_when_that_is_done(
    tmp_path: Path, ends_well: bool
) -> None:
    volumes = FakeVolumes(NODE_ID, is_shared=False)
    agent = FakeAgent(tmp_path, volumes=volumes)
    begun: list[JobId] = []

    def copy(_progress: Progress) -> None:
        if not ends_well:
            raise Refused("the storage is full")

    def make_disk(_vm: Vm) -> None:
        if not begun:
            words = ("disk_create", Kind.DISK, DISK.disk_id, copy)
            begun.append(agent.jobs.submit(*words, job_id=None).job_id)
            raise DiskBusy("it is copied", job_id=begun[0])

    volumes.on_make = make_disk
    request = CreateVm(of_pool(SPEC))
    (tmp_path / "spec").write_bytes(wire.encode(wire.to_json(request)))
    with serving(agent, tmp_path) as shell:
        ended = shell.run("vm", "create", "--spec", str(tmp_path / "spec"))
    assert (ended.status, SPEC.name in ended.text) == (int(not ends_well), ends_well)
    assert "disk_create" in ended.err
    assert (SPEC.vm_id in volumes.storage.definitions) == ends_well


# --- jobs


def test_job_is_left_to_itself_when_nobody_waits(
    shell: Shell, storage: FakeStorage
) -> None:
    ended = shell.ok("disk", "move", "root", "spare", "--no-wait")
    assert ("disk_move" in ended.text, ended.err) == (True, "")
    job = shell.ok("--json", "disk", "move", "root", "spare", "--no-wait").json
    assert (job["verb"], job["object_id"]) == ("disk_move", ROOT)


def test_job_that_fails_says_what_to_do(shell: Shell, storage: FakeStorage) -> None:
    storage.refusal = Refused("it is not the time")
    ended = shell.run("storage", "activate", "spare")
    assert (ended.status, ended.out) == (1, b"")
    assert "it is not the time\nWait for the full moon." in ended.err


# --- what is asked first


@pytest.mark.parametrize(
    ("command", "said"),
    [
        pytest.param("storage detach spare", "disks stay on it", id="detach"),
        pytest.param("storage remove fresh", "What is on it stays", id="forget"),
        pytest.param("storage remove fresh --format", "Destroy fresh", id="destroy"),
        pytest.param("pool disconnect lan", "uses it no more", id="disconnect"),
        pytest.param(
            "pool move-master lan spare --reconstruct", "lost", id="reconstruct"
        ),
        pytest.param("disk delete root", "all its snapshots", id="delete"),
    ],
)
def test_what_cannot_be_undone_is_asked_first(
    shell: Shell, storage: FakeStorage, command: str, said: str
) -> None:
    ended = shell.run(*command.split(), typed="n\n")
    assert (ended.status, storage.asked) == (1, [])
    assert said in ended.text
    shell.ok(*command.split(), typed="y\n")
    assert len(storage.asked) == 1


@pytest.mark.parametrize(
    ("command", "said"),
    [
        pytest.param("storage look", "one of --nfs, --local", id="no-place"),
        pytest.param("storage look --nfs a:/b --local /c", "one of", id="two-places"),
        pytest.param("storage look --nfs server", "SERVER:/EXPORT", id="no-export"),
        pytest.param("storage look --nfs :/b", "SERVER:/EXPORT", id="no-server"),
        pytest.param(
            "storage look --local /a --file-system xfs", "--posix", id="type-of-local"
        ),
        pytest.param(
            "storage look --posix a --nfs-version 3", "--nfs", id="version-of-posix"
        ),
        pytest.param(
            "storage look --local /a --mount-options ro", "mounted", id="options"
        ),
        pytest.param("disk create new nas much", "is not a size", id="size"),
        pytest.param(
            "disk create new nas 1G --limit speed=1", "total_iops", id="limit"
        ),
        pytest.param("disk create new nas 1G --limit total_iops", "size", id="bare"),
        pytest.param("pool priority lan 11", "-1 to 10", id="priority"),
        pytest.param("pool priority lan -2", "-1 to 10", id="priority-low"),
        pytest.param("pool priority lan much", "never, low", id="priority-word"),
    ],
)
def test_what_makes_no_sense_is_no_request(
    shell: Shell, storage: FakeStorage, command: str, said: str
) -> None:
    ended = shell.run(*command.split())
    assert (ended.status, storage.asked) == (2, [])
    assert said in ended.err


@pytest.mark.parametrize(
    ("command", "remedy"),
    [
        pytest.param("storage show x", "storage list", id="storage"),
        pytest.param("pool show x", "pool list", id="pool"),
        pytest.param("disk show x", "disk list", id="disk"),
        pytest.param("disk move root x", "storage list", id="target"),
        pytest.param("disk show twin", "the id", id="name-of-two"),
    ],
)
def test_name_that_is_not_clear_is_refused(
    shell: Shell, storage: FakeStorage, command: str, remedy: str
) -> None:
    for disk_id in (ROOT, DATA):
        if "twin" in command:
            storage.disks[disk_id] = disk(disk_id, "twin")
    ended = shell.run(*command.split())
    assert (ended.status, ended.out, storage.asked) == (1, b"", [])
    assert remedy in ended.err


# --- check and repair


def test_check_explains_each_problem_and_its_repair(
    shell: Shell, storage: FakeStorage
) -> None:
    shown = shell.ok("storage", "check", "nas").text
    for said in (
        "disks read: 7; with problems: 2",
        f"Disk root ({ROOT})",
        "merge not recorded, volume",
        "A merge was finished in the data and not in the metadata.",
        "→ mark the merged volume as unusable",
        "No repair is offered: a person decides.",
        "storage repair nas --yes",
    ):
        assert said in shown
    assert max(map(len, shown.splitlines())) < 80
    told = shell.ok("--json", "storage", "check", "nas").json
    assert [each["kind"] for each in told["problems"]] == [
        "merge_not_recorded",
        "data_missing",
    ]


def test_check_tells_all_of_a_disk_at_once(shell: Shell, storage: FakeStorage) -> None:
    first, second = PROBLEMS.problems
    later = replace(first, kind="lease_missing")
    storage.problems = bodies.StorageProblems((first, second, later), 7)
    shown = shell.ok("storage", "check", "nas").text
    assert shown.count(ROOT) == 1
    assert shown.index("merge not recorded") < shown.index("lease missing")
    assert shown.index("lease missing") < shown.index("data missing")


def test_check_says_when_all_is_well(shell: Shell, storage: FakeStorage) -> None:
    storage.problems = bodies.StorageProblems((), 7)
    shown = shell.ok("storage", "check", "nas").text
    assert shown == "nas: disks read: 7; with problems: 0\n"


def test_check_tells_of_what_was_not_read(shell: Shell, storage: FakeStorage) -> None:
    storage.problems = bodies.StorageProblems((), 7, 5, 3)
    damaged = Reason("storage_domain_damaged", SINCE, {"name": "nas", "detail": "x"})
    storage.domains[NAS] = storage_domain(NAS, "nas", problems=(damaged,))
    shown = shell.ok("storage", "check", "nas").text
    assert "disks not read, because they are too many: 5" in shown
    assert "are none of ours and are left alone: 3" in shown
    assert "nas is damaged: x" in shown


def test_repair_is_a_dry_run_unless_told(shell: Shell, storage: FakeStorage) -> None:
    shown = shell.ok("storage", "repair", "nas").text
    assert storage.asked == []
    assert "can be repaired: 1; left to a person: 1" in shown
    assert "nothing was changed" in shown
    assert "→ mark the merged volume as unusable" in shown
    assert "Its data are gone" not in shown


def test_repair_mends_and_says_what_is_left(shell: Shell, storage: FakeStorage) -> None:
    ended = shell.ok("storage", "repair", "nas", "--yes")
    assert storage.asked == [("storage_domain_repair", bodies.RepairStorage())]
    assert "storage_domain_repair: done" in ended.err
    assert "Its data are gone" in ended.text
    told = shell.ok("--json", "storage", "repair", "nas", "--yes").json
    assert told["disks_read"] == 7


def test_repair_of_one_disk_leaves_the_others(
    shell: Shell, storage: FakeStorage
) -> None:
    shown = shell.ok("storage", "repair", "nas", "--disk", "data", "--yes").text
    assert storage.asked == []  # it offers nothing for that one
    assert "Its data are gone" in shown
    assert "A merge" not in shown
    shell.ok("storage", "repair", "nas", "--disk", "root", "--yes")
    assert storage.asked == [("storage_domain_repair", bodies.RepairStorage(ROOT))]


# --- what people read


@pytest.mark.parametrize(
    ("command", "shown", "field"),
    [
        pytest.param("storage list", "40.0 GiB", "storage_domains", id="storages"),
        pytest.param("storage show nas", "nfs server:/export/nas", "state", id="one"),
        pytest.param(
            "storage look --nfs server:/export/nas", LAN, "storage_domains", id="look"
        ),
        pytest.param("pool list", "manager", "pools", id="pools"),
        pytest.param("pool show lan", "nas, version 1", "spm", id="pool"),
        pytest.param("disk list", "20.0 GiB", "disks", id="disks"),
        pytest.param("disk show root", "qcow2, thin, data", "chain", id="disk"),
    ],
)
def test_command_shows_text_and_json(
    shell: Shell, storage: FakeStorage, command: str, shown: str, field: str
) -> None:
    assert shown in shell.ok(*command.split()).text
    assert field in shell.ok("--json", *command.split()).json


def test_lists_name_what_belongs_together(shell: Shell, storage: FakeStorage) -> None:
    by_name = {
        words[0]: words
        for words in map(str.split, shell.ok("storage", "list").text.splitlines())
    }
    assert "lan" in by_name["nas"]
    assert "unattached" in by_name["fresh"]
    assert "nas" in shell.ok("disk", "list").text


def test_a_state_that_is_not_wanted_says_why(
    shell: Shell, storage: FakeStorage
) -> None:
    why = {"name": "nas", "node": "oak", "detail": "no answer for 30 s"}
    reason = Reason("storage_domain_unreachable", SINCE, why)
    storage.domains[NAS] = storage_domain(
        NAS, "nas", state=DomainState.UNREACHABLE, reason=reason
    )
    storage.disks[ROOT] = disk(ROOT, "root", state=DiskState.UNREACHABLE, reason=reason)
    for command in ("storage list", "disk list"):
        assert "no answer for 30 s" in shell.ok(*command.split()).text
    for command in ("storage show nas", "disk show root"):
        shown = shell.ok(*command.split()).text
        assert "no answer for 30 s" in shown
        assert "Check the server" in shown


def test_pool_tells_whose_the_reason_is_and_who_was_never_heard(
    shell: Shell, storage: FakeStorage
) -> None:
    known = storage.pools[LAN]
    lost = Reason("spm_lost", SINCE, {"detail": "no renewal"})
    (member,) = known.members
    storage.pools[LAN] = replace(
        known,
        spm=replace(known.spm, reason=lost),
        members=(member, replace(member, host_id=2, silence_s=1e9)),
    )
    shown = shell.ok("pool", "show", "lan").text
    assert f"Node {known.node_id} lost the lease of pool lan: no renewal" in shown
    assert [line.count("never heard") for line in shown.splitlines()[-2:]] == [0, 1]


def test_look_says_when_nothing_lies_there(shell: Shell, storage: FakeStorage) -> None:
    damaged = Reason("storage_domain_damaged", SINCE, {"name": "x", "detail": "y"})
    storage.found = bodies.FoundStorageDomains((), (damaged,))
    shown = shell.ok("storage", "look", "--local", "/srv").text
    assert "No storage domain lies there." in shown
    assert "x is damaged: y" in shown


def test_problems_travel_whole(shell: Shell, storage: FakeStorage) -> None:
    told = shell.ok("--json", "storage", "repair", "nas").json
    assert len(told["problems"]) == len(PROBLEMS.problems)
    assert json.dumps(told)


def test_job_that_failed_keeps_its_remedy(shell: Shell, storage: FakeStorage) -> None:
    storage.refusal = Refused("it is not the time")
    words = ("--json", "disk", "move", "root", "spare", "--no-wait")
    job_id = shell.ok(*words).json["job_id"]
    shell.agent.settle()
    shown = shell.ok("job", "show", job_id).text
    assert "it is not the time" in shown
    assert "→ Wait for the full moon." in shown


# --- what came with a storage domain


def test_unregistered_lists_what_waits_and_what_cannot_be_read(
    shell: Shell, storage: FakeStorage
) -> None:
    fields = {"name": "old", "detail": "it is cut off"}
    reason = Reason("unregistered_vm_damaged", SINCE, fields)
    storage.waiting = replace(storage.waiting, problems=(reason,))
    head, line, *problem = shell.ok("storage", "unregistered", "nas").text.splitlines()
    assert head.split()[:3] == ["VM", "ID", "FROM"]
    assert line.split() == [
        *("came", WAITING.spec.vm_id, "ovf_store", "1.0", "GiB"),
        *("0", "1", "2", "may", "run"),
    ]
    assert "VM old cannot be registered: it is cut off" in " ".join(problem)


def test_register_of_what_does_not_wait_says_so(shell: Shell) -> None:
    ended = shell.run("storage", "register", "nas", "none")
    assert (ended.status, "no VM named none waits there" in ended.err) == (1, True)


@pytest.mark.parametrize("text", ["a", "=b"], ids=["no-sign", "no-source"])
def test_register_refuses_a_change_of_networks_that_is_none(
    shell: Shell, text: str
) -> None:
    ended = shell.run("storage", "register", "nas", "came", "--network", text)
    assert (ended.status, "no change of a network" in ended.err) == (1, True)
