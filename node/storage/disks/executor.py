"""Carry out plans on disks through the storage process, with a journal on the pool.

The journal is written before the first step and after each, and removed at the end.
Before the plan's commit point an error or a cancellation undoes what was done; after
it, and if the way to the storage or the lease is lost, the journal stays: `claim`
takes it over, `resume` finishes or undoes. What cannot be undone yet, since a storage
domain is away, stays journalled and holds nothing else. A program that runs when the
agent ends goes on, and is found again by its step's id. Times are seconds.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from typing import Any, Final, Protocol

from node import jobs
from node.contract import snapshots
from node.errors import Conflict, Error
from node.model.ids import NodeId
from node.storage.data.assigner import Assigner, HandedOver, NodeHoldsVolume
from node.storage.disks import progress
from node.storage.disks.actions import Home, Homes, ProgramKilled, complaint
from node.storage.formats import journal as journals
from node.storage.formats import vm_file
from node.storage.formats.journal import ANYWHERE, Assignment, Direction, Journal
from node.storage.guard import Guard, GuardFiles
from node.storage.operations import plan as plans
from node.storage.operations.plan import PROGRAMS, Action, Plan, Verb
from node.storage.process.file_operations import StorageFull
from node.storage.process.protocol import Need, Step, StepState
from node.storage.process.steps import StepDiffers, StepRuns
from node.storage.spm.journal_folder import JournalFolder, Unjudged

log = logging.getLogger(__name__)

# How often a running program is asked for its progress, and we for a cancellation.
LOOK_S: Final = 0.5
# Purging a large disk takes the storage a while.
FILE_S: Final = 300.0
PREFIX: Final = "disk"  # of our steps' ids in the storage process
# Errors after which a VM's definition is for certain as it was.
_NOT_DEFINED: Final = frozenset(
    {snapshots.DefinitionChanged.code, vm_file.BadVmFile.code, StorageFull.code}
)


class JobJournalled(Conflict):
    """The job has begun already; its journal tells how far it is."""

    code = "job_journalled"
    remedy = "Let the manager recover: it finishes or undoes the job."


class DiskJournalled(Conflict):
    """The storage tells of an operation on the disk that has not ended."""

    code = "disk_journalled"
    remedy = (
        "The manager ends it when the storage domains it needs are active; see what "
        "its journal waits for."
    )


class Watch(Protocol):
    """Who wants to know; node.jobs.Progress is one."""

    def check(self) -> None:
        """Raise what ends the operation, or jobs.AgentStopping to go on later."""

    def step(
        self, percent: int, text: str, data_node_id: NodeId | None = None
    ) -> None: ...


class NobodyWatches:
    """Nobody wants to know, or cancels."""

    def check(self) -> None:
        """Let it go on."""

    def step(self, percent: int, text: str, data_node_id: NodeId | None = None) -> None:
        """Keep it to yourself."""


@dataclass(frozen=True, slots=True)
class Mandate:
    """By what right this node writes."""

    node_id: str
    number: int  # of the manager's term
    # What the storage process must hold while it writes to a storage domain.
    needs: Mapping[str, tuple[Need, ...]] = field(default_factory=dict)

    def needs_of(self, storage_domain_ids: Iterable[str]) -> tuple[Need, ...]:
        needs = [
            need
            for each in sorted(storage_domain_ids)
            for need in self.needs.get(each, ())
        ]
        return tuple(dict.fromkeys(needs))


@dataclass(frozen=True, slots=True)
class Order:
    job_id: str
    verb: str
    object_id: str


@dataclass(frozen=True, slots=True)
class _Ears:
    """Who hears of an action that another node carries out."""

    check: Callable[[], None]
    percent: Callable[[int, str], None]


class Outcome(StrEnum):
    FINISHED = "finished"
    UNDONE = "undone"


def nothing_defined(change: str) -> None:
    """Apply a change to a VM's definition, where no VMs are."""
    raise AssertionError(f"nobody applies {change[:80]}")


