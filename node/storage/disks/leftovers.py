"""End what jobs on disks, of this manager or of an earlier one, have left.

A journal that no job works on is ended by a job of its own, which tries a few times;
what it may touch stays locked until then, and all else is served. One that does not
get better by itself is tried more and more rarely. One that nobody may act on is told
of, and waits for a person. Times are seconds.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from node import jobs, wire
from node.clock import Clock
from node.contract.volumes import Course
from node.errors import Busy, Error, Unavailable
from node.model.feed import Kind
from node.model.ids import JobId
from node.model.job import Job
from node.storage.data.assigner import NodeHoldsVolume
from node.storage.disks.actions import ProgramKilled
from node.storage.disks.executor import Executor, Outcome, Watch
from node.storage.disks.locks import Claim, DiskLocks, Left
from node.storage.formats.journal import Direction, Journal
from node.storage.spm.journal_folder import JournalGone
from node.storage.spm.pool import Pool
from node.storage.spm.term import NotSpm, Term

log = logging.getLogger(__name__)

# The verb of jobs that end a journal; a program that was killed, or a storage that did
# not answer, may be well in a moment. Longer than this a worker is not kept.
END_VERB: Final = "disk_recover"
RETRIES_S: Final = (1.0, 5.0, 15.0)
# Between jobs that fail for another reason: twice as long each time. A person has to
# help, and sees within minutes that it did.
PAUSE_S: Final = 20.0
PAUSE_MAX_S: Final = 640.0
# How often a job that waits for its own journal looks whether it is to end.
_TURN_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Ending:
    """What a job that ends a journal is taken up with again."""

    job_id: JobId  # of the journal
    pool_id: str = ""
    # Between which another node moves data for it; empty: none does.
    storage_domain_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Rest:
    """For how long a journal is left alone, and until when."""

    pause_s: float
    until: float


class Leftovers:
    """The journals of one pool that no job works on. Any thread may call."""

    def __init__(
        self,
        pool: Pool,
        all_jobs: jobs.Jobs,
        locks: DiskLocks,
        executor: Callable[[Term], Executor],
        is_alive: Callable[[JobId], bool],
        *,
        wait: Callable[[jobs.Progress], None],
        look_again: Callable[[Iterable[tuple[str, str]]], None],
        new_id: Callable[[], JobId],
        limit: Callable[[jobs.Runner, Iterable[str]], jobs.Runner],
        clock: Clock,
    ) -> None:
        """`wait` lets a job wait for this node to be manager again.

        `limit` lets only so many jobs move data of the storage domains at once;
        `look_again` hears which (storage domain, image) pairs have changed.
        """
        self._pool = pool
        self._jobs = all_jobs
        self._locks = locks
        self._executor = executor
        self._is_alive = is_alive
        self._wait = wait
        self._look_again = look_again
        self._new_id = new_id
        self._limit = limit
        self._clock = clock
        self._endings: dict[JobId, JobId] = {}  # by the journal's job
        self._resting: dict[JobId, _Rest] = {}  # likewise

    def begin_term(self) -> None:
        """Hear that this node is manager anew.

        Jobs of an earlier term may give up just now; twice ended does no harm.
        """
        self._endings.clear()
        self._resting.clear()

    def take_over(self, term: Term) -> None:
        """Lock what journals may touch, and let jobs end them. Fast."""
        before, executor = self._locks.left(), self._executor(term)
        journals, others = executor.claim(self._is_spared)
        for each in others:
            shown = frozenset(image_id for _, image_id in each.places)
            left = Left(each.places, shown, each.error, may_retry=False)
            self._locks.leave(JobId(each.job_id), left)
        for journal in journals:
            job_id = JobId(journal.job_id)
            rests = job_id in before and self._rests(job_id)
            if rests or self._is_alive(job_id):
                continue
            # Its job may have ended, journal and all, since that was read.
            if job_id in before or _is_there(executor, job_id):
                left = Left(journal.places(), journal.shown())
                self._end_later(job_id, journal.object_id, left, _moves(journal))
        listed = {each.job_id for each in journals} | {each.job_id for each in others}
        for job_id in before:
            if job_id not in listed:
                self._locks.end_left(job_id)
                self._resting.pop(job_id, None)

    def note(self, claim: Claim, object_id: str) -> None:
        """Let what a job left be ended, if it left a journal or nobody can tell."""
        moves: tuple[str, ...] = ()
        try:
            with self._pool.spm.work() as term:
                journal = self._executor(term).find(claim.job_id)
        except JournalGone:
            return
        except Error as error:
            # Who manages next ends it; if that is this node, the job waits for it.
            log.info("job %s may have left a journal: %s", claim.job_id, error)
            left = Left(claim.places, claim.changed, error)
        else:
            left = Left(journal.places(), journal.shown())
            moves = _moves(journal)
        self._end_later(claim.job_id, object_id, left, moves)

    def end_again(self, job: Job, arguments: wire.Json) -> jobs.Runner:
        """Return what goes on to end a journal: a job's handler."""
        ending = wire.from_json(Ending, arguments, strict=False)
        self._endings[ending.job_id] = job.job_id

        def run(progress: jobs.Progress) -> None:
            self._wait(progress)
            self._end(ending.job_id, progress)

        return self._limit(run, ending.storage_domain_ids)

    @contextmanager
    def alone(self, progress: Course) -> Iterator[None]:
        """Let nobody else go on with the journal of a job that does so itself.

        What ends it already is waited for, and is cancelled with the job.
        """
        job_id = progress.job.job_id
        while not self._locks.take_turn(job_id, _TURN_S):
            try:
                progress.check()
            except jobs.Cancelled:
                self._cancel_ending(job_id)
        try:
            yield
        finally:
            self._locks.end_turn(job_id)

    def _cancel_ending(self, job_id: JobId) -> None:
        ending = self._endings.get(job_id)
        if ending is not None and self._is_alive(ending):
            self._jobs.cancel(ending)

    def _end_later(
        self, job_id: JobId, disk_id: str, left: Left, moves: tuple[str, ...]
    ) -> None:
        """Keep what a journal may touch locked, and let a job end it."""
        self._locks.leave(job_id, left)
        known = self._endings.get(job_id)
        if known is not None and self._is_alive(known):
            return
        try:
            job = self._jobs.submit(
                END_VERB,
                Kind.DISK,
                disk_id,
                self._limit(lambda progress: self._end(job_id, progress), moves),
                job_id=self._new_id(),
                arguments=wire.to_json(Ending(job_id, self._pool.pool_id, moves)),
            )
        except Error as error:
            log.warning("journal %s waits to be ended: %s", job_id, error)
        else:
            self._endings[job_id] = job.job_id

    def _end(self, job_id: JobId, progress: jobs.Progress) -> None:
        """Finish or undo what a journal names, unless its own job is at it."""
        if not self._locks.take_turn(job_id):
            log.info("journal %s is its job's own", job_id)
            return
        try:
            self._try_to_end(job_id, progress)
        finally:
            self._locks.end_turn(job_id)

    def _try_to_end(self, job_id: JobId, progress: jobs.Progress) -> None:
        """Finish or undo what a journal names, trying a few times."""
        for pause_s in (*RETRIES_S, None):
            try:
                with self._pool.spm.work() as term:
                    self._end_now(self._executor(term), job_id, progress)
            except jobs.AgentStopping:
                raise
            except Error as error:
                # Who has just become manager serves in a moment.
                may_pass = isinstance(error, Unavailable | Busy | NotSpm)
                # It was waited for already, for as long as a worker may be kept.
                may_pass = may_pass and not isinstance(error, NodeHoldsVolume)
                is_left = job_id in self._locks.left()
                if not may_pass and is_left:
                    self._let_rest(job_id)
                if pause_s is None or not may_pass or not is_left:
                    raise
                log.info("journal %s waits: %s", job_id, error)
                progress.pause(pause_s)
            else:
                self._resting.pop(job_id, None)
                return

    def _rests(self, job_id: JobId) -> bool:
        rest = self._resting.get(job_id)
        return rest is not None and self._clock.monotonic() < rest.until

    def _let_rest(self, job_id: JobId) -> None:
        """Leave a journal alone for a while, twice as long as before."""
        known = self._resting.get(job_id)
        pause_s = min(2 * known.pause_s, PAUSE_MAX_S) if known else PAUSE_S
        self._resting[job_id] = _Rest(pause_s, self._clock.monotonic() + pause_s)

    def _end_now(
        self, executor: Executor, job_id: JobId, progress: jobs.Progress
    ) -> None:
        left = self._locks.left().get(job_id)
        try:
            executor.resume(job_id, progress)
        except JournalGone:
            self._locks.end_left(job_id)
        except jobs.AgentStopping:
            raise
        except Error as error:
            self._note_why(executor, job_id, error)
            raise
        else:
            self._locks.end_left(job_id)
        finally:
            self._look_again(left.places if left is not None else ())

    def _note_why(self, executor: Executor, job_id: JobId, error: Error) -> None:
        """Note what a journal still keeps, and why."""
        try:
            journal = executor.find(job_id)
        except JournalGone:
            self._locks.end_left(job_id)
        else:
            left = Left(journal.places(), journal.shown(), error)
            self._locks.leave(job_id, left)

    def _is_spared(self, job_id: str) -> bool:
        """Tell whether a job works on a journal, or will: its own, or what ends it."""
        ending = self._endings.get(JobId(job_id))
        return self._is_alive(JobId(job_id)) or (
            ending is not None and self._is_alive(ending)
        )


