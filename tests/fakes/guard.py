"""A storage process without processes: for whoever asks it for leases and steps.

Leases are the fake sanlock's, kept by the real `Holdings`; file operations are done
here and now on real files; a program is what the test says that it does.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from node import wire
from node.storage.domains import DomainFiles, Done, Entry, Space, Surveyed
from node.storage.guard import FILE_DEADLINE_S, Guard, surveyed
from node.storage.process import file_operations, worker
from node.storage.process.holdings import Holdings, Use
from node.storage.process.protocol import (
    FileReplies,
    JoinedAt,
    Leases,
    LockspaceAt,
    Need,
    ResourceAt,
    Run,
    Step,
    StepState,
)
from node.storage.process.steps import StepDiffers, StepRuns, StepUnknown
from node.storage.process.workers import StorageHangs
from node.system.leases import IO_TIMEOUT_S, Host, Owner
from tests.fakes.leases import FakeLeases, FakeLeaseStorage


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a program ends."""

    status: int = 0
    stdout: str = ""
    stderr: str = ""


# A program's words → how it ends at once; None: it runs until the test ends it.
Program = Callable[[tuple[str, ...]], Outcome | None]


@dataclass(slots=True)
class _Running:
    request: Run
    use: Use
    outcome: Outcome | None = None
    progress: str = ""
    was_lost: bool = False


@dataclass(slots=True)
class FakeGuard:
    """`programs` by their names; one that is not there ends with 127."""

    programs: dict[str, Program] = field(default_factory=dict)
    storage: FakeLeaseStorage = field(default_factory=FakeLeaseStorage)
    machine: str = "one"
    hanging: set[str] = field(default_factory=set)  # domains whose storage hangs
    runs: list[Run] = field(default_factory=list)  # each that was started
    _steps: dict[str, _Running] = field(default_factory=dict)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _door: FakeLeases = field(init=False)
    _holdings: Holdings = field(init=False)

    def __post_init__(self) -> None:
        self._door = FakeLeases(self.storage, self.machine)
        self._holdings = Holdings(self._door)

    def lose(self, lockspace: str) -> None:
        """Let a lockspace be lost: what needs its leases is killed."""
        self._door.lose(lockspace)
        self._holdings.forget_lost()
        self._holdings.give_up_lost(0.0)

    def finish(self, step_id: str, outcome: Outcome) -> None:
        """End a step that runs."""
        self._end(step_id, outcome)

    def say(self, step_id: str, line: str) -> None:
        """Let a step that runs write a line."""
        self._steps[step_id].progress = line

    def join(
        self, lockspace: LockspaceAt, host_id: int, io_timeout_s: int = IO_TIMEOUT_S
    ) -> None:
        self._door.add_lockspace(lockspace.lockspace(), host_id, io_timeout_s)

    def leave(self, lockspace: LockspaceAt, host_id: int) -> None:
        self._holdings.leave(lockspace.lockspace(), host_id)

    def lockspaces(self) -> tuple[JoinedAt, ...]:
        return tuple(
            JoinedAt(each.name, each.host_id, str(each.path), each.offset)
            for each in self._door.joined()
        )

    def hosts(self, lockspace: str) -> tuple[Host, ...]:
        return self._door.hosts(lockspace)

    def write_lockspace(
        self,
        lockspace: LockspaceAt,
        io_timeout_s: int = IO_TIMEOUT_S,
        needs: Sequence[Need] = (),
    ) -> None:
        self._holdings.write_lockspace(
            lockspace.lockspace(), io_timeout_s, tuple(needs)
        )

    def write_resource(self, resource: ResourceAt, needs: Sequence[Need] = ()) -> None:
        self._holdings.write_resource(resource.resource(), tuple(needs))

    def read_owner(self, resource: ResourceAt) -> Owner | None:
        return self._door.read_owner(resource.resource())

    def acquire(self, resource: ResourceAt, version: int | None = None) -> int:
        return self._holdings.acquire(resource.resource(), version)

    def release(self, resource: ResourceAt) -> None:
        self._holdings.release(resource.resource())

    def leases(self) -> Leases:
        holdings = self._holdings
        return Leases(holdings.held(), holdings.lost(), holdings.unsettled())

    def run(
        self,
        step_id: str,
        argv: Sequence[str],
        needs: Sequence[Need] = (),
        folder: str = "/",
    ) -> Step:
        request = Run(step_id, tuple(argv), tuple(needs), folder)
        with self._changed:
            known = self._steps.get(step_id)
            if known is not None and known.request != request:
                raise StepDiffers(f"step {step_id} is another one")
            if known is not None:
                return self._step(known)
            use = self._holdings.use(request.needs)
            running = _Running(request, use)
            self._steps[step_id] = running
        self.runs.append(request)
        use.bind(lambda: self._end(step_id, Outcome(-9), was_lost=True))
        name = PurePosixPath(argv[0]).name
        program = self.programs.get(name, _missing)
        outcome = program(request.argv)
        if outcome is not None:
            self._end(step_id, outcome)
        return self._step(running)

    def wait(self, step_id: str, timeout_s: float) -> Step:
        running = self._find(step_id)
        deadline = time.monotonic() + timeout_s
        with self._changed:
            self._changed.wait_for(
                lambda: running.outcome is not None, deadline - time.monotonic()
            )
        return self._step(running)

    def progress(self, step_id: str) -> str:
        return self._find(step_id).progress

    def cancel(self, step_id: str) -> Step:
        running = self._find(step_id)
        self._end(step_id, Outcome(-15))
        return self._step(running)

    def steps(self) -> tuple[Step, ...]:
        return tuple(
            Step(step.step_id, step.state, step.exit_status, was_lost=step.was_lost)
            for step in map(self._step, self._steps.values())
        )

    def forget(self, step_id: str) -> None:
        running = self._steps.get(step_id)
        if running is not None and running.outcome is None:
            raise StepRuns(f"step {step_id} runs")
        self._steps.pop(step_id, None)

    def file(
        self,
        domain: str,
        root: str,
        operations: Sequence[Mapping[str, Any]],
        deadline_s: float = FILE_DEADLINE_S,
        needs: Sequence[Need] = (),
    ) -> tuple[Any, ...]:
        use = self._holdings.use(tuple(needs))
        try:
            if domain in self.hanging:
                raise StorageHangs(f"the storage of {domain} hangs", domain=domain)
            return _work(root, operations)
        finally:
            use.end()

    def _find(self, step_id: str) -> _Running:
        running = self._steps.get(step_id)
        if running is None:
            raise StepUnknown(f"there is no step {step_id}")
        return running

    def _end(self, step_id: str, outcome: Outcome, was_lost: bool = False) -> None:
        running = self._find(step_id)
        with self._changed:
            if running.outcome is not None:
                return
            running.outcome, running.was_lost = outcome, was_lost
            self._changed.notify_all()
        running.use.end()

    def _step(self, running: _Running) -> Step:
        outcome, step_id = running.outcome, running.request.step_id
        if outcome is None:
            return Step(step_id, StepState.RUNNING)
        return Step(
            step_id,
            StepState.ENDED,
            outcome.status,
            outcome.stdout,
            outcome.stderr,
            running.was_lost,
        )


