"""Start the real storage process, with a sanlock that is a fake or the real one.

    python -m tests.fakes.storage_process RUN_FOLDER GROUP [fake]

is the process; with the fake, which lives and dies with it, SIGUSR2 loses all
lockspaces but those whose name begins with "kept": the killpath's program is run, as
sanlock would.
"""

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from node import log
from node.errors import Error
from node.storage.guard import SocketGuard
from node.storage.process import __main__ as process
from node.storage.process import cgroup, kill
from node.storage.process.launch import User
from node.system import cgroups
from node.system.leases import Killpath, Leases, SanlockLeases
from tests.fakes.leases import FakeLeases, FakeLeaseStorage

DEADLINE_S = 120.0
CHECKOUT = Path(__file__).parents[2]


@dataclass(slots=True)
class Instances:
    """Storage processes of one run folder, one after the other."""

    run_folder: Path
    group: Path
    kind: str
    environment: Mapping[str, str]
    deadline_s: float = DEADLINE_S  # for one to start
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    clients: list[SocketGuard] = field(default_factory=list)

    @property
    def pid(self) -> int:
        return self.processes[-1].pid

    def start(self) -> SocketGuard:
        """Start one and return a client; it answers then."""
        words = [str(self.run_folder), self.group.name, self.kind]
        self.processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "tests.fakes.storage_process", *words],
                cwd=CHECKOUT,
                env={**os.environ, **self.environment},
            )
        )
        guard = self.client()
        deadline = time.monotonic() + self.deadline_s
        while True:
            try:
                guard.steps()
            except Error:
                assert time.monotonic() < deadline, "the storage process is silent"
                assert self.processes[-1].poll() is None, "the storage process ended"
                time.sleep(0.01)
            else:
                return guard

    def client(self, session: int = 0) -> SocketGuard:
        self.clients.append(SocketGuard(self.run_folder / process.SOCKET, session))
        return self.clients[-1]

    def send(self, number: signal.Signals) -> None:
        self.processes[-1].send_signal(number)

    def lose(self) -> None:
        """Let the fake sanlock lose every lockspace."""
        self.send(signal.SIGUSR2)

    def kill(self) -> None:
        """Kill the newest and wait until it is gone."""
        self.processes[-1].kill()
        self.processes[-1].wait(DEADLINE_S)

    def end(self) -> None:
        """Leave nothing behind."""
        for client in self.clients:
            client.close()
        for each in self.processes:
            each.kill()
            each.wait(DEADLINE_S)
        assert kill.kill_all(str(self.group), DEADLINE_S)
        for folder in sorted(self.group.glob("*/"), reverse=True):
            wait_until(functools.partial(cgroup.is_removed, folder))
        if self.group.exists():
            wait_until(functools.partial(cgroup.is_removed, self.group))


def give(folder: Path, owner: int) -> None:
    """Make a folder the storage user's."""
    os.chown(folder, owner, owner)
    folder.chmod(0o755)


def wait_until(is_so: Callable[[], object]) -> None:
    """Wait until something is so; fail after a while."""
    deadline = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def why_not() -> str:
    """Return what the machine lacks for a storage process; empty: nothing."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        return "needs root and setpriv"
    try:
        hierarchy = cgroups.find_hierarchy()
    except Error as error:
        return str(error)
    return "" if os.access(hierarchy, os.W_OK) else "needs cgroups"


@contextlib.contextmanager
def instances(
    folder: Path, kind: str = "fake", environment: Mapping[str, str] | None = None
) -> Iterator[Instances]:
    """Yield the means to start storage processes, and end them all."""
    group = cgroups.find_hierarchy() / f"skerry-test-{uuid.uuid4().hex[:12]}"
    made = Instances(folder / "run", group, kind, environment or {})
    try:
        yield made
    finally:
        made.end()


def main() -> None:
    """Be the storage process."""
    run_folder, group, kind = sys.argv[1:]
    log.configure("DEBUG")

    def open_fake(killpath: Callable[[str], Killpath]) -> Leases:
        def run(lockspace: str) -> None:
            wanted = killpath(lockspace)
            words = [str(wanted.program), *wanted.arguments]
            subprocess.run(words, check=True, timeout=DEADLINE_S)

        door = FakeLeases(FakeLeaseStorage(), "one", run)

        def lose_all(_number: int, _frame: object) -> None:
            for each in door.joined():
                if not each.name.startswith("kept"):
                    door.lose(each.name)

        signal.signal(signal.SIGUSR2, lose_all)
        return door

    open_door = open_fake if kind == "fake" else SanlockLeases
    process.serve(Path(run_folder), group, User(), open_door)


if __name__ == "__main__":
    main()
