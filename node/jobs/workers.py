"""Run jobs: a few at a time, one per object, in the order they were asked.

Jobs on what may hang have workers of their own: a storage that does not answer must
not keep a VM from starting.

A job and its journal entry are on disk before `submit` returns. Whatever ends
the agent, `recover` finds the entry at the next start and asks the job's owner
how to go on; so each step of a job must be safe to run twice.
"""

import functools
import itertools
import logging
import threading
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

from node import wire
from node.clock import Clock, rfc3339
from node.errors import Busy, Conflict, Error, Failed, NotFound, Unavailable
from node.jobs import limits, states
from node.model import messages
from node.model.feed import Document, Kind
from node.model.ids import CorrelationId, JobId, NodeId
from node.model.job import ENDED, ErrorReport, Job, JobState
from node.store import JournalEntry, Store
from node.units import MINUTE_S
from node.wire import Json

log = logging.getLogger(__name__)

# More than this waiting is a caller gone wild.
QUEUE_MAX: Final = 1000
# Progress that only moves the percentage is written down this often.
_PROGRESS_S: Final = 0.5
# How often a full disk is tried again, to write down how a job ended.
_RETRY_S: Final = 1.0
# How many work at once on each kind of object, or for a verb; the rest shares what is
# under "". What jobs of another manager left lasts as long as they, and keeps none of
# this one's jobs from a worker.
# A pool's structure is changed by one at a time; copies of disks last for hours.
LANES: Final[Mapping[str, int]] = {
    "": 4,
    Kind.POOL: 2,
    Kind.STORAGE_DOMAIN: 4,
    "disk_recover": 3,
    Kind.DISK: 6,
    Kind.TEMPLATE: 3,
    "hook_tell": 4,  # scripts that hang keep nothing else from its worker
    "hook_check": 1,
}
# How often an idle worker looks for jobs that are old enough to be forgotten.
_TIDY_S: Final = MINUTE_S


class JobUnknown(NotFound):
    code = "job_unknown"
    remedy = "List the jobs: those that ended are kept for an hour."


class JobIdTaken(Conflict):
    """Another job has that id."""

    code = "job_id_taken"
    remedy = "Choose a new random UUID for each job."


class TooManyJobs(Busy):
    code = "too_many_jobs"
    remedy = "Wait until some of the jobs have ended, then try again."


class AgentStopping(Unavailable):
    """The agent is stopping: the job goes on when it starts again."""

    code = "agent_stopping"
    remedy = "Try again when the agent has started."


class Cancelled(Conflict):
    """Somebody asked for the job to be cancelled."""

    code = "job_cancelled"


class JobInterrupted(Failed):
    """The agent was restarted, and the job cannot be taken up again."""

    code = "job_interrupted"
    remedy = "Look at the state of the object, then ask again if need be."


class JobBroke(Failed):
    """The job met a bug of ours; its traceback is in the log."""

    code = "internal_error"
    remedy = "Report it, with the agent's log."


@dataclass(slots=True, eq=False)
class _Active:
    """A job that has not ended; changed under the lock of Jobs."""

    job: Job
    run: Callable[["Progress"], None]
    written_s: float = 0.0  # when its progress was last written down
    is_taken: bool = False  # a worker has it
    wake: threading.Event = field(default_factory=threading.Event)


