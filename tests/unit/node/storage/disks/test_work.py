"""Jobs on disks: locks, cancellation, restarts of the agent, loss of the lease."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from node.model import messages
from node.model.ids import DiskId, JobId, NodeId, StorageDomainId, VmId
from node.model.job import ENDED, Job, JobState
from node.model.storage import DiskFormat
from node.model.storage_requests import (
    ActOnDisk,
    ChangeDisk,
    CopyDisk,
    MoveDisk,
    ResizeDisk,
    SparsifyDisk,
)
from node.model.vm import Disk, Vm, VmSpec
from node.storage.disks import executor, leftovers
from node.storage.disks.chain_problems import Kind
from node.storage.disks.leftovers import END_VERB
from node.storage.disks.tasks import Named
from node.storage.disks.work import Asked
from node.storage.formats import journal, volume_meta
from node.storage.formats.volume_meta import Legality
from node.storage.operations import plan
from node.storage.operations.facts import Place, Site
from node.storage.operations.plan import Plan, Step
from tests.contract.disks import code_of
from tests.fakes.guard import Outcome
from tests.fakes.pool_nodes import PoolWorld
from tests.unit.node.storage import pool_disks, small_qemu
from tests.unit.node.storage.examples import IMAGE, OTHER_IMAGE, OTHER_SD, POOL, SD
from tests.unit.node.storage.pool_disks import SIZE, Agent, new_disk, volume_of

JOB = JobId("5cc55a2c-0000-4000-8000-000000000001")
OTHER = StorageDomainId(OTHER_SD)
LONG_S = 30.0
STEP_S = 0.01


class Scene:
    """A pool, and the nodes that manage it one after another."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self.world = PoolWorld(folder, POOL)
        self.one = pool_disks.agent(self.world, folder / "node-1")
        pool_disks.make_pool(self.world, self.one)
        self._stack.enter_context(pool_disks.started(self.one))
        ended = self.one.end_of(self.one.disks.create(new_disk(IMAGE)))
        assert ended.state is JobState.DONE

    def hold_programs(self) -> None:
        """Let programs run until the test ends them."""
        self.one.guard.programs["qemu-img"] = lambda _argv: None

    def copy(self) -> Job:
        """Ask for a copy whose program runs until the test ends it."""
        self.hold_programs()
        request = CopyDisk(DiskId(OTHER_IMAGE), OTHER, job_id=JOB)
        job = self.one.disks.copy(IMAGE, request)
        self.wait(lambda: bool(self.running()))
        return job

    def running(self) -> list[str]:
        guard = self.one.guard
        return [each.step_id for each in guard.steps() if each.exit_status is None]

    def finish(self) -> None:
        """Do what the program would have done."""
        run = self.one.guard.runs[-1]
        target = Path(run.folder, run.argv[-1])
        target.write_bytes(Path(run.argv[-2]).read_bytes())
        (step_id,) = self.running()
        self.one.guard.finish(step_id, Outcome())

    def wait(self, condition: Callable[[], bool]) -> None:
        for _ in range(int(LONG_S / STEP_S)):
            if condition():
                return
            self.one.jobs.get(JOB, STEP_S)
        raise AssertionError("it does not come to that")

    def restart(self) -> Agent:
        """Stop the agent and start it again; the storage process goes on."""
        self.one.jobs.stop(LONG_S)
        self.one.store.close()
        again = pool_disks.agent(
            self.world, self._folder / "node-1", guard=self.one.guard
        )
        self.connect(again)
        self.one = again
        self._stack.enter_context(pool_disks.started(again))
        return again

    def connect(self, made: Agent) -> None:
        for each in (SD, OTHER_SD):
            made.pool.connect(self.world.access(each))
        made.pool.refresh()


def settle(agent: Agent) -> None:
    """Wait until the jobs that end journals have ended."""
    for each in agent.jobs.list():
        if each.verb == END_VERB:
            agent.end_of(each)


