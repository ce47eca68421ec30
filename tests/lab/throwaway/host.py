"""One whole host in the throw-away VM: libvirtd, QEMU, sanlock and Skerry's agent.

Configured as the lab's hosts are, but for two things: sanlock is no root's, as NFS
demands where root is nobody; and there is no watchdog, since nobody else is there who
could write.
"""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from node.http.client import NodeClient, Reply, UnixTransport
from node.model.job import ENDED, Job, JobState
from tests.lab import agents, layout, members
from tests.lab.throwaway import node
from tests.lab.throwaway.node import NODE_ID, WAIT_S, wait_until

QEMU: Final = "qemu-system-x86_64"
LOGS: Final = Path("/var/log/lab")
_LAB: Final = layout.Layout("vm", Path("/run/lab"), "127.0.0", 1, 0)
_PLACE: Final = layout.Place("vm", layout.Kind.HOST, 1, "127.0.0.1", NODE_ID, ())
# In the order of starting; a host has more, which need a network.
_DAEMONS: Final = ("virtlogd", "libvirtd")
_SERVICES: Final = ("skerry-storage", "skerry-transfer", "agent")
_CONFIGURATION: Final = "/etc/libvirt/"
_STATE: Final = Path("/var/lib/skerry")
_RUN: Final = Path("/run/skerry")
_GUESTS: Final = Path("/run/libvirt/qemu")  # of QEMUs and libvirtd
_NODE_CONF: Final = "/etc/skerry/node.conf"
_OPTIONS: Final = "risks_data_without_watchdog = yes\nlocal_storage =\n"
_LOOK_S: Final = 5.0  # how long one look at a job waits for its end
_TAIL_BYTES: Final = 4000  # of each log, when something has failed


class _Patient(UnixTransport):
    """Wait for an agent on a slow processor for longer than people do."""

    def exchange(
        self,
        method: str,
        target: str,
        body: bytes | None,
        headers: Mapping[str, str],
        timeout_s: float,
    ) -> Reply:
        return super().exchange(method, target, body, headers, WAIT_S)


@dataclass(frozen=True, slots=True)
class Host:
    """A host whose agent answers."""

    storage: NodeClient  # and all else; as `scene` asks a node
    processes: tuple[subprocess.Popen[bytes], ...]

    def ended(self, job: Job) -> Job:
        """Return a job at its end."""

        def is_over() -> bool:
            nonlocal job
            job = self.storage.job_show(job.job_id, _LOOK_S)
            return job.state in ENDED

        wait_until(is_over, f"the end of {job.verb}")
        return job

    def done(self, job: Job) -> Job:
        """Return a job that has ended well."""
        job = self.ended(job)
        assert job.state is JobState.DONE, job
        return job


@contextlib.contextmanager
def running() -> Iterator[Host]:
    """Run a host, and print the ends of its logs when it is no longer wanted."""
    with daemons(), serving() as host:
        yield host


@contextlib.contextmanager
def daemons() -> Iterator[None]:
    """Run what of a host is not ours."""
    _configure()
    LOGS.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        _start(_DAEMONS, stack)
        yield


@contextlib.contextmanager
def serving() -> Iterator[Host]:
    """Run the rest of a host that begins with nothing on its own disk, and sanlock.

    In the end nothing is asked: all is killed, its guests as well.
    """
    for folder in (_STATE, _RUN):
        shutil.rmtree(folder, ignore_errors=True)
    _RUN.mkdir(mode=0o755)
    with contextlib.ExitStack() as stack:
        stack.callback(_print_logs)
        stack.callback(_end_guests)
        stack.enter_context(node.sanlock(LOGS / "sanlock.log"))
        processes = _start(_SERVICES, stack)
        client = NodeClient(_Patient(Path(agents.SOCKET)))
        wait_until(Path(agents.SOCKET).exists, "the agent's socket")
        # libvirt has told by then what it can do.
        wait_until(lambda: client.node().machines, "the agent's facts")
        yield Host(client, processes)


def _start(
    names: Iterable[str], stack: contextlib.ExitStack
) -> tuple[subprocess.Popen[bytes], ...]:
    services = {each.name: each for each in members.services(_LAB, _PLACE)}
    return tuple(stack.enter_context(_running(services[name])) for name in names)


def _end_guests() -> None:
    for path in _GUESTS.glob("vm-*.pid"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(path.read_text()), signal.SIGKILL)


def _configure() -> None:
    for name, text in members.files(_LAB, _PLACE).items():
        if name == _NODE_CONF:
            _write(name, text + _OPTIONS)
        elif name.startswith(_CONFIGURATION):
            _write(name, text)
    Path("/run/libvirt").mkdir(mode=0o755, exist_ok=True)


def _write(name: str, text: str) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text)


@contextlib.contextmanager
def _running(service: members.Service) -> Iterator[subprocess.Popen[bytes]]:
    """Run a service of a host's, and wait until it does its work."""
    # This checkout's code, whosever virtual environment it uses.
    mine = {"PYTHONPATH": str(layout.CHECKOUT), **dict(service.environment)}
    with _log(service.name).open("wb") as output:
        process = subprocess.Popen(
            service.argv, env={**os.environ, **mine}, stdout=output, stderr=output
        )
        try:
            if service.ready_path:
                wait_until(Path(service.ready_path).exists, service.name)
            yield process
        finally:
            process.kill()
            process.wait(WAIT_S)


def _log(name: str) -> Path:
    return LOGS / f"{name}.log"


def _print_logs() -> None:
    for path in sorted(LOGS.glob("*.log")):
        print(f"== {path}", path.read_bytes()[-_TAIL_BYTES:].decode(errors="replace"))