def _moves(journal: Journal) -> tuple[str, ...]:
    """Return the storage domains between which another node moves data for it.

    What is undone moves nothing, and should not wait.
    """
    found = journal.assigned
    if found is None or journal.direction is Direction.BACK:
        return ()
    return tuple(sorted(found.order.action.storage_domains()))


def _is_there(executor: Executor, job_id: JobId) -> bool:
    """Tell whether a job's journal is there; if nobody can tell, it is."""
    try:
        executor.find(job_id)
    except JournalGone:
        return False
    except Error as error:
        log.info("journal %s cannot be looked at: %s", job_id, error)
    return True


def _is_undone(executor: Executor, job_id: JobId) -> bool:
    """Tell whether a job will not be finished any more, whoever ends its journal."""
    try:
        return executor.find(job_id).direction is Direction.BACK
    except JournalGone:
        return True


def resume(executor: Executor, progress: Course, watch: Watch) -> bool:
    """Go on with the job's journal; tell whether nothing is left to do."""
    try:
        return executor.resume(progress.job.job_id, watch) is Outcome.FINISHED
    except JournalGone:
        return False


def carry_on(
    executor: Executor, progress: Course, watch: Watch, error: ProgramKilled
) -> None:
    """Go on with a job whose program was killed, while the lease is still held.

    Raises why it was killed if the job is undone, or it happens again and again.
    """
    for pause_s in RETRIES_S:
        progress.pause(pause_s)
        try:
            is_done = resume(executor, progress, watch)
        except ProgramKilled as again:
            error = again
            continue
        if is_done:
            return
        break
    raise error


def wait_for_node(
    executor: Executor, progress: Course, watch: Watch, error: NodeHoldsVolume
) -> None:
    """Go on with a job when the node that has its volume answers, or is dead.

    Told as failed, it would be done later all the same. A cancellation undoes it.
    Raises why it waited if it is undone.
    """
    is_done: bool | None = None
    while is_done is None:
        cancelled: jobs.Cancelled | None = None
        try:
            progress.pause(PAUSE_S)
        except jobs.Cancelled as asked:
            cancelled = asked  # what can be undone still hears of it when it goes on
        try:
            is_done = resume(executor, progress, watch)
        except NodeHoldsVolume as again:
            error = again
            if cancelled is not None and _is_undone(executor, progress.job.job_id):
                raise cancelled from again
    if not is_done:
        raise error