def legality(agent: Agent) -> Legality | None:
    """Return what the only volume of the first disk says on the storage."""
    path = agent.folder(IMAGE) / f"{volume_of(IMAGE)}.meta"
    return volume_meta.parse(path.read_bytes()).legality


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr(executor, "LOOK_S", STEP_S)
    monkeypatch.setattr(leftovers, "RETRIES_S", (STEP_S, STEP_S))
    with ExitStack() as stack:
        yield Scene(tmp_path, stack)


def test_disk_is_locked_while_a_job_works_on_it(scene: Scene) -> None:
    job = scene.copy()
    disks = scene.one.disks
    assert scene.one.work.lock_owners() == {OTHER_IMAGE: JOB, IMAGE: JOB}
    taken = new_disk(OTHER_IMAGE)
    assert code_of(lambda: disks.create(taken)) == "disk_locked"
    # What it is copied from is frozen meanwhile.
    assert legality(scene.one) is Legality.ILLEGAL
    grow = ResizeDisk(2 * SIZE)
    assert code_of(lambda: disks.resize(IMAGE, grow)) == "disk_locked"
    third = CopyDisk(DiskId(POOL), OTHER)
    assert code_of(lambda: disks.copy(IMAGE, third)) == "disk_locked"
    (step_id,) = scene.running()
    scene.one.guard.finish(step_id, Outcome(1, stderr="no"))
    assert scene.one.end_of(job).state is JobState.FAILED
    code, fields = scene.one.told[-1]
    assert (code, fields["disk"], fields["job"]) == (
        "storage_job_failed",
        OTHER_IMAGE,
        JOB,
    )
    assert "disk_copy" in messages.text(code, fields)
    assert legality(scene.one) is Legality.LEGAL
    assert scene.one.work.lock_owners() == {}


def test_job_asked_again_while_it_runs_is_the_same(scene: Scene) -> None:
    job = scene.copy()
    request = CopyDisk(DiskId(OTHER_IMAGE), OTHER, job_id=JOB)
    assert scene.one.disks.copy(IMAGE, request).job_id == job.job_id
    assert len(scene.running()) == 1
    scene.finish()
    assert scene.one.end_of(job).state is JobState.DONE


def test_job_tells_its_progress(scene: Scene) -> None:
    job = scene.copy()
    (step_id,) = scene.running()
    scene.one.guard.say(step_id, "    (41.70/100%)")
    scene.wait(lambda: scene.one.jobs.get(JOB).progress_percent == 41)
    scene.finish()
    assert scene.one.end_of(job).state is JobState.DONE


def test_cancelled_job_leaves_nothing(scene: Scene) -> None:
    job = scene.copy()
    scene.one.jobs.cancel(JOB)
    assert scene.one.end_of(job).state is JobState.CANCELLED
    assert [code for code, _ in scene.one.told] == ["disk_created"]
    assert scene.one.journals() == []
    assert not scene.one.folder(OTHER_IMAGE, OTHER_SD).exists()
    assert scene.one.work.lock_owners() == {}


def test_disk_that_came_into_use_meanwhile_is_left_alone(tmp_path: Path) -> None:
    world = PoolWorld(tmp_path, POOL)
    one = pool_disks.agent(world, tmp_path / "node-1")
    pool_disks.make_pool(world, one)
    path = pool_disks.put(world.access(SD), IMAGE, volume_of(IMAGE))
    job = one.disks.sparsify(IMAGE, SparsifyDisk())
    one.running[IMAGE] = "vm-1"
    before = path.stat().st_ino
    with pool_disks.started(one):
        ended = one.end_of(job)
    assert ended.error is not None
    assert ended.error.code == "disk_in_use"
    assert path.stat().st_ino == before