class Progress:
    """What a running job tells, and asks, while it runs."""

    def __init__(self, jobs: "Jobs", active: _Active) -> None:
        self._jobs = jobs
        self._active = active

    @property
    def job(self) -> Job:
        return self._active.job

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody asked for the end of it, or the agent is stopping."""
        return self._active.wake.is_set()

    def check(self) -> None:
        """Go on only if nobody wants it to stop; call where stopping is safe.

        Raises Cancelled or AgentStopping; let both pass.
        """
        if self._active.job.is_cancel_asked:
            raise Cancelled("the job was cancelled")
        if self._jobs.is_stopping:
            raise AgentStopping("the agent is stopping")

    def step(self, percent: int, text: str, data_node_id: NodeId | None = None) -> None:
        """Say what is done next, how far the job is, and who else moves its data."""
        self._jobs.note_progress(self._active, percent, text, data_node_id)

    def tell(self, result: str) -> None:
        """Say how it ends, in a word that the verb defines."""
        self._jobs.note_result(self._active, result)

    def pause(self, seconds: float) -> None:
        """Wait, but no longer than until `check` would raise; then check."""
        self._active.wake.wait(seconds)
        self.check()


Runner = Callable[[Progress], None]
# What becomes of an unfinished job: run this; fail with this code; just fail.
Handler = Callable[[Job, Json], Runner | str | None]


def random_id() -> JobId:
    """Return an id for a job whose caller has not chosen one."""
    return JobId(str(uuid.uuid4()))


class Jobs:
    """All jobs of a node. Every method may be called from every thread."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        lanes: Mapping[str, int] = LANES,
        new_id: Callable[[], JobId] = random_id,
    ) -> None:
        self._store = store
        self._clock = clock
        self._lanes = lanes
        self._threads: tuple[threading.Thread, ...] = ()
        self._changed = threading.Condition()
        self._new_id = new_id
        self._active: dict[JobId, _Active] = {}
        self._ended = {
            job.job_id: job
            for job in map(_job, store.list(Kind.JOB))
            if job.state in ENDED
        }
        self._queues: dict[tuple[str, str], deque[_Active]] = {}
        # Objects with work that are not worked on, by lane.
        self._ready: dict[str, deque[tuple[str, str]]] = {
            lane: deque() for lane in lanes
        }
        self._idle = dict(lanes)  # workers without a job, by lane
        self.is_stopping = False

    def submit(
        self,
        verb: str,
        object_kind: str,
        object_id: str,
        run: Runner,
        *,
        job_id: JobId | None,
        correlation_id: CorrelationId | None = None,
        arguments: Json = None,
    ) -> Job:
        """Take on a job; the same id again is the same job, whatever became of it.

        `job_id` None: choose one.
        `arguments` are what its handler needs to run it again after a restart.
        Raises JobIdTaken, TooManyJobs, AgentStopping, and what the store raises.
        """
        job_id = job_id or self._new_id()
        with self._changed:
            known = self._find(job_id)
            if known is not None:
                if (known.verb, known.object_id) != (verb, object_id):
                    raise JobIdTaken(
                        f"job {job_id} is a {known.verb} of {known.object_id}",
                        job_id=job_id,
                    )
                return known
            if self.is_stopping:
                raise AgentStopping("the agent is stopping")
            if len(self._active) >= QUEUE_MAX:
                raise TooManyJobs(f"{QUEUE_MAX} jobs wait already", maximum=QUEUE_MAX)
            job = Job(
                job_id,
                verb,
                object_kind,
                object_id,
                JobState.QUEUED,
                rfc3339(self._clock.now()),
                correlation_id=correlation_id,
            )
            with self._store.change() as change:
                change.put(Kind.JOB, job_id, job)
                change.journal(job_id, verb, arguments)
            self._enqueue(_Active(job, run))
            return job

    def get(self, job_id: JobId, wait_s: float = 0.0) -> Job:
        """Return a job, waiting for its end if asked; JobUnknown if there is none."""
        with self._changed:
            self._changed.wait_for(lambda: job_id not in self._active, wait_s)
            job = self._find(job_id)
        if job is None:
            raise JobUnknown(f"there is no job {job_id}", job_id=job_id)
        return job

    def list(self) -> tuple[Job, ...]:
        """Return the jobs that have not ended and those that ended lately."""
        with self._changed:
            active = tuple(active.job for active in self._active.values())
            return (*self._ended.values(), *active)

    def cancel(self, job_id: JobId) -> Job:
        """End a job that waits; ask one that runs to stop; leave one that ended."""
        with self._changed:
            active = self._active.get(job_id)
            if active is not None and not active.job.is_cancel_asked:
                asked = replace(active.job, is_cancel_asked=True)
                with self._store.change() as change:
                    change.put(Kind.JOB, job_id, asked)
                active.job = asked
                active.wake.set()
                # There is none any more when its worker has stopped with the agent.
                queue = self._queues.get(_object(asked), ())
                if active in queue:
                    self._end(active, JobState.CANCELLED)
                    self._queues[_object(asked)].remove(active)
                    self._line_up(_object(asked))
        return self.get(job_id)

    def recover(self, handlers: Mapping[str, Handler]) -> None:
        """Take up again, or end, what had not ended when the agent did.

        Call once, before `start`. `handlers` are found by the verb of the job.
        """
        with self._changed:
            for entry in self._store.journal():
                document = self._store.get(Kind.JOB, entry.job_id)
                assert document is not None, "journal and document change together"
                self._recover_one(entry, _job(document), handlers.get(entry.verb))

    def start(self) -> None:
        """Start the workers."""
        self._threads = tuple(
            threading.Thread(
                target=self._work,
                args=(lane,),
                name=f"job-{lane or 'any'}-{number}",
                daemon=True,
            )
            for lane, maximum in self._lanes.items()
            for number in range(maximum)
        )
        for thread in self._threads:
            thread.start()

    def stop(self, deadline_s: float) -> None:
        """Take no more jobs; wait a while for those that run to reach a safe point.

        What does not end goes on when the agent starts again.
        """
        with self._changed:
            self.is_stopping = True
            for active in self._active.values():
                active.wake.set()
            self._changed.notify_all()
        until = self._clock.monotonic() + deadline_s
        for thread in self._threads:
            thread.join(max(0.0, until - self._clock.monotonic()))

    def note_progress(
        self,
        active: _Active,
        percent: int,
        text: str,
        data_node_id: NodeId | None = None,
    ) -> None:
        """Write progress down when it says something new, or now and then."""
        with self._changed:
            told = (active.job.step, active.job.data_node_id)
            is_news = (text, data_node_id) != told
            now = self._clock.monotonic()
            active.job = replace(
                active.job,
                progress_percent=min(max(percent, 0), 99),
                step=text,
                data_node_id=data_node_id,
            )
            if is_news or now - active.written_s >= _PROGRESS_S:
                active.written_s = now
                with self._store.change() as change:
                    change.put(Kind.JOB, active.job.job_id, active.job)

    def note_result(self, active: _Active, result: str) -> None:
        """Keep how a job ends; it is written down with its end."""
        with self._changed:
            active.job = replace(active.job, result=result)

    def _find(self, job_id: JobId) -> Job | None:
        active = self._active.get(job_id)
        if active is not None:
            return active.job
        if job_id in self._ended:
            return self._ended[job_id]
        document = self._store.get(Kind.JOB, job_id)
        return _job(document) if document is not None else None

    def _enqueue(self, active: _Active) -> None:
        key = _object(active.job)
        self._active[active.job.job_id] = active
        queue = self._queues.get(key)
        if queue is not None:
            queue.append(active)
        else:
            self._queues[key] = deque((active,))
            self._lane(key).append(key)
        self._changed.notify_all()

    def _recover_one(
        self, entry: JournalEntry, job: Job, handler: Handler | None
    ) -> None:
        answer = handler(job, entry.arguments) if handler is not None else None
        if job.state is JobState.RUNNING and callable(answer):
            job = states.advance(job, JobState.QUEUED, rfc3339(self._clock.now()))
        if callable(answer):
            log.info("job %s, %s of %s, goes on", job.job_id, job.verb, job.object_id)
            active = _Active(job, answer)
            if job.is_cancel_asked:
                active.wake.set()
            self._enqueue(active)
            return
        error = states.report(
            JobInterrupted("the agent was restarted while the job was under way")
        )
        if answer is not None:
            error = replace(
                error, code=answer, message=messages.text(answer, {}), remedy=""
            )
        self._end(_Active(job, _nothing), JobState.FAILED, error)

    def _lane(self, key: tuple[str, str]) -> deque[tuple[str, str]]:
        kind, _ = key
        names = (self._queues[key][0].job.verb, kind)
        return self._ready[next((n for n in names if n in self._ready), "")]

    def _line_up(self, key: tuple[str, str]) -> None:
        """Let an object wait in the lane of what is its first job by now."""
        for ready in self._ready.values():
            if key in ready and self._queues[key] and ready is not self._lane(key):
                ready.remove(key)
                self._lane(key).append(key)
                self._changed.notify_all()
                return

    def _reserved_before(self, ready: deque[tuple[str, str]]) -> set[str]:
        """Return the places for which jobs of lanes that come before wait.

        One whose lane has all its workers at work waits for them, and not for a place.
        """
        before = itertools.takewhile(
            lambda each: self._ready[each] is not ready, self._ready
        )
        lanes = (self._ready[each] for each in before if self._idle[each])
        heads = (self._queues[key] for lane in lanes for key in lane)
        waiting = (limits.places(queue[0].run) for queue in heads if queue)
        return {place.key for places in waiting for place in places}

    def _work(self, lane: str) -> None:
        ready = self._ready[lane]
        while not self.is_stopping:
            with self._changed:
                if not self._changed.wait_for(
                    lambda: self._may_begin(ready) is not None or self.is_stopping,
                    _TIDY_S,
                ):
                    _may_write(self._tidy)
                key = self._may_begin(ready)
                if key is None or self.is_stopping:
                    continue
                ready.remove(key)
                self._idle[lane] -= 1
                queue = self._queues[key]
                active = queue.popleft() if queue else None
                if active is not None:
                    active.is_taken = True
                    self._changed.notify_all()  # what waited behind it may begin
            if active is not None:
                self._run(active)
            with self._changed:
                self._idle[lane] += 1
                if queue:
                    self._lane(key).append(key)
                    self._changed.notify_all()
                else:
                    del self._queues[key]

    def _may_begin(self, ready: deque[tuple[str, str]]) -> tuple[str, str] | None:
        """Return the first object whose job has its places; the others say why not."""
        counts = limits.taken(
            each.run for each in self._active.values() if each.is_taken
        )
        reserved = self._reserved_before(ready)
        for key in ready:
            queue = self._queues[key]
            if not queue:
                return key  # its job was cancelled
            wanted = limits.places(queue[0].run)
            why = limits.why_wait(wanted, counts, reserved)
            if not why:
                return key
            reserved.update(place.key for place in wanted)
            _may_write(functools.partial(self._note_wait, queue[0], why))
        return None

    def _note_wait(self, active: _Active, why: str) -> None:
        if active.job.step != why:
            active.job = replace(active.job, step=why)
            with self._store.change() as change:
                change.put(Kind.JOB, active.job.job_id, active.job)

    def _run(self, active: _Active) -> None:
        started_s = self._clock.monotonic()
        job = active.job
        log.info("job %s starts: %s of %s", job.job_id, job.verb, job.object_id)
        state, error = JobState.DONE, None
        try:
            with self._changed, self._store.change() as change:
                active.job = states.advance(
                    active.job, JobState.RUNNING, rfc3339(self._clock.now())
                )
                change.put(Kind.JOB, job.job_id, active.job)
            active.run(Progress(self, active))
        except AgentStopping:
            log.info("job %s goes on when the agent starts again", job.job_id)
            return
        except Cancelled:
            state = JobState.CANCELLED
        except Error as failure:
            state, error = JobState.FAILED, states.report(failure)
        except Exception as bug:
            log.exception("job %s met a bug", job.job_id)
            broke = JobBroke(f"{type(bug).__name__}: {bug}")
            state, error = JobState.FAILED, states.report(broke)
        log.info(
            "job %s is %s after %.3f s%s",
            job.job_id,
            state,
            self._clock.monotonic() - started_s,
            f": {error.message}" if error else "",
        )
        self._end_for_sure(active, state, error)

    def _end_for_sure(
        self, active: _Active, state: JobState, error: ErrorReport | None
    ) -> None:
        """Write down how a job ended, trying again while the disk is full."""
        with self._changed:
            while not _may_write(lambda: self._end(active, state, error)):
                if self._changed.wait_for(lambda: self.is_stopping, _RETRY_S):
                    return

    def _end(
        self, active: _Active, state: JobState, error: ErrorReport | None = None
    ) -> None:
        job = states.advance(active.job, state, rfc3339(self._clock.now()), error)
        with self._store.change() as change:
            change.put(Kind.JOB, job.job_id, job)
            change.forget(job.job_id)
        active.job = job
        self._active.pop(job.job_id, None)
        self._ended[job.job_id] = job
        self._changed.notify_all()
        _may_write(self._tidy)

    def _tidy(self) -> None:
        """Forget ended jobs that are old or many."""
        oldest = rfc3339(self._clock.now() - timedelta(seconds=states.KEPT_S))
        forgettable = states.forgettable(self._ended.values(), oldest)
        if forgettable:
            with self._store.change() as change:
                for job_id in forgettable:
                    change.delete(Kind.JOB, job_id)
            for job_id in forgettable:
                del self._ended[job_id]


def _object(job: Job) -> tuple[str, str]:
    return (job.object_kind, job.object_id)


def _job(document: Document) -> Job:
    return wire.from_json(Job, dict(document.body), strict=False)


def _nothing(progress: Progress) -> None:
    """Stand in for the work of a job that is only to be ended."""


def _may_write(write: Callable[[], None]) -> bool:
    """Try to write to the store; False, and a warning, if it refuses."""
    try:
        write()
    except Error as error:
        log.warning("the state of a job cannot be written down: %s", error)
        return False
    return True