class Executor:
    """Carries out plans under one mandate."""

    def __init__(
        self,
        guard: Guard,
        homes: Mapping[str, Home],
        master_id: str,
        mandate: Mandate,
        define: Callable[[str], None] = nothing_defined,
        assigner: Assigner | None = None,
        images: Path | None = None,
    ) -> None:
        """`homes` are the active storage domains by their ids, always current.

        `define` applies a change to a VM's definition; again, it changes nothing.
        `assigner` lets other nodes move data; `images` is where base images lie.
        """
        self._define = define
        self._assigner = assigner
        self._assigned: dict[str, Assignment] = {}  # by job, as in its journal
        self._guard = guard
        self._homes = Homes(homes, images)
        self._mandate = mandate
        self._master_id, root = master_id, homes[master_id].root
        files = GuardFiles(guard, master_id, root, mandate.needs_of([master_id]))
        self._journals = JournalFolder(files, root, mandate.number)

    def execute(
        self, order: Order, plan: Plan, watch: Watch, *, is_brief: bool = False
    ) -> None:
        """Carry out a plan; nothing of it is left, or a journal, if it fails.

        `is_brief`: no further than it takes to be decided; a journal has the rest.
        Raises JobJournalled, DiskJournalled, StorageDomainAway, StorageFull,
        ProgramFailed, what the watch raises, and the errors of the guard.
        """
        if not plan.steps:
            return
        plan, mandate = plans.joined(plan), self._mandate
        journal = Journal(
            journals.UNASSIGNED,
            order.job_id,
            order.verb,
            order.object_id,
            mandate.node_id,
            mandate.number,
            plan,
        )
        self._check_homes(plan.storage_domains())
        self._check_journals(journal)
        started = time.monotonic()
        log.info("%s of disk %s starts: %s", order.verb, order.object_id, order.job_id)
        self._journals.write(journal)
        self._advance(journal, watch, is_brief=is_brief)
        took_s = time.monotonic() - started
        log.info("%s of disk %s ended: %.3f s", order.verb, order.object_id, took_s)

    def claim(
        self, is_spared: Callable[[str], bool] = lambda _job_id: False
    ) -> tuple[tuple[Journal, ...], tuple[Unjudged, ...]]:
        """Take over the journals, and return them; then `resume` each. Does not wait.

        `is_spared` tells of jobs that resume by themselves.
        """
        steps = self._guard.steps()
        self._journals.tidy(is_spared)
        found, others = self._journals.read_all()
        mine = tuple(
            each if is_spared(each.job_id) else self._take_over(each) for each in found
        )
        names = {each.job_id for each in found} | {each.job_id for each in others}
        for step in steps:  # those that were there before we looked for journals
            prefix, _, rest = step.step_id.partition(".")
            job_id = rest.partition(".")[0]
            is_known = job_id in names or is_spared(job_id)
            if prefix == PREFIX and step.state is StepState.ENDED and not is_known:
                self._guard.forget(step.step_id)
        return mine, others

    def places(self) -> tuple[frozenset[tuple[str, str]], ...]:
        """Return what each journal may still touch."""
        found, others = self._journals.read_all()
        return (*(each.places() for each in found), *(each.places for each in others))

    def find(self, job_id: str) -> Journal:
        """Return a job's journal; JournalGone, and why nobody may act on it."""
        return self._journals.find(job_id)

    def resume(self, job_id: str, watch: Watch) -> Outcome:
        """Go on with one journalled job: finish it, or undo it.

        Before the commit point it is finished only if its program still runs, or
        ended while nobody looked, or another node has it. Raises as `execute`, and
        as `find`.
        """
        found = self._journals.find(job_id)
        is_ours = found.lease_version == self._mandate.number
        is_forward = found.direction is Direction.FORWARD
        begin = self._program_under_way(found) if is_ours else None
        journal = self._take_over(found)
        self._forget(job_id, journal)
        if is_forward and journal.assigned is not None:
            # It is known how it ends. Programs of actions before it may be known too.
            begin = max(begin or 0, journal.assigned.number)
        is_home = journal.plan.storage_domains() <= set(self._homes.by_id)
        if journal.is_committed or (begin is not None and is_home):
            log.info("%s of disk %s goes on", journal.verb, journal.object_id)
            self._advance(journal, watch, begin or 0)
            return Outcome.FINISHED
        log.info("%s of disk %s is undone", journal.verb, journal.object_id)
        self._retreat(journal, watch)
        return Outcome.UNDONE

    def _take_over(self, journal: Journal) -> Journal:
        """Put a journal under our term; without space for that it stays as it is.

        What an older manager writes is refused by the storage process anyway.
        """
        mandate = self._mandate
        ours = replace(journal, node_id=mandate.node_id, lease_version=mandate.number)
        if ours == journal:
            return journal
        try:
            self._journals.write(ours)
        except Error as error:
            if error.code != StorageFull.code:
                raise
            log.warning("journal %s stays under its term: %s", journal.job_id, error)
        return ours

    def _check_journals(self, journal: Journal) -> None:
        """Refuse to begin what another journal may touch: JobJournalled, Conflict."""
        places = journal.places()
        images = {(ANYWHERE, image_id) for _, image_id in places}
        found, others = self._journals.read_all()
        named = [(each.job_id, each.places()) for each in found]
        named += [(each.job_id, each.places) for each in others]
        if journal.job_id in [job_id for job_id, _ in named]:
            raise JobJournalled(f"job {journal.job_id} has a journal")
        for job_id, touched in named:
            for _, image_id in sorted(touched & (places | images)):
                raise DiskJournalled(
                    f"job {job_id} has not ended its work on disk {image_id}",
                    disk_id=image_id,
                    job_id=job_id,
                )

    def _advance(
        self, journal: Journal, watch: Watch, begin: int = 0, *, is_brief: bool = False
    ) -> None:
        """Do the steps that are left; `begin` is the first action of the next one."""
        plan = journal.plan
        while True:
            is_last = journal.done + 1 == len(plan.steps)
            try:
                if self._do_step(journal, watch, begin):
                    return
                _check(journal, watch)
            except jobs.AgentStopping:
                raise  # its program goes on, and so do we when the agent has started
            except Error as error:
                may_undo = _may_undo(journal, error)
                self._give_up(journal, error, watch, may_undo=may_undo)
                raise
            if is_last:
                break
            journal, begin = self._note(journal, watch), 0
            if is_brief and journal.done > plan.commit:
                return
        self._journals.remove(journal)
        self._forget_step(journal)

    def _do_step(self, journal: Journal, watch: Watch, begin: int) -> bool:
        """Do the step under way; tell whether that ended the operation as well."""
        watch.step(progress.percent(journal, begin), progress.text(journal))
        _check(journal, watch)
        number = begin
        for is_files, group in groupby(
            journal.step.do[begin:], lambda action: action.is_file
        ):
            actions = tuple(group)
            is_end = number + len(actions) == len(journal.step.do)
            if is_files and is_end and self._ends_at_once(journal, actions):
                self._do_group(actions, self._journals.removal(journal))
                return True
            if is_files:
                self._do_files(actions)
            else:
                for offset, action in enumerate(actions):
                    self._do_other(journal, number + offset, action, watch)
            number += len(actions)
        return False

    def _ends_at_once(self, journal: Journal, actions: Sequence[Action]) -> bool:
        """Tell whether the journal may go in one request with the last actions.

        Only where its step can neither be undone nor has programs to be forgotten.
        """
        is_last = journal.done + 1 == len(journal.plan.steps)
        is_sure = journal.is_committed and not journal.step.may_refuse
        return (
            is_last
            and is_sure
            and not any(each.verb in PROGRAMS for each in journal.step.do)
            and {each.storage_domain_id for each in actions} == {self._master_id}
        )

    def _do_other(
        self, journal: Journal, number: int, action: Action, watch: Watch
    ) -> None:
        if action.verb is Verb.WRITE_RESOURCE:
            needs = self._mandate.needs_of(action.storage_domains())
            self._guard.write_resource(self._homes.resource(action.path), needs=needs)
        elif action.verb is Verb.DEFINE:
            self._homes.home(action.storage_domain_id)
            self._define(action.text)
        else:
            self._run(journal, number, action, watch)

    def _note(self, journal: Journal, watch: Watch) -> Journal:
        """Write down that a step is done, and return the journal."""
        after = journal.advance()
        try:
            self._journals.write(after)
        except Error as error:
            # Refused for want of space, the old one is there; else nobody knows.
            may_undo = error.code == StorageFull.code and not journal.is_committed
            self._give_up(journal, error, watch, may_undo=may_undo)
            raise
        self._forget_step(journal)
        return after

    def _give_up(
        self, journal: Journal, error: Error, watch: Watch, *, may_undo: bool
    ) -> None:
        """Undo, or leave it to recovery. Raises nothing."""
        if not may_undo:
            log.error(
                "%s of disk %s stopped, and waits for the manager to recover: %s",
                journal.verb,
                journal.object_id,
                error,
            )
            return
        log.warning("%s of disk %s: %s", journal.verb, journal.object_id, error)
        try:
            self._retreat(journal, watch)
        except Error as problem:
            log.error(
                "%s of disk %s waits to be undone: %s",
                journal.verb,
                journal.object_id,
                problem,
            )

    def _retreat(self, journal: Journal, watch: Watch) -> None:
        """Undo what was done. From its begin on, nothing resumes the operation.

        Raises the first error after it has undone what it can: on each storage
        domain alone. What is left then is the journal.
        """
        assigned = self._assigned.get(journal.job_id, journal.assigned)
        back = self._journals.turn_back(journal.assign(assigned))
        problem: Error | None = None
        blocked: frozenset[str] = frozenset()
        try:
            self._forget(back.job_id)
        except Error as error:
            if error.code != StepRuns.code:
                raise
            # It hangs in its storage. It reads elsewhere, if anything.
            problem, blocked = error, back.written_by_programs()
        try:
            back = self._settle(back, watch)
        except Error as error:
            # It may be written to by the node that does not answer.
            problem, blocked = error, blocked | back.filled_elsewhere()
        left: list[Action] = []
        actions = tuple(back.plan.way_back(back.done))
        for storage_domain_id in dict.fromkeys(a.storage_domain_id for a in actions):
            group = [a for a in actions if a.storage_domain_id == storage_domain_id]
            if storage_domain_id in blocked:
                left += group
                continue
            try:
                self._do_files(group)
            except Error as error:
                left += group
                problem = problem or error
        if problem is None:
            self._journals.remove(back)
            return
        if len(left) < len(actions):
            self._leave_rest(back.rest(left))
        raise problem

    def _leave_rest(self, rest: Journal) -> None:
        """Keep what is left to undo; what is done must not be done again later."""
        try:
            self._journals.write(rest)
        except Error as error:
            log.error("journal %s holds what is undone: %s", rest.job_id, error)

    def _do_files(self, actions: Sequence[Action]) -> None:
        for _, group in groupby(actions, lambda action: action.storage_domain_id):
            self._do_group(tuple(group))

    def _do_group(
        self, actions: Sequence[Action], then: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        """Do file actions on one storage domain, and what comes with them."""
        storage_domain_id = actions[0].storage_domain_id
        home = self._homes.home(storage_domain_id)
        self._guard.file(
            storage_domain_id,
            home.root,
            [*self._homes.operations(actions), *then],
            FILE_S,
            self._mandate.needs_of([storage_domain_id]),
        )

    def _run(self, journal: Journal, number: int, action: Action, watch: Watch) -> None:
        """Run a program to its end, or find one that was started before."""
        if plans.may_be_assigned(action) and self._do_away(journal, number, watch):
            return
        step_id = self._step_id(journal, number)
        step = self._start(step_id, action)
        while step.state is StepState.RUNNING:
            step = self._guard.wait(step_id, LOOK_S)
            if step.state is StepState.RUNNING:
                line = self._guard.progress(step_id)
                watch.step(
                    progress.percent(journal, number, line), progress.text(journal)
                )
                _check(journal, watch)
        if step.exit_status == 0:
            return
        self._guard.forget(step_id)
        raise complaint(action, step)

    def _do_away(self, journal: Journal, number: int, watch: Watch) -> bool:
        """Let another node carry out an action; False: this one does."""
        assigner, assigned = self._assigner, journal.assigned
        if assigner is None:
            assert assigned is None, "who assigned it can settle it"
            return False
        is_away = assigned is not None and assigned.number == number
        if not is_away and self._program_under_way(journal) == number:
            return False

        def note(assigned: Assignment | None) -> None:
            if assigned is not None:  # before it is written: it may be, and fail
                self._assigned[journal.job_id] = assigned
            self._journals.write(journal.assign(assigned))
            if assigned is None:
                self._assigned.pop(journal.job_id, None)

        def tell(percent: int, node_id: str) -> None:
            total = progress.percent(journal, number, f"({percent}/100%)")
            watch.step(total, progress.text(journal), NodeId(node_id))

        ears = _Ears(lambda: _check(journal, watch), tell)
        if assigned is not None:
            self._assigned[journal.job_id] = assigned
        return assigner.carry_out(journal, number, ears, note)

    def _settle(self, journal: Journal, watch: Watch) -> Journal:
        """See to it that no other node moves data for a job; return its journal.

        Only AgentStopping ends it before: it is being undone already.
        """
        assigned = self._assigned.get(journal.job_id, journal.assigned)
        if assigned is None:
            return journal
        assert self._assigner is not None, "who assigned it can settle it"
        self._assigner.settle(assigned, lambda: _check_stopping(watch))
        self._assigned.pop(journal.job_id, None)
        return journal.assign(None)

    def _start(self, step_id: str, action: Action) -> Step:
        argv, folder = self._homes.command(action)
        needs = self._mandate.needs_of(action.storage_domains())
        try:
            return self._guard.run(step_id, argv, needs, folder)
        except Error as error:
            if error.code != StepDiffers.code:
                raise
        # A lease of its was lost, and taken anew: what ran under the old one ended.
        self._guard.forget(step_id)
        return self._guard.run(step_id, argv, needs, folder)

    def _program_under_way(self, journal: Journal) -> int | None:
        """Return the number of the action whose program is known, None: there is none.

        What comes before it in its step is done, and must not be done again under it.
        """
        if journal.direction is Direction.BACK:
            return None
        known = {step.step_id for step in self._guard.steps()}
        found = [
            number
            for number in range(len(journal.step.do))
            if self._step_id(journal, number) in known
        ]
        return max(found, default=None)

    def _step_id(self, journal: Journal, number: int) -> str:
        term = self._mandate.number
        return f"{PREFIX}.{journal.job_id}.{term}.{journal.done}.{number}"

    def _forget(self, job_id: str, kept: Journal | None = None) -> None:
        """End the programs of a job but those of the step under way; forget them."""
        programs = range(len(kept.step.do)) if kept is not None else ()
        spared = {self._step_id(kept, each) for each in programs if kept is not None}
        for step in self._guard.steps():
            is_its = step.step_id.startswith(f"{PREFIX}.{job_id}.")
            if is_its and step.step_id not in spared:
                if step.state is StepState.RUNNING:
                    self._guard.cancel(step.step_id)
                self._guard.forget(step.step_id)

    def _forget_step(self, journal: Journal) -> None:
        """Forget the programs of the step under way, which have ended."""
        for number, action in enumerate(journal.step.do):
            if action.verb in PROGRAMS:
                self._guard.forget(self._step_id(journal, number))

    def _check_homes(self, storage_domain_ids: Iterable[str]) -> None:
        for storage_domain_id in sorted(storage_domain_ids):
            self._homes.home(storage_domain_id)


def _check(journal: Journal, watch: Watch) -> None:
    """Let an operation be refused before its commit point, or left at any time."""
    if journal.is_committed:
        _check_stopping(watch)
    else:
        watch.check()


def _check_stopping(watch: Watch) -> None:
    try:
        watch.check()
    except jobs.AgentStopping:
        raise
    except Error as error:
        log.debug("it cannot be ended just now: %s", error)


def _may_undo(journal: Journal, error: Error) -> bool:
    """Tell whether the error of a step ends its operation."""
    if isinstance(error, ProgramKilled | NodeHoldsVolume | HandedOver):
        return False
    is_defining = any(each.verb is Verb.DEFINE for each in journal.step.do)
    if is_defining and error.code not in _NOT_DEFINED:
        return False  # it may be written all the same
    is_first_committed = journal.done == journal.plan.commit
    return not journal.is_committed or (is_first_committed and journal.step.may_refuse)