def test_job_goes_on_after_the_agent_was_started_again(scene: Scene) -> None:
    scene.copy()
    again = scene.restart()
    assert again.work.lock_owners() == {OTHER_IMAGE: JOB, IMAGE: JOB}
    runs = len(again.guard.runs)
    again.pool.spm.become()
    scene.finish()
    ended = again.jobs.get(JOB, LONG_S)
    assert ended.state is JobState.DONE, ended.error
    assert len(again.guard.runs) == runs
    (sight,) = again.catalog.find(OTHER_IMAGE)
    assert sight.problems == ()
    assert again.journals() == []


def test_job_ends_at_once_where_another_node_manages_by_now(scene: Scene) -> None:
    scene.copy()
    again = scene.restart()
    again.jobs.get(JOB, STEP_S)
    assert again.jobs.get(JOB).state not in ENDED, "nobody is seen yet"
    again.moods.add("is succeeded")
    ended = again.jobs.get(JOB, LONG_S)
    assert ended.error is not None
    assert ended.error.code == "not_spm"
    # The journal is the other one's to end.
    assert len(again.journals()) == 1


def test_job_of_a_stopping_agent_looks_at_nothing_more(scene: Scene) -> None:
    scene.copy()
    told = len(scene.one.news)
    scene.one.jobs.stop(LONG_S)
    assert len(scene.one.news) == told
    assert len(scene.running()) == 1
    scene.finish()


def test_job_begins_anew_if_its_program_is_gone(scene: Scene) -> None:
    scene.copy()
    scene.one.jobs.stop(LONG_S)
    (step_id,) = scene.running()
    scene.one.guard.cancel(step_id)
    scene.one.guard.forget(step_id)
    scene.one.guard.programs["qemu-img"] = small_qemu.qemu_img(scene.one.guard)
    again = scene.restart()
    again.pool.spm.become()
    ended = again.jobs.get(JOB, LONG_S)
    assert ended.state is JobState.DONE, ended.error
    assert again.catalog.find(OTHER_IMAGE)


def test_decided_job_goes_on_although_its_vm_runs_again(scene: Scene) -> None:
    """It runs with what the job has made: its lease cannot be had any more."""
    one = scene.one
    disk = Disk(DiskId(IMAGE), "root", SIZE, storage_domain_id=StorageDomainId(SD))
    spec = VmSpec(VmId(OTHER_IMAGE), "web", SIZE, disks=(disk,))
    one.named[IMAGE] = Named(Vm(spec, 1, "2026-11-22T08:00:00.000Z"), SD)
    one.moods.add("stops")
    one.disks.move(IMAGE, MoveDisk(OTHER, job_id=JOB))
    scene.wait(lambda: one.folder(IMAGE, OTHER_SD).exists())
    again = scene.restart()
    again.moods.add("runs elsewhere")
    again.pool.spm.become()
    ended = again.jobs.get(JOB, LONG_S)
    assert ended.state is JobState.DONE, ended.error
    assert len(again.defined) == 1
    assert not again.folder(IMAGE).exists()
    # One that nothing has decided yet is refused.
    back = again.end_of(again.disks.move(IMAGE, MoveDisk(StorageDomainId(SD))))
    assert back.error is not None
    assert back.error.code == "vm_runs_elsewhere"


def test_lost_lease_ends_the_job_and_the_next_manager_ends_its_work(
    scene: Scene, tmp_path: Path
) -> None:
    job = scene.copy()
    for each in (SD, OTHER_SD):
        scene.one.guard.lose(each)
    ended = scene.one.end_of(job)
    assert ended.error is not None
    assert ended.error.code in ("storage_program_killed", "spm_lost")
    assert len(scene.one.journals()) == 1
    assert scene.one.work.lock_owners()[OTHER_IMAGE] == JOB
    two = pool_disks.agent(scene.world, tmp_path / "node-2", "node-2")
    scene.connect(two)
    for each in (SD, OTHER_SD):
        for host_id in tuple(scene.world.storage.lockspaces[each]):
            scene.world.storage.die(each, host_id)
    term = two.pool.spm.become()
    # It serves at once; what was left is claimed, and ended by a job.
    (left,) = two.journals()
    assert journal.parse(left.read_bytes()).lease_version == term.number
    assert two.work.lock_owners() == {OTHER_IMAGE: JOB, IMAGE: JOB}
    delete = two.disks.delete
    assert code_of(lambda: delete(IMAGE, ActOnDisk())) == "disk_unfinished"
    with pool_disks.started(two):
        settle(two)
        assert two.journals() == []
        assert not two.folder(OTHER_IMAGE, OTHER_SD).exists()
        ended = two.end_of(two.disks.delete(IMAGE, ActOnDisk()))
        assert ended.state is JobState.DONE


