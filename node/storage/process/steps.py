"""Run programs that write to storage, each under the leases that it needs.

A step has an id that its caller chose: asked for twice it runs once, and its result
waits here until the caller forgets it. It outlives the caller.
"""

import logging
import signal
import threading
import time
from dataclasses import dataclass, replace
from typing import Final

from node.errors import Busy, Conflict, Invalid, NotFound
from node.storage.process.children import Child, Children, Command
from node.storage.process.holdings import Holdings, Use
from node.storage.process.protocol import (
    TIMEOUT_MAX_S,
    Run,
    Step,
    StepState,
    lockspaces,
)

log = logging.getLogger(__name__)

# As many as run at once, and as many results as wait to be forgotten.
RUNNING_MAX: Final = 64
ENDED_MAX: Final = 1000
TERMINATE_S: Final = 10.0  # qemu-img ends at once; what does not is killed
_NAME_MAX: Final = 128
_WORDS_MAX: Final = 256


class StepUnknown(NotFound):
    """It was never started here, was forgotten, or this process is a later one."""

    code = "step_unknown"
    remedy = "Look at the storage for what it had done, then run it again."


class StepDiffers(Conflict):
    """Another step has this id."""

    code = "step_differs"
    remedy = "Choose a new id for a new step."


class StepRuns(Conflict):
    code = "step_runs"
    remedy = "Wait for its end, or cancel it."


class TooManySteps(Busy):
    code = "too_many_steps"
    remedy = "Wait until another step has ended, or forget those that have."


class StepMalformed(Invalid):
    code = "step_malformed"
    remedy = "Name a program by its path or its name, an id, and an absolute folder."


@dataclass(slots=True)
class _Record:
    request: Run
    use: Use
    started_at: float
    child: Child | None = None  # None: it is being started
    ended_at: float = 0.0


class Runner:
    """All steps of this process."""

    def __init__(self, holdings: Holdings, children: Children) -> None:
        self._holdings = holdings
        self._children = children
        self._changed = threading.Condition()
        self._records: dict[str, _Record] = {}

    def run(self, request: Run) -> Step:
        """Start a step unless it was started; StaleLease, StepDiffers, Busy."""
        _check(request)
        with self._changed:
            known = self._records.get(request.step_id)
            if known is not None:
                if known.request != request:
                    raise StepDiffers(f"step {request.step_id} is another one")
                return _describe(known)
            self._make_room()
            use = self._holdings.use(request.needs)
            record = _Record(request, use, time.monotonic())
            self._records[request.step_id] = record
        try:
            child = self._children.start(
                Command(
                    request.argv,
                    request.folder,
                    self._holdings.lifelines(request.needs),
                    lockspaces(request.needs),
                )
            )
        except BaseException:
            with self._changed:
                del self._records[request.step_id]
            use.end()
            raise
        log.info("step %s started: %s", request.step_id, request.argv[0])
        record.child = child
        use.bind(child.kill)
        child.then(lambda: self._note_end(record))
        return _describe(record)

    def wait(self, step_id: str, timeout_s: float) -> Step:
        """Return the step when it has ended, or after so many seconds."""
        if not 0 <= timeout_s <= TIMEOUT_MAX_S:
            raise StepMalformed(f"timeout_s must be 0 to {TIMEOUT_MAX_S:g}")
        record = self._find(step_id)
        with self._changed:
            self._changed.wait_for(lambda: record.ended_at, timeout_s)
        child = record.child
        if record.ended_at and child is not None and child.status == -signal.SIGKILL:
            self._holdings.judge(record.use, record.request.needs)
        return _describe(record)

    def progress(self, step_id: str) -> str:
        """Return the last line on its standard output; empty: there is none yet."""
        child = self._find(step_id).child
        written = bytes(child.stdout) if child is not None else b""
        # qemu-img -p begins each line with a carriage return.
        lines = written.replace(b"\r", b"\n").split(b"\n")
        said = [line.strip() for line in lines if line.strip()]
        return said[-1].decode(errors="replace") if said else ""

    def cancel(self, step_id: str) -> Step:
        """End a step: ask it, then kill it; return it when it has ended."""
        record = self._find(step_id)
        child = record.child
        if child is not None and not record.ended_at:
            child.terminate()
            if self.wait(step_id, TERMINATE_S).state is StepState.RUNNING:
                log.warning("step %s does not end: killed", step_id)
                child.kill()
        return self.wait(step_id, TERMINATE_S)

    def all(self) -> tuple[Step, ...]:
        """Return every step, without what it wrote."""
        with self._changed:
            records = tuple(self._records.values())
        return tuple(replace(_describe(each), stdout="", stderr="") for each in records)

    def forget(self, step_id: str) -> None:
        """Forget the result of a step; StepRuns. Idempotent."""
        with self._changed:
            record = self._records.get(step_id)
            if record is not None and not record.ended_at:
                raise StepRuns(f"step {step_id} runs")
            self._records.pop(step_id, None)

    def _find(self, step_id: str) -> _Record:
        with self._changed:
            record = self._records.get(step_id)
        if record is None:
            raise StepUnknown(f"there is no step {step_id}")
        return record

    def _make_room(self) -> None:
        running = sum(not each.ended_at for each in self._records.values())
        if running >= RUNNING_MAX:
            raise TooManySteps(f"{running} steps run")
        if len(self._records) >= ENDED_MAX:
            raise TooManySteps(f"{len(self._records)} steps wait to be forgotten")

    def _note_end(self, record: _Record) -> None:
        assert record.child is not None
        with self._changed:
            record.ended_at = time.monotonic()
            self._changed.notify_all()
        record.use.end()
        log.info(
            "step %s ended: status %s, %.3f s",
            record.request.step_id,
            record.child.status,
            record.ended_at - record.started_at,
        )


def _describe(record: _Record) -> Step:
    child = record.child
    if child is None or not record.ended_at:
        elapsed_s = time.monotonic() - record.started_at
        return Step(record.request.step_id, StepState.RUNNING, elapsed_s=elapsed_s)
    return Step(
        record.request.step_id,
        StepState.ENDED,
        child.status,
        child.stdout.decode(errors="replace"),
        child.stderr.decode(errors="replace"),
        child.status == -signal.SIGKILL and record.use.is_lost,
        record.ended_at - record.started_at,
    )


def _check(request: Run) -> None:
    if not 0 < len(request.step_id) <= _NAME_MAX:
        raise StepMalformed(f"a step's id has 1 to {_NAME_MAX} letters")
    if not request.argv or not request.argv[0] or len(request.argv) > _WORDS_MAX:
        raise StepMalformed(f"a command has 1 to {_WORDS_MAX} words")
    if not request.folder.startswith("/"):
        raise StepMalformed(f"{request.folder} is not an absolute path")