def _stay_in_cache(_file: int) -> None:
    """Do not wait for the disk: no test of ours cuts the power."""


def _work(root: str, operations: Sequence[Mapping[str, Any]]) -> tuple[Any, ...]:
    travelled = wire.parse(wire.encode(list(operations)))
    done = wire.from_json(FileReplies, worker.work(root, travelled, _stay_in_cache))
    if done.problem is not None:
        raise done.problem.revive()
    return done.replies


def _missing(_argv: tuple[str, ...]) -> Outcome | None:
    return Outcome(127)


class LocalFiles:
    """The files of a domain, by this process itself: only where nothing hangs."""

    def __init__(self, root: str) -> None:
        self._root = root

    def read(self, path: str, size_max: int) -> bytes:
        return bytes(self._do("read", path=path, size_max=size_max))

    def write_whole(self, path: str, data: bytes, mode: int) -> Done:
        return self._done("write_whole", path=path, data=data, mode=mode)

    def make_folder(self, path: str, mode: int) -> Done:
        return self._done("make_folder", path=path, mode=mode)

    def make_file(
        self, path: str, size_bytes: int, mode: int, is_preallocated: bool
    ) -> Done:
        return self._done(
            "make_file",
            path=path,
            size_bytes=size_bytes,
            mode=mode,
            is_preallocated=is_preallocated,
        )

    def rename(self, old: str, new: str) -> Done:
        return self._done("rename", old=old, new=new)

    def remove(self, path: str) -> Done:
        return self._done("remove", path=path)

    def remove_tree(self, path: str) -> Done:
        return self._done("remove_tree", path=path)

    def link(self, old: str, new: str) -> Done:
        return self._done("link", old=old, new=new)

    def list(self, path: str) -> tuple[Entry, ...]:
        return tuple(self._do("list", path=path))

    def survey(
        self, path: str, suffix: str, size_max: int, start_bytes: int
    ) -> tuple[Surveyed, ...]:
        told = self._do(
            "survey",
            path=path,
            suffix=suffix,
            size_max=size_max,
            start_bytes=start_bytes,
        )
        return tuple(surveyed(wire.to_json(each)) for each in told)

    def stat(self, path: str) -> Entry:
        entry: Entry = self._do("stat", path=path)
        return entry

    def space(self, path: str) -> Space:
        space: Space = self._do("space", path=path)
        return space

    def probe(self, path: str) -> float:
        return float(self._do("probe", path=path))

    def probe_written(self, path: str) -> float:
        return float(self._do("probe_written", path=path))

    def read_at(self, path: str, offset: int, size_bytes: int) -> bytes:
        return bytes(
            self._do("read_at", path=path, offset=offset, size_bytes=size_bytes)
        )

    def write_at(self, path: str, offset: int, data: bytes) -> Done:
        return self._done("write_at", path=path, offset=offset, data=data)

    def _done(self, name: str, **arguments: object) -> Done:
        done: Done = self._do(name, **arguments)
        return done

    def _do(self, name: str, **arguments: object) -> Any:
        with file_operations.together(_stay_in_cache):
            return file_operations.perform(name, self._root, arguments)


_typed_guard: type[Guard] = FakeGuard
_typed_files: type[DomainFiles] = LocalFiles