def test_what_was_left_is_ended_when_its_storage_domain_is_back(scene: Scene) -> None:
    one = scene.one
    one.end_of(one.disks.create(new_disk(OTHER_IMAGE, disk_format=DiskFormat.QCOW2)))
    scene.hold_programs()
    job = one.disks.move(OTHER_IMAGE, MoveDisk(OTHER, job_id=JOB))
    scene.wait(lambda: bool(scene.running()))
    one.guard.hanging.add(OTHER_SD)
    scene.one.guard.finish(scene.running()[0], Outcome(1, stderr="no"))
    assert one.end_of(job).state is JobState.FAILED
    settle(one)
    assert len(one.journals()) == 1
    # The target waits to be cleaned; the source does not wait for it.
    again = MoveDisk(OTHER)
    move = one.disks.move
    assert code_of(lambda: move(OTHER_IMAGE, again)) == "disk_unfinished"
    (left,) = one.work.left().values()
    assert left.places == {(OTHER_SD, OTHER_IMAGE)}
    assert left.error is not None
    assert left.error.code == "storage_hangs"
    assert one.work.lock_owners() == {}
    change = one.disks.change(OTHER_IMAGE, ChangeDisk("free"))
    assert one.end_of(change).state is JobState.DONE
    one.guard.hanging.clear()
    one.work.end_left()
    settle(one)
    assert (one.journals(), one.work.left()) == ([], {})
    (sight,) = one.catalog.find(OTHER_IMAGE)
    assert (sight.name, sight.problems) == ("free", ())
    assert not list(one.folder(OTHER_IMAGE, OTHER_SD).parent.iterdir())


def test_recover_locks_what_cannot_be_ended(scene: Scene, tmp_path: Path) -> None:
    scene.copy()
    scene.one.jobs.stop(LONG_S)
    (step_id,) = scene.running()
    scene.one.guard.cancel(step_id)
    scene.one.guard.forget(step_id)
    scene.one.pool.spm.leave()
    two = pool_disks.agent(scene.world, tmp_path / "node-2", "node-2")
    scene.connect(two)
    two.guard.hanging.add(OTHER_SD)
    two.pool.spm.become()
    assert two.work.lock_owners() == {OTHER_IMAGE: JOB, IMAGE: JOB}
    with pool_disks.started(two):
        settle(two)
        assert two.work.lock_owners() == {}
        assert legality(two) is Legality.LEGAL
        (left,) = two.work.left().values()
        assert left.places == {(OTHER_SD, OTHER_IMAGE)}


def put_journal(agent: Agent, number: int) -> Path:
    """Write the journal of a removal of a disk that is not there."""
    place = Place(Site(SD), OTHER_IMAGE)
    step = Step("purge", (plan.remove_tree(place.workshop),))
    made = journal.Journal(
        *(journal.SCHEMA, JOB, "x", OTHER_IMAGE, "node-9", number, Plan((step,)))
    )
    path = Path(agent.world.access(SD).layout.journals, JOB)
    path.write_bytes(journal.write(made))
    return path


