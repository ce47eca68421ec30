"""Do what is asked of disks as jobs, under the lease of the pool's manager.

A task is planned when it is asked for, so that what is refused is refused at once,
and again when its job runs, from what lies there then. A job goes on after a restart
of the agent under its own id; what one leaves is ended by `leftovers`. While it works
on disks that no guest may run with, no node starts a VM that has them: until it is
decided what that VM starts with. Times are seconds. Source: DESIGN section 5.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from node import jobs, wire
from node.clock import Clock
from node.contract import definitions
from node.contract.volumes import Course
from node.errors import Conflict, Error
from node.jobs import workers
from node.model.feed import Kind
from node.model.ids import CorrelationId, JobId, NodeId
from node.model.job import ENDED, Job
from node.storage.data.assigner import NodeHoldsVolume
from node.storage.data.part import DataPart
from node.storage.disks import chain, leftovers, news, reach
from node.storage.disks import tasks as disk_tasks
from node.storage.disks.actions import Homes, ProgramKilled
from node.storage.disks.executor import (
    Executor,
    Mandate,
    Order,
    Watch,
    nothing_defined,
)
from node.storage.disks.eyes import PoolEyes
from node.storage.disks.leftovers import Leftovers
from node.storage.disks.locks import Claim, DiskLocks, Left
from node.storage.disks.sights import Finding
from node.storage.disks.tasks import Eyes, Named, Task
from node.storage.disks.vm_tasks import VmTask
from node.storage.domains import catalog as catalogs
from node.storage.domains.catalog import Catalog
from node.storage.formats import layout
from node.storage.formats.domain_meta import DomainClass
from node.storage.formats.layout import FolderKind
from node.storage.formats.pool_map import PoolDomainState
from node.storage.guard import Guard
from node.storage.operations.plan import Plan
from node.storage.spm import pool_rules
from node.storage.spm.journal_folder import JournalGone
from node.storage.spm.pool import Pool
from node.storage.spm.states import State
from node.storage.spm.term import NotSpm, Term

log = logging.getLogger(__name__)

# After a restart of the agent the node is manager again within a round or two.
RETURN_LOOKS: Final = 60
_LOOK_S: Final = 1.0


class StorageDomainInactive(Conflict):
    """Nothing is written to a storage domain that is not active."""

    code = "storage_domain_inactive"
    remedy = "Activate the storage domain first."


class DiskInUse(Conflict):
    """A guest runs with the disk."""

    code = "disk_in_use"
    remedy = "Shut down the VM that the message names, then try again."


class Request(Protocol):
    """What the bodies of all verbs have."""

    @property
    def job_id(self) -> JobId | None: ...

    @property
    def correlation_id(self) -> CorrelationId | None: ...


@dataclass(frozen=True, slots=True)
class Asked:
    """Under which ids a verb was asked for; None: choose one."""

    job_id: JobId | None = None
    correlation_id: CorrelationId | None = None

    @classmethod
    def of(cls, request: Request) -> "Asked":
        return cls(request.job_id, request.correlation_id)


LetGo = Callable[[str], None]  # takes a VM whose definition is decided
# Takes disks, and whether suspended VMs may have them.
Holding = Callable[[frozenset[str], bool], AbstractContextManager[LetGo]]


@contextmanager
def holding_nobody(_disk_ids: frozenset[str], _may_sleep: bool) -> Iterator[LetGo]:
    """Know of no VM that could start."""
    yield _nobody_waits


def _nobody_waits(_vm_id: str) -> None:
    """Let nobody go."""


def _nobody_hears(_code: str, _fields: Mapping[str, str]) -> None:
    """Let nobody hear of an event."""


def _nobody_names(_disk_id: str, _storage_domain_id: str) -> tuple[Named, ...]:
    """Know of no definition."""
    return ()


class DiskWork:
    """The jobs on the disks of one pool. Any thread may call."""

    def __init__(
        self,
        pool: Pool,
        node_id: NodeId,
        guard: Guard,
        all_jobs: jobs.Jobs,
        catalog: Catalog,
        *,
        clock: Clock,
        holder: Callable[[], NodeId | None],
        vm_of: Callable[[str], str | None],
        on_news: Callable[[], None],
        define: Callable[[str], None] = nothing_defined,
        named_by: Callable[[str, str], tuple[Named, ...]] = _nobody_names,
        holding: Holding = holding_nobody,
        tell: Callable[[str, Mapping[str, str]], None] = _nobody_hears,
        new_id: Callable[[], JobId] = workers.random_id,
        data: DataPart | None = None,
    ) -> None:
        """`holder` tells who manages the pool, `vm_of` which VM runs with a disk.

        `named_by` tells which definitions name a disk on a storage domain; `holding`
        lets no node start the VMs that have a disk, and yields how to let one go.
        `on_news` is called when locks or disks have changed; it must not wait.
        `define` applies a change to a VM's definition, see `Executor`; `tell` is
        called with the event of a job that has ended. `data` lets other nodes move
        data; None: this one does all.
        """
        self._data = data
        self._define = define
        self._tell = tell
        self._named_by = named_by
        self._holding = holding
        self._pool = pool
        self._node_id = node_id
        self._guard = guard
        self._jobs = all_jobs
        self._catalog = catalog
        self._holder = holder
        self._vm_of = vm_of
        self._on_news = on_news
        self._new_id = new_id
        self._locks = DiskLocks(self._is_alive)
        self._left = Leftovers(
            *(pool, all_jobs, self._locks, self._executor, self._is_alive),
            wait=self._wait_for_management,
            look_again=self._look_again,
            new_id=new_id,
            limit=self._limit,
            clock=clock,
        )

    def ask(
        self,
        kind: type[Task],
        disk_id: str,
        asked: Asked,
        make: Callable[[], Task],
    ) -> Job:
        """Return the job that was asked for before, or take one on."""
        verb = disk_tasks.verb(kind)
        known = self._known(verb, disk_id, asked.job_id)
        if known is not None:
            return known
        term, task, job_id = self._term(), make(), asked.job_id or self._new_id()
        for storage_domain_id in sorted(disk_tasks.storage_domains(task)):
            self._check_active(term, storage_domain_id)
        self._check_idle(task)
        self.check_data_node(disk_tasks.data_node(task))
        self._locks.claim(_claim(job_id, task))
        # An earlier manager began it: what lies there is half of it.
        is_begun = job_id in self._locks.left()
        run = partial(self._run, task, is_resumed=is_begun)
        try:
            if not is_begun:
                disk_tasks.plan(task, self._eyes())
            job = self._jobs.submit(
                verb,
                Kind.DISK,
                disk_id,
                self._limited(task, run),
                job_id=job_id,
                correlation_id=asked.correlation_id,
                arguments=wire.to_json(task),
            )
        finally:
            self._locks.settle(job_id)
        self._on_news()
        return job

    def hold(self, claim: Claim) -> None:
        """Lock disks for a transfer, which is no job, until `let_go`.

        Refuses as `ask` does; the same again changes nothing.
        """
        term = self._term()
        for storage_domain_id, _ in sorted(claim.places):
            self._check_active(term, storage_domain_id)
        self.check_unused(claim.changed)
        self._locks.claim(claim)
        self._on_news()

    def hold_again(self, claim: Claim) -> None:
        """Lock disks whoever runs with them, as after a restart; else as `hold`."""
        self._locks.claim(claim)

    def check_kept(self, disk_id: str, storage_domain_id: str, volume_id: str) -> None:
        """Refuse a state of a held disk that is no whole snapshot's any more."""
        disk_tasks.check_kept(disk_id, storage_domain_id, volume_id, self._eyes())

    def let_go(self, transfer_id: str) -> None:
        """Unlock what a transfer held. Idempotent."""
        self._locks.settle(JobId(transfer_id))
        self._on_news()

    def go_on(self, progress: Course) -> None:
        """End what the journal of a VM's job names, if there is one."""
        self._wait_for_management(progress)
        with self._left.alone(progress), self._pool.spm.work() as term:
            leftovers.resume(self._executor(term), progress, progress)

    def carry_out(
        self,
        task: VmTask,
        make: Callable[[Eyes], Plan],
        progress: Course,
        check_idle: Callable[[], None],
        *,
        is_brief: bool = False,
        data_node_id: NodeId | None = None,
    ) -> None:
        """Do what a VM's job needs of its disks; what it left before is ended first.

        `check_idle` is asked at each step, and the last time before it counts;
        `is_brief`: what is left when it is decided is another job's. `data_node_id`
        moves data, None: who has least to do. Raises DiskLocked, DiskUnfinished,
        NotSpm, and as `make` and the executor.
        """
        self._wait_for_management(progress)
        term, claim = self._term(), task.claim(progress.job.job_id)
        for storage_domain_id in sorted(task.storage_domains):
            self._check_active(term, storage_domain_id)
        self._locks.claim(claim)
        self._locks.settle(claim.job_id)
        order = Order(claim.job_id, progress.job.verb, task.object_id)
        watch = _IdleWatch(progress, check_idle)
        try:
            with self._left.alone(progress), self._pool.spm.work() as term:
                executor = self._executor(term, data_node_id=data_node_id)
                try:
                    leftovers.resume(executor, progress, watch)
                    watch.check()
                    plan = make(self._eyes())
                    executor.execute(order, plan, watch, is_brief=is_brief)
                except ProgramKilled as error:
                    leftovers.carry_on(executor, progress, watch, error)
                except NodeHoldsVolume as error:
                    leftovers.wait_for_node(executor, progress, watch, error)
        except jobs.AgentStopping:
            raise
        except Exception:
            self._left.note(claim, task.object_id)
            self._look_again(claim.places)
            raise
        if is_brief:
            self._left.note(claim, task.object_id)
        else:
            self._locks.end_left(claim.job_id)
        self._look_again(claim.places)

    def check_data_node(self, data_node_id: NodeId | None) -> None:
        """Refuse who is to move data and is no member of the pool; DataNodeUnknown."""
        if self._data is not None:
            self._data.check(data_node_id)

    def lock_owners(self) -> Mapping[str, JobId]:
        """Return the jobs that change disks, by the disks."""
        return self._locks.owners()

    def left(self) -> Mapping[JobId, Left]:
        """Return the journals that have not ended, what each keeps, and why."""
        return self._locks.left()

    def job_handlers(self) -> Mapping[str, jobs.Handler]:
        """Return what runs an unfinished job of ours again, by verb."""
        handlers = {
            verb: self._handler(kind) for verb, kind in disk_tasks.VERBS.items()
        }
        return {**handlers, leftovers.END_VERB: self._left.end_again}

    def recover(self, term: Term) -> None:
        """Take over what earlier managers left: the pool's `recover`. Fast.

        What a journal may touch is locked until a job has ended it. Jobs of this
        agent go on by themselves; a journal that nobody may act on is told by `left`.
        """
        self._left.begin_term()
        self._left.take_over(term)
        self._on_news()

    def end_left(self) -> None:
        """Try again what was left: call it when a storage domain came back. Fast.

        Raises NotSpm and SpmLost.
        """
        with self._pool.spm.work() as term:
            self._left.take_over(term)
        self._on_news()

    def check(self, storage_domain_id: str) -> tuple[Finding, ...]:
        """Read all images anew; return what is wrong, and what was left to be purged.

        What a journal names is not told: its job ends that. Raises NotSpm.
        """
        access = self._pool.access(storage_domain_id)
        found = [*self._catalog.check(access), *self._catalog.check_options(access)]
        files = access.files(self._guard, deadline_s=catalogs.DEADLINE_S)
        for entry in files.list(str(access.layout.images)):
            name = layout.read_image_name(entry.name)
            if name is not None and name.kind is FolderKind.REMOVED:
                disk = self._catalog.place(access, name.image_id).disk
                image = disk.image if disk is not None else None
                problem = chain.examine_remains(image)
                where = (storage_domain_id, name.image_id, problem.kind, "", "")
                found.append(Finding(*where, problem.explanation, problem.repair))
        # After the looking: what was journalled in between is left out, too.
        with self._pool.spm.work() as term:
            places = self._executor(term).places()
        named = [Left(each) for each in places]
        return tuple(
            each
            for each in found
            if not any(left.holds((storage_domain_id, each.image_id)) for left in named)
        )

    def _handler(self, kind: type[Task]) -> jobs.Handler:
        def handle(job: Job, arguments: wire.Json) -> jobs.Runner:
            task: Task = wire.from_json(kind, arguments, strict=False)
            self._locks.claim(_claim(job.job_id, task))
            self._locks.settle(job.job_id)
            return self._limited(task, partial(self._run, task, is_resumed=True))

        return handle

    def _limited(self, task: Task, run: jobs.Runner) -> jobs.Runner:
        """Let only so many jobs move data of one storage domain at once."""
        if not disk_tasks.moves_data(task) and not self._wipes(task):
            return run
        return self._limit(run, disk_tasks.storage_domains(task))

    def _wipes(self, task: Task) -> bool:
        """Tell whether it overwrites what a disk holds, as far as is known."""
        found = self._catalog.find(task.disk_id)
        is_asked = any(each.options.wipe_after_delete for each in found)
        return is_asked and isinstance(task, disk_tasks.Delete)

    def _limit(
        self, run: jobs.Runner, storage_domain_ids: Iterable[str]
    ) -> jobs.Runner:
        maximum = max(self._pool.options.data_jobs_max, 1)
        places = (
            jobs.Place(each, maximum, f"storage domain {self._place_name(each)}")
            for each in sorted(storage_domain_ids)
        )
        return jobs.Limited(run, tuple(places))

    def _run(self, task: Task, progress: Course, *, is_resumed: bool) -> None:
        watch = _IdleWatch(progress, lambda: self._check_idle(task))
        name = self._name(task.disk_id)
        try:
            if is_resumed:
                self._wait_for_management(progress)
            with self._pool.spm.work() as term, ExitStack() as stack:
                let_go: LetGo = _nobody_waits
                if not is_resumed or not self._is_decided(term, progress.job.job_id):
                    watch.check()
                    how = disk_tasks.idle(task), disk_tasks.may_sleep(task)
                    let_go = stack.enter_context(self._holding(*how))
                executor = self._executor(term, let_go, disk_tasks.data_node(task))
                try:
                    if not is_resumed or not leftovers.resume(
                        executor, progress, watch
                    ):
                        self._begin(task, executor, progress, watch)
                except ProgramKilled as error:
                    leftovers.carry_on(executor, progress, watch, error)
                except NodeHoldsVolume as error:
                    leftovers.wait_for_node(executor, progress, watch, error)
        except jobs.AgentStopping:
            raise
        except Exception as error:
            self._left.note(_claim(progress.job.job_id, task), task.disk_id)
            self._look_again(disk_tasks.places(task))
            failed = news.failure_of(task, name, progress.job, error)
            if failed is not None:
                self._tell(*failed)
            raise
        self._locks.end_left(progress.job.job_id)
        self._look_again(disk_tasks.places(task))
        told = news.event_of(task, self._name(task.disk_id) or name, self._place_name)
        if told is not None:
            self._tell(*told)

    def _name(self, disk_id: str) -> str:
        """Return what a disk is called; empty: it is not there."""
        return next((each.name for each in self._catalog.find(disk_id)), "")

    def _place_name(self, storage_domain_id: str) -> str:
        entry = pool_rules.find(self._pool.map, storage_domain_id)
        return entry.name if entry is not None and entry.name else storage_domain_id

    def _is_decided(self, term: Term, job_id: JobId) -> bool:
        """Tell whether a job can only be finished: a VM may run with what it made."""
        try:
            return self._executor(term).find(job_id).is_committed
        except JournalGone:
            return False

    def _begin(
        self, task: Task, executor: Executor, progress: Course, watch: Watch
    ) -> None:
        watch.check()
        job = progress.job
        order = Order(job.job_id, job.verb, task.disk_id)
        executor.execute(order, disk_tasks.plan(task, self._eyes()), watch)

    def _wait_for_management(self, progress: Course) -> None:
        """Wait until this node, which has started again, is manager again.

        Or until it sees that another one is: that ends what this one has left.
        """
        for _ in range(RETURN_LOOKS):
            try:
                self._pool.spm.term()
            except Conflict:
                if self._is_succeeded():
                    return
                progress.pause(_LOOK_S)
            else:
                return

    def _is_succeeded(self) -> bool:
        """Tell whether another node is known to manage the pool."""
        holder, state = self._holder(), self._pool.spm.state
        return state is State.FREE and holder not in (None, self._node_id)

    def _look_again(self, places: Iterable[tuple[str, str]]) -> None:
        """Know at once what a job has changed; what is exported is no disk."""
        data = pool_rules.active_data(self._pool.map)
        for storage_domain_id, image_id in sorted(places):
            if storage_domain_id not in data:
                continue
            try:
                access = self._pool.access(storage_domain_id)
                self._catalog.read_image(access, image_id)
            except Error as error:
                log.info("disk %s cannot be looked at: %s", image_id, error)
        self._on_news()

    def _executor(
        self,
        term: Term,
        let_go: LetGo = _nobody_waits,
        data_node_id: NodeId | None = None,
    ) -> Executor:
        """Return what works under this term, and lets VMs go that are defined.

        `data_node_id`: who moves data; None: who has least to do.
        """

        def define(text: str) -> None:
            self._define(text)
            let_go(definitions.subject(definitions.read(text)))

        homes = reach.homes(self._pool, term)
        mandate = Mandate(self._node_id, term.number, reach.needs(homes, term))
        assigner = None
        if self._data is not None:
            ours = mandate.needs_of([term.master_id])
            assigner = self._data.assigner(Homes(homes), ours, data_node_id)
        return Executor(
            *(self._guard, homes, term.master_id, mandate, define),
            assigner=assigner,
            images=self._pool.options.images,
        )

    def _eyes(self) -> Eyes:
        return PoolEyes(self._pool, self._guard, self._catalog, self._named_by)

    def _term(self) -> Term:
        """Return by what right this node writes; NotSpm says who has it."""
        try:
            return self._pool.spm.term()
        except NotSpm as error:
            holder = self._holder()
            raise NotSpm(
                f"node {holder or '(none)'} manages pool {self._pool.pool_id}",
                pool_id=self._pool.pool_id,
                node_id=holder,
            ) from error

    def _known(self, verb: str, disk_id: str, job_id: JobId | None) -> Job | None:
        """Return the job that was asked for before; JobIdTaken if it is another."""
        if job_id is None:
            return None
        try:
            job = self._jobs.get(job_id)
        except jobs.JobUnknown:
            return None
        if (job.verb, job.object_id) != (verb, disk_id):
            raise jobs.JobIdTaken(
                f"job {job_id} is a {job.verb} of {job.object_id}", job_id=job_id
            )
        return job

    def _is_alive(self, job_id: JobId) -> bool:
        try:
            return self._jobs.get(job_id).state not in ENDED
        except jobs.JobUnknown:
            return False

    def _check_active(self, term: Term, storage_domain_id: str) -> None:
        """Refuse a storage domain that this node may not write to as manager."""
        entry = pool_rules.entry(self._pool.map, storage_domain_id)
        if entry.domain_class is not DomainClass.DATA:
            raise pool_rules.NotAData(
                f"storage domain {storage_domain_id} is {entry.domain_class}",
                storage_domain_id=storage_domain_id,
            )
        if entry.state is not PoolDomainState.ACTIVE:
            raise StorageDomainInactive(
                f"storage domain {storage_domain_id} is in {entry.state}",
                storage_domain_id=storage_domain_id,
            )
        term.needs(storage_domain_id)
        self._pool.access(storage_domain_id)

    def _check_idle(self, task: Task) -> None:
        self.check_unused(disk_tasks.idle(task))

    def check_unused(self, disk_ids: Iterable[str]) -> None:
        """Raise DiskInUse if a guest runs with one of the disks."""
        for disk_id in sorted(disk_ids):
            vm_id = self._vm_of(disk_id)
            if vm_id is not None:
                raise DiskInUse(
                    f"VM {vm_id} runs with disk {disk_id}", disk_id=disk_id, vm_id=vm_id
                )


@dataclass(frozen=True, slots=True)
class _IdleWatch:
    """Asks at each step, and the last time before it counts, whether a guest runs."""

    progress: Course
    check_idle: Callable[[], None]

    def check(self) -> None:
        self.progress.check()
        self.check_idle()

    def step(self, percent: int, text: str, data_node_id: NodeId | None = None) -> None:
        self.progress.step(percent, text, data_node_id)


def _claim(job_id: JobId, task: Task) -> Claim:
    return Claim(
        job_id,
        disk_tasks.changed(task),
        disk_tasks.read(task),
        disk_tasks.touched(task),
        JobId(within) if (within := disk_tasks.within(task)) is not None else None,
    )
