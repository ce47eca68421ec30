"""The verbs on disks: what they do, refuse, and do again when asked twice."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from node.contract import definitions
from node.contract.definitions import DiskGone, DiskMoved
from node.model.ids import DiskId, JobId, SnapshotId, StorageDomainId, VmId
from node.model.job import Job, JobState
from node.model.storage import Allocation, ContentType, DiskFormat, DiskQos
from node.model.storage_requests import (
    ActOnDisk,
    ChangeDisk,
    CopyDisk,
    MoveDisk,
    ResizeDisk,
    SparsifyDisk,
)
from node.model.vm import Disk, Preview, TemplateMark, Vm, VmSpec
from node.storage import documents
from node.storage.disks.chain_problems import Kind
from node.storage.disks.sights import ImageSight
from node.storage.disks.tasks import Named
from node.storage.disks.work import Asked
from node.storage.documents import DiskFacts
from node.storage.formats import disk_options
from node.storage.formats.disk_options import DiskOptions
from node.storage.formats.volume_meta import Legality
from node.units import MiB
from tests.contract.disks import code_of
from tests.fakes.guard import Outcome
from tests.fakes.qemu_img import header
from tests.unit.node.storage import pool_disks
from tests.unit.node.storage.examples import IMAGE, OTHER_IMAGE, OTHER_SD, SD
from tests.unit.node.storage.images import name
from tests.unit.node.storage.pool_disks import (
    SIZE,
    Agent,
    new_disk,
    put,
    volume_of,
)

NOTHING = ActOnDisk()
THIRD_IMAGE = "11111111-2222-4333-8444-555555555555"
JOB = JobId("5cc55a2c-0000-4000-8000-000000000001")
OTHER = StorageDomainId(OTHER_SD)
AT = "2026-11-22T08:00:00.000Z"


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Agent]:
    with pool_disks.managing(tmp_path) as made:
        yield made


def done(one: Agent, job: Job) -> Job:
    ended = one.end_of(job)
    assert ended.state is JobState.DONE, ended.error
    assert one.journals() == []
    return ended


def put_image(one: Agent, size_bytes: int = SIZE) -> None:
    path = one.world.folder / "images" / "debian.qcow2"
    path.parent.mkdir()
    path.write_bytes(header(size_bytes).ljust(size_bytes, b"d"))


def see(one: Agent, disk_id: str = IMAGE) -> ImageSight:
    (sight,) = one.catalog.find(disk_id)
    assert sight.problems == ()
    return sight


def chain_of_two(one: Agent) -> None:
    """Make a disk with a snapshot."""
    done(one, one.disks.create(new_disk(IMAGE, disk_format=DiskFormat.QCOW2)))
    made = one.disks.add_volume(IMAGE, name(1), volume_of(IMAGE), Asked())
    done(one, made)


def make_template(one: Agent) -> None:
    done(one, one.disks.create(new_disk(IMAGE, disk_format=DiskFormat.QCOW2)))
    done(one, one.disks.make_template(IMAGE, NOTHING))


def test_create_makes_a_disk_that_is_known_at_once(one: Agent) -> None:
    job = done(one, one.disks.create(new_disk(IMAGE)))
    assert (job.verb, job.object_id) == ("disk_create", IMAGE)
    sight = see(one)
    assert (sight.name, sight.size_bytes) == ("root", SIZE)
    assert sight.volumes == (volume_of(IMAGE),)
    assert one.news
    assert one.work.lock_owners() == {}


def test_create_asked_again_is_so_already(one: Agent) -> None:
    first = done(one, one.disks.create(new_disk(IMAGE, JOB)))
    assert one.disks.create(new_disk(IMAGE, JOB)) == first
    again = done(one, one.disks.create(new_disk(IMAGE)))
    assert again.job_id != first.job_id


def test_create_clones_a_template(one: Agent) -> None:
    make_template(one)
    request = new_disk(
        OTHER_IMAGE, disk_format=DiskFormat.QCOW2, from_disk_id=DiskId(IMAGE)
    )
    done(one, one.disks.create(request))
    sight = see(one, OTHER_IMAGE)
    assert (sight.volumes, sight.template) == (
        (volume_of(OTHER_IMAGE),),
        volume_of(IMAGE),
    )


def test_create_copies_a_base_image(one: Agent) -> None:
    put_image(one)
    done(one, one.disks.create(new_disk(IMAGE), "debian"))
    assert see(one).volumes == (volume_of(IMAGE),)
    volume = one.folder(IMAGE) / volume_of(IMAGE)
    assert volume.read_bytes() == header(SIZE).ljust(SIZE, b"d")


def test_delete_removes_a_disk(one: Agent) -> None:
    done(one, one.disks.create(new_disk(IMAGE)))
    request = ActOnDisk(job_id=JOB)
    job = done(one, one.disks.delete(IMAGE, request))
    assert one.catalog.find(IMAGE) == ()
    assert not one.folder(IMAGE).exists()
    assert one.disks.delete(IMAGE, request) == job
    assert code_of(lambda: one.disks.delete(IMAGE, NOTHING)) == "disk_missing"


def test_resize_lets_a_disk_grow(one: Agent) -> None:
    done(one, one.disks.create(new_disk(IMAGE)))
    for _ in range(2):
        done(one, one.disks.resize(IMAGE, ResizeDisk(2 * SIZE)))
    assert see(one).size_bytes == 2 * SIZE


def test_change_keeps_what_is_not_named(one: Agent) -> None:
    done(one, one.disks.create(new_disk(IMAGE, description="of web")))
    done(one, one.disks.change(IMAGE, ChangeDisk(name="data")))
    assert (see(one).name, see(one).description) == ("data", "of web")
    done(one, one.disks.change(IMAGE, ChangeDisk(description="old")))
    assert (see(one).name, see(one).description) == ("data", "old")


def test_copy_makes_a_disk_of_its_own(one: Agent) -> None:
    done(one, one.disks.create(new_disk(IMAGE)))
    request = CopyDisk(DiskId(OTHER_IMAGE), OTHER, name="copy")
    job = done(one, one.disks.copy(IMAGE, request))
    assert job.object_id == OTHER_IMAGE
    sight = see(one, OTHER_IMAGE)
    assert (sight.storage_domain_id, sight.name) == (OTHER_SD, "copy")
    assert sight.size_bytes == see(one).size_bytes
    done(one, one.disks.copy(IMAGE, request))


def test_copy_puts_a_template_in_one_more_place(one: Agent) -> None:
    make_template(one)
    done(one, one.disks.copy(IMAGE, CopyDisk(DiskId(IMAGE), OTHER)))
    copies = one.catalog.find(IMAGE)
    assert [each.storage_domain_id for each in copies] == [SD, OTHER_SD]
    assert len({each.volumes for each in copies}) == 1
    assert all(each.is_template for each in copies)
    assert code_of(lambda: one.disks.delete(IMAGE, NOTHING)) == (
        "disk_in_several_places"
    )
    there = ActOnDisk(storage_domain_id=OTHER)
    done(one, one.disks.delete(IMAGE, there))
    assert [each.storage_domain_id for each in one.catalog.find(IMAGE)] == [SD]
    last = ActOnDisk(storage_domain_id=StorageDomainId(SD))
    assert code_of(lambda: one.disks.delete(IMAGE, last)) == "disk_last_copy"
    assert [each.storage_domain_id for each in one.catalog.find(IMAGE)] == [SD]


def test_delete_keeps_a_copy_that_clones_are_built_on(one: Agent) -> None:
    _template_with_a_clone(one)
    done(one, one.disks.copy(IMAGE, CopyDisk(DiskId(IMAGE), OTHER)))
    used = ActOnDisk(storage_domain_id=StorageDomainId(SD))
    assert code_of(lambda: one.disks.delete(IMAGE, used)) == "template_in_use"
    assert len(one.catalog.find(IMAGE)) == 2


def test_delete_of_a_copy_refuses_a_disk_that_is_no_template(one: Agent) -> None:
    _raw(one)
    here = ActOnDisk(storage_domain_id=StorageDomainId(SD))
    assert code_of(lambda: one.disks.delete(IMAGE, here)) == "disk_last_copy"


def test_move_takes_a_disk_elsewhere(one: Agent) -> None:
    chain_of_two(one)
    done(one, one.disks.move(IMAGE, MoveDisk(OTHER)))
    sight = see(one)
    assert sight.storage_domain_id == OTHER_SD
    assert sight.volumes == (volume_of(IMAGE), name(1))
    assert not one.folder(IMAGE).exists()


def test_move_takes_a_clone_to_a_copy_of_its_template(one: Agent) -> None:
    make_template(one)
    clone = new_disk(
        OTHER_IMAGE, disk_format=DiskFormat.QCOW2, from_disk_id=DiskId(IMAGE)
    )
    done(one, one.disks.create(clone))
    move = one.disks.move
    assert code_of(lambda: move(OTHER_IMAGE, MoveDisk(OTHER))) == "template_elsewhere"
    done(one, one.disks.copy(IMAGE, CopyDisk(DiskId(IMAGE), OTHER)))
    done(one, move(OTHER_IMAGE, MoveDisk(OTHER)))
    assert see(one, OTHER_IMAGE).template == volume_of(IMAGE)


def test_sparsify_makes_the_leaf_anew(one: Agent) -> None:
    done(one, one.disks.create(new_disk(IMAGE)))
    before = (one.folder(IMAGE) / volume_of(IMAGE)).stat().st_ino
    done(one, one.disks.sparsify(IMAGE, SparsifyDisk()))
    assert (one.folder(IMAGE) / volume_of(IMAGE)).stat().st_ino != before
    assert see(one).size_bytes == SIZE


def test_add_volume_and_merge_come_back_to_one_volume(one: Agent) -> None:
    chain_of_two(one)
    assert see(one).volumes == (volume_of(IMAGE), name(1))
    for _ in range(2):
        done(one, one.disks.merge(IMAGE, volume_of(IMAGE), name(1), Asked()))
    assert see(one).volumes == (volume_of(IMAGE),)


def test_discard_removes_a_branch(one: Agent) -> None:
    chain_of_two(one)
    done(one, one.disks.discard(IMAGE, name(1), volume_of(IMAGE), Asked()))
    assert see(one).volumes == (volume_of(IMAGE),)


def test_repair_mends_what_check_found(one: Agent) -> None:
    done(one, one.disks.create(new_disk(IMAGE)))
    (one.folder(IMAGE) / f"{volume_of(IMAGE)}.lease").unlink()
    access = one.pool.access(SD)
    (found,) = one.catalog.check(access)
    repair = one.disks.repair
    done(one, repair(IMAGE, Kind(found.kind), found.volume_id, Asked()))
    assert one.catalog.check(access) == ()
    done(one, repair(IMAGE, Kind(found.kind), found.volume_id, Asked()))


def _template_with_a_clone(one: Agent) -> None:
    make_template(one)
    pool_disks.link(one.pool.access(SD), IMAGE, OTHER_IMAGE, volume_of(IMAGE))
    put(one.pool.access(SD), OTHER_IMAGE, name(1), parent_id=volume_of(IMAGE))
    one.catalog.refresh(one.pool.access(SD))


def _raw(one: Agent) -> None:
    done(one, one.disks.create(new_disk(IMAGE)))


def _moved(one: Agent) -> None:
    _raw(one)
    done(one, one.disks.create(new_disk(THIRD_IMAGE)))
    done(one, one.disks.move(IMAGE, MoveDisk(OTHER)))


def _resting(one: Agent) -> None:
    _raw(one)
    one.pool.maintain(OTHER_SD)


def _illegal(one: Agent) -> None:
    put(one.pool.access(SD), IMAGE, name(0), legality=Legality.ILLEGAL)


def _in_use(one: Agent) -> None:
    chain_of_two(one)
    one.running[IMAGE] = "vm-1"


def _not_manager(one: Agent) -> None:
    _raw(one)
    one.pool.spm.leave()


REFUSED: dict[str, tuple[Callable[[Agent], None], Callable[[Agent], Job], str]] = {
    "not-manager": (
        _not_manager,
        lambda one: one.disks.delete(IMAGE, NOTHING),
        "not_spm",
    ),
    "create-on-a-resting-storage-domain": (
        _resting,
        lambda one: one.disks.create(new_disk(OTHER_IMAGE, storage_domain_id=OTHER_SD)),
        "storage_domain_inactive",
    ),
    "create-on-an-unknown-storage-domain": (
        _raw,
        lambda one: one.disks.create(
            new_disk(OTHER_IMAGE, storage_domain_id=THIRD_IMAGE)
        ),
        "storage_domain_not_in_pool",
    ),
    "move-to-a-resting-storage-domain": (
        _resting,
        lambda one: one.disks.move(IMAGE, MoveDisk(OTHER)),
        "storage_domain_inactive",
    ),
    "create-with-a-bad-id": (
        _raw,
        lambda one: one.disks.create(new_disk("../x")),
        "bad_storage_id",
    ),
    "create-of-no-size": (
        _raw,
        lambda one: one.disks.create(new_disk(OTHER_IMAGE, size_bytes=0)),
        "bad_disk_size",
    ),
    "create-where-another-disk-is": (
        _raw,
        lambda one: one.disks.create(new_disk(IMAGE, size_bytes=3 * SIZE)),
        "disk_exists",
    ),
    "create-once-more-after-a-move": (
        _moved,
        lambda one: one.disks.create(new_disk(IMAGE)),
        "disk_exists",
    ),
    "copy-once-more-after-a-move": (
        _moved,
        lambda one: one.disks.copy(
            THIRD_IMAGE, CopyDisk(DiskId(IMAGE), StorageDomainId(SD))
        ),
        "disk_exists",
    ),
    "create-without-space": (
        _raw,
        lambda one: one.disks.create(
            new_disk(
                OTHER_IMAGE, size_bytes=1 << 50, allocation=Allocation.PREALLOCATED
            )
        ),
        "storage_domain_lacks_space",
    ),
    "create-of-an-image-that-nobody-has": (
        _raw,
        lambda one: one.disks.create(new_disk(OTHER_IMAGE), "../secret"),
        "base_image_unknown",
    ),
    "create-smaller-than-its-image": (
        lambda one: put_image(one, SIZE + 512),
        lambda one: one.disks.create(new_disk(OTHER_IMAGE), "debian"),
        "bad_disk_size",
    ),
    "create-with-limits-that-exclude-each-other": (
        _raw,
        lambda one: one.disks.create(new_disk(OTHER_IMAGE, qos=DiskQos(5, 5))),
        "bad_disk_qos",
    ),
    "create-with-a-limit-below-zero": (
        _raw,
        lambda one: one.disks.create(new_disk(OTHER_IMAGE, qos=DiskQos(-1))),
        "bad_disk_qos",
    ),
    "create-a-shared-qcow2-disk": (
        _raw,
        lambda one: one.disks.create(
            new_disk(OTHER_IMAGE, disk_format=DiskFormat.QCOW2, is_shared=True)
        ),
        "disk_not_shareable",
    ),
    "create-an-ovf-store": (
        _raw,
        lambda one: one.disks.create(
            new_disk(OTHER_IMAGE, content=ContentType.OVF_STORE)
        ),
        "disk_option_unsupported",
    ),
    "clone-of-no-template": (
        _raw,
        lambda one: one.disks.create(
            new_disk(
                OTHER_IMAGE, disk_format=DiskFormat.QCOW2, from_disk_id=DiskId(IMAGE)
            )
        ),
        "not_a_template",
    ),
    "delete-a-template-with-users": (
        _template_with_a_clone,
        lambda one: one.disks.delete(IMAGE, NOTHING),
        "template_in_use",
    ),
    "resize-an-illegal-disk": (
        _illegal,
        lambda one: one.disks.resize(IMAGE, ResizeDisk(2 * SIZE)),
        "image_damaged",
    ),
    "shrink": (
        _raw,
        lambda one: one.disks.resize(IMAGE, ResizeDisk(SIZE // 2)),
        "disk_shrinks",
    ),
    "copy-a-snapshot-of-no-volume": (
        _raw,
        lambda one: one.disks.copy(
            IMAGE, CopyDisk(DiskId(OTHER_IMAGE), OTHER, snapshot_id=SnapshotId("s"))
        ),
        "snapshot_unresolved",
    ),
    "copy-to-its-own-id": (
        _raw,
        lambda one: one.disks.copy(IMAGE, CopyDisk(DiskId(IMAGE), OTHER)),
        "not_a_template",
    ),
    "move-to-where-it-is": (
        _raw,
        lambda one: one.disks.move(IMAGE, MoveDisk(StorageDomainId(SD))),
        "disk_is_there",
    ),
    **{
        f"{verb}-in-use": (_in_use, act, "disk_in_use")
        for verb, act in (
            ("delete", lambda one: one.disks.delete(IMAGE, NOTHING)),
            ("resize", lambda one: one.disks.resize(IMAGE, ResizeDisk(2 * SIZE))),
            ("move", lambda one: one.disks.move(IMAGE, MoveDisk(OTHER))),
            ("sparsify", lambda one: one.disks.sparsify(IMAGE, SparsifyDisk())),
            (
                "merge",
                lambda one: one.disks.merge(IMAGE, volume_of(IMAGE), name(1), Asked()),
            ),
            (
                "copy",
                lambda one: one.disks.copy(IMAGE, CopyDisk(DiskId(OTHER_IMAGE), OTHER)),
            ),
        )
    },
}


@pytest.mark.parametrize(("before", "act", "code"), REFUSED.values(), ids=REFUSED)
def test_verbs_refuse_at_once(
    one: Agent,
    before: Callable[[Agent], None],
    act: Callable[[Agent], Job],
    code: str,
) -> None:
    before(one)
    jobs = len(one.jobs.list())
    assert code_of(lambda: act(one)) == code
    assert len(one.jobs.list()) == jobs
    assert one.work.lock_owners() == {}


def test_refusal_names_who_manages(one: Agent) -> None:
    one.pool.spm.leave()
    one.moods.add("is succeeded")
    with pytest.raises(Exception, match="node-9 manages") as caught:
        one.disks.create(new_disk(IMAGE))
    assert getattr(caught.value, "fields", {})["node_id"] == "node-9"


def test_refusal_names_the_users_of_a_template(one: Agent) -> None:
    _template_with_a_clone(one)
    with pytest.raises(Exception, match=OTHER_IMAGE):
        one.disks.delete(IMAGE, NOTHING)


def test_job_id_of_something_else_is_refused(one: Agent) -> None:
    done(one, one.disks.create(new_disk(IMAGE, JOB)))
    request = ActOnDisk(job_id=JOB)
    assert code_of(lambda: one.disks.delete(IMAGE, request)) == "job_id_taken"


def test_failed_program_is_told_and_leaves_nothing(one: Agent) -> None:
    one.guard.programs["qemu-img"] = lambda _argv: Outcome(1, stderr="bad image")
    full = new_disk(
        IMAGE, disk_format=DiskFormat.QCOW2, allocation=Allocation.PREALLOCATED
    )
    ended = one.end_of(one.disks.create(full))
    assert ended.error is not None
    assert ended.error.code == "storage_program_failed"
    assert one.journals() == []
    assert one.work.lock_owners() == {}
    assert one.catalog.find(IMAGE) == ()


PYTHON = PurePosixPath(os.path.realpath(sys.executable)).name
LIMITS = DiskQos(total_iops=500, read_bytes_s=1 << 20)


def options_of(one: Agent, disk_id: str, storage_domain_id: str = SD) -> Path:
    return Path(one.world.access(storage_domain_id).layout.disk_options(disk_id))


def make_with_options(one: Agent) -> None:
    request = new_disk(IMAGE, is_shared=True, wipe_after_delete=True, qos=LIMITS)
    done(one, one.disks.create(request))


def test_options_of_a_new_disk_are_kept_and_follow_changes(one: Agent) -> None:
    make_with_options(one)
    assert see(one).options == DiskOptions(True, True, LIMITS)
    done(one, one.disks.change(IMAGE, ChangeDisk(is_shared=False)))
    assert see(one).options == DiskOptions(False, True, LIMITS)
    document = documents.disk(None, [see(one)], DiskFacts(), AT)
    assert (document.is_shared, document.wipe_after_delete) == (False, True)
    assert document.qos == LIMITS
    plain = ChangeDisk(wipe_after_delete=False, qos=DiskQos())
    done(one, one.disks.change(IMAGE, plain))
    assert see(one).options == DiskOptions()
    assert not options_of(one, IMAGE).exists()


def test_options_go_where_the_disk_goes(one: Agent) -> None:
    make_with_options(one)
    done(one, one.disks.copy(IMAGE, CopyDisk(DiskId(OTHER_IMAGE), OTHER)))
    assert see(one, OTHER_IMAGE).options == see(one).options
    one.guard.programs[PYTHON] = lambda _argv: Outcome()  # wipes
    done(one, one.disks.move(IMAGE, MoveDisk(OTHER)))
    assert see(one).options == DiskOptions(True, True, LIMITS)
    assert not options_of(one, IMAGE).exists()
    done(one, one.disks.delete(IMAGE, NOTHING))
    assert not options_of(one, IMAGE, OTHER_SD).exists()


def test_copy_as_qcow2_is_not_shared(one: Agent) -> None:
    make_with_options(one)
    request = CopyDisk(DiskId(OTHER_IMAGE), OTHER, disk_format=DiskFormat.QCOW2)
    done(one, one.disks.copy(IMAGE, request))
    (copy,) = one.catalog.find(OTHER_IMAGE)
    assert copy.options == DiskOptions(False, True, LIMITS)


@pytest.mark.parametrize("is_wiped", [True, False], ids=["wiped", "plain"])
def test_delete_wipes_what_is_to_be_wiped(one: Agent, is_wiped: bool) -> None:
    done(one, one.disks.create(new_disk(IMAGE, wipe_after_delete=is_wiped)))
    wiped: list[tuple[str, ...]] = []

    def wipe(argv: tuple[str, ...]) -> Outcome:
        wiped.append(argv)
        return Outcome()

    one.guard.programs[PYTHON] = wipe
    done(one, one.disks.delete(IMAGE, NOTHING))
    assert [Path(argv[-1]).name for argv in wiped] == [volume_of(IMAGE)] * is_wiped


def test_damaged_options_are_told_count_as_wiping_and_can_be_set(one: Agent) -> None:
    make_with_options(one)
    options_of(one, IMAGE).write_bytes(b"{}")
    found = [each.kind for each in one.work.check(SD)]
    assert found == [Kind.OPTIONS_DAMAGED]
    assert see(one).options == disk_options.DAMAGED
    done(one, one.disks.change(IMAGE, ChangeDisk(is_shared=True)))
    assert see(one).options == DiskOptions(True, True)
    assert one.work.check(SD) == ()


def test_options_without_their_disk_are_found_and_forgotten(one: Agent) -> None:
    make_with_options(one)
    text = options_of(one, IMAGE).read_text().replace(IMAGE, OTHER_IMAGE)
    options_of(one, OTHER_IMAGE).write_text(text)
    (finding,) = one.work.check(SD)
    assert (finding.kind, finding.image_id) == (Kind.OPTIONS_LEFT, OTHER_IMAGE)
    where = (OTHER_IMAGE, Kind.OPTIONS_LEFT, "", Asked(), StorageDomainId(SD))
    done(one, one.disks.repair(*where))
    assert not options_of(one, OTHER_IMAGE).exists()
    assert one.work.check(SD) == ()


VM_ID = VmId("aaaaaaaa-0000-4000-8000-000000000001")


def named(**fields: Any) -> Named:
    """Return the definition of a VM that has the disk."""
    disk = Disk(DiskId(IMAGE), "root", MiB, storage_domain_id=StorageDomainId(SD))
    spec = VmSpec(VM_ID, "web", MiB, disks=(disk,))
    return Named(Vm(spec, 1, AT, **fields), SD)


def test_definition_follows_a_disk_that_is_moved(one: Agent) -> None:
    _raw(one)
    one.named[IMAGE] = named()
    done(one, one.disks.move(IMAGE, MoveDisk(OTHER)))
    (text,) = one.defined
    disk_id, here = DiskId(IMAGE), StorageDomainId(SD)
    assert definitions.read(text) == DiskMoved(disk_id, VM_ID, here, OTHER)
    # Nobody starts the VM until its definition has followed.
    assert one.held == [f"hold {IMAGE}", "define", f"let go {VM_ID}", "end"]


def test_definition_loses_a_disk_that_is_deleted(one: Agent) -> None:
    _raw(one)
    one.named[IMAGE] = named()
    done(one, one.disks.delete(IMAGE, NOTHING))
    (text,) = one.defined
    assert definitions.read(text) == DiskGone(DiskId(IMAGE), VM_ID)
    assert one.held == [f"hold {IMAGE}", "define", f"let go {VM_ID}", "end"]


def test_vm_does_not_start_while_its_disk_changes(one: Agent) -> None:
    _raw(one)
    one.named[IMAGE] = named()
    done(one, one.disks.resize(IMAGE, ResizeDisk(2 * SIZE)))
    assert one.held == [f"hold {IMAGE}", "end"]


@pytest.mark.parametrize("verb", ["delete", "move"])
def test_disk_of_a_template_stays_where_it_is(one: Agent, verb: str) -> None:
    _raw(one)
    one.named[IMAGE] = named(template=TemplateMark())
    request = {"delete": NOTHING, "move": MoveDisk(OTHER)}[verb]
    ask = getattr(one.disks, verb)
    assert code_of(lambda: ask(IMAGE, request)) == "disk_named_by_vm"


def test_disk_of_a_previewed_snapshot_is_not_deleted(one: Agent) -> None:
    _raw(one)
    vm = named().vm
    preview = Preview(SnapshotId(OTHER_IMAGE), vm.spec, None)
    one.named[IMAGE] = named(preview=preview)
    assert code_of(lambda: one.disks.delete(IMAGE, NOTHING)) == "vm_in_preview"