@pytest.mark.parametrize("is_damaged", [True, False], ids=["damaged", "newer-term"])
def test_journal_that_nobody_may_act_on_holds_its_disk_only(
    scene: Scene, is_damaged: bool
) -> None:
    one = scene.one
    path = put_journal(one, 1 << 60)
    if is_damaged:
        path.write_bytes(path.read_bytes() + b"x")
    data = path.read_bytes()
    one.pool.spm.leave()
    one.pool.spm.become()
    (left,) = one.work.left().values()
    assert left.error is not None
    code = "journal_damaged" if is_damaged else "not_storage_manager"
    assert (left.error.code, left.may_retry) == (code, False)
    create, asked = one.disks.create, new_disk(OTHER_IMAGE)
    assert code_of(lambda: create(asked)) == "disk_unfinished"
    change = one.disks.change(IMAGE, ChangeDisk("free"))
    assert one.end_of(change).state is JobState.DONE
    assert path.read_bytes() == data
    path.unlink()
    one.work.end_left()
    assert one.end_of(create(asked)).state is JobState.DONE


def test_killed_program_is_started_again_while_the_lease_is_held(scene: Scene) -> None:
    one = scene.one
    one.end_of(one.disks.create(new_disk(OTHER_IMAGE, disk_format=DiskFormat.QCOW2)))
    scene.hold_programs()
    job = one.disks.resize(OTHER_IMAGE, ResizeDisk(2 * SIZE, job_id=JOB))
    scene.wait(lambda: bool(scene.running()))
    one.guard.programs["qemu-img"] = small_qemu.qemu_img(one.guard)
    one.guard.finish(scene.running()[0], Outcome(-9))
    assert one.end_of(job).state is JobState.DONE
    (sight,) = one.catalog.find(OTHER_IMAGE)
    assert (sight.size_bytes, sight.problems) == (2 * SIZE, ())
    assert one.journals() == []


def test_killed_copy_is_undone_while_the_lease_is_held(scene: Scene) -> None:
    job = scene.copy()
    scene.one.guard.finish(scene.running()[0], Outcome(-9))
    ended = scene.one.end_of(job)
    assert ended.error is not None
    assert ended.error.code == "storage_program_killed"
    assert scene.one.journals() == []
    assert legality(scene.one) is Legality.LEGAL


def test_copy_is_undone_if_a_guest_starts_with_its_source(scene: Scene) -> None:
    job = scene.copy()
    scene.one.running[IMAGE] = "vm-1"
    ended = scene.one.end_of(job)
    assert ended.error is not None
    assert ended.error.code == "disk_in_use"
    assert scene.one.journals() == []
    assert not scene.one.folder(OTHER_IMAGE, OTHER_SD).exists()
    assert legality(scene.one) is Legality.LEGAL


def test_remains_without_a_journal_are_found_and_purged(scene: Scene) -> None:
    one = scene.one
    remains = one.folder(OTHER_IMAGE).with_name(f"_remove_me_{OTHER_IMAGE}")
    remains.mkdir()
    (remains / "data").write_bytes(b"old")
    path = put_journal(one, 1)
    assert one.work.check(SD) == (), "a journal names it"
    path.unlink()
    (finding,) = one.work.check(SD)
    assert (finding.kind, finding.image_id) == (Kind.REMAINS, OTHER_IMAGE)
    assert finding.repair
    repair = one.disks.repair
    job = repair(OTHER_IMAGE, Kind.REMAINS, "", Asked(), StorageDomainId(SD))
    assert one.end_of(job).state is JobState.DONE
    assert not remains.exists()
    assert one.work.check(SD) == ()


def test_remains_of_a_damaged_image_are_for_a_person(scene: Scene) -> None:
    one = scene.one
    remains = one.folder(IMAGE).with_name(f"_remove_me_{IMAGE}")
    remains.mkdir()
    one.folder(IMAGE).joinpath(volume_of(IMAGE)).rename(remains / "data")
    found = {each.kind: each.repair for each in one.work.check(SD)}
    assert found[Kind.REMAINS] == ()
    repair = one.disks.repair
    asked = (IMAGE, Kind.REMAINS, "", Asked(), StorageDomainId(SD))
    assert code_of(lambda: repair(*asked)) == "repair_needs_person"
    assert (remains / "data").exists()


def test_journal_is_ended_after_the_agent_was_started_again(
    scene: Scene, tmp_path: Path
) -> None:
    scene.copy()
    scene.one.jobs.stop(LONG_S)
    (step_id,) = scene.running()
    scene.one.guard.cancel(step_id)
    scene.one.guard.forget(step_id)
    scene.one.pool.spm.leave()
    two = pool_disks.agent(scene.world, tmp_path / "node-2", "node-2")
    scene.connect(two)
    two.pool.spm.become()
    two.store.close()
    again = pool_disks.agent(
        scene.world, tmp_path / "node-2", "node-2", guard=two.guard
    )
    scene.connect(again)
    with pool_disks.started(again):
        again.pool.spm.become()
        settle(again)
        ended = [each for each in again.jobs.list() if each.verb == END_VERB]
        assert {each.state for each in ended} == {JobState.DONE}
        assert (again.journals(), again.work.left()) == ([], {})


def test_job_that_an_earlier_manager_began_is_asked_of_the_next_one(
    scene: Scene, tmp_path: Path
) -> None:
    """Its source is frozen then, until what the first one left is ended."""
    scene.copy()
    scene.one.jobs.stop(LONG_S)
    (step_id,) = scene.running()
    scene.one.guard.cancel(step_id)
    scene.one.guard.forget(step_id)
    scene.one.pool.spm.leave()
    two = pool_disks.agent(scene.world, tmp_path / "node-2", "node-2")
    scene.connect(two)
    two.pool.spm.become()
    assert legality(two) is Legality.ILLEGAL
    request = CopyDisk(DiskId(OTHER_IMAGE), OTHER, job_id=JOB)
    job = two.disks.copy(IMAGE, request)
    two.jobs.start()
    ended = two.end_of(job)
    settle(two)
    two.jobs.stop(LONG_S)
    assert ended.state is JobState.DONE, ended.error
    assert legality(two) is Legality.LEGAL
    assert (two.journals(), two.work.left()) == ([], {})
    assert two.catalog.find(OTHER_IMAGE)
    two.store.close()


def test_job_of_a_vm_waits_while_its_journal_is_ended(
    scene: Scene, tmp_path: Path
) -> None:
    """It is asked of the next manager, which is at its journal already."""
    one = scene.one
    disk = Disk(DiskId(IMAGE), "root", SIZE, storage_domain_id=StorageDomainId(SD))
    spec = VmSpec(VmId(OTHER_IMAGE), "web", SIZE, disks=(disk,))
    one.named[IMAGE] = Named(Vm(spec, 1, "2026-11-22T08:00:00.000Z"), SD)
    one.moods.add("stops")
    job = one.disks.move(IMAGE, MoveDisk(OTHER, job_id=JOB))
    scene.wait(lambda: one.folder(IMAGE, OTHER_SD).exists())
    one.jobs.stop(LONG_S)
    one.pool.spm.leave()
    two = pool_disks.agent(scene.world, tmp_path / "node-2", "node-2")
    scene.connect(two)
    began, may_end = threading.Event(), threading.Event()

    def follow(_text: str) -> None:
        began.set()
        assert may_end.wait(LONG_S)

    two.follow.append(follow)
    two.pool.spm.become()
    two.jobs.start()
    assert began.wait(LONG_S)
    two.work.go_on(Course(job, may_end.set))
    settle(two)
    two.jobs.stop(LONG_S)
    two.store.close()
    assert len(two.defined) == 1
    assert not one.folder(IMAGE).exists()


@dataclass(slots=True)
class Course:
    """A job of a VM that is asked whether it is to end."""

    job: Job
    on_check: Callable[[], None]

    def check(self) -> None:
        self.on_check()

    def step(self, percent: int, text: str, data_node_id: NodeId | None = None) -> None:
        """Keep it."""

    def pause(self, _seconds: float) -> None:
        self.on_check()
