"""Ask a member's PID 1 for its services, over its unix socket.

One line of JSON each way; see `Supervisor.serve` in init.py.
"""

import json
import signal
import socket
from collections import abc
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.lab import errors
from tests.lab.members import Service

_TIMEOUT_S = 15.0  # PID 1 answers at once, unless the machine is far too busy


@dataclass(frozen=True, slots=True)
class State:
    """What one service does now."""

    name: str
    pid: int  # in the member's PID namespace; 0: it does not run
    is_wanted: bool
    is_waiting: bool  # for `needs` to exist
    is_ready: bool
    needs: str
    starts: int
    last_status: int | None  # None: it never ended


def states(path: Path) -> list[State]:
    """Return all services of the member that listens at `path`."""
    return [State(**fields) for fields in _ask(path, {"verb": "list"})["services"]]


def start(path: Path, name: str) -> None:
    """Start a service, now and whenever it ends."""
    _ask(path, {"verb": "start", "name": name})


def stop(path: Path, name: str, signal_number: signal.Signals) -> None:
    """Send a service a signal, and do not start it again."""
    _ask(path, {"verb": "stop", "name": name, "signal": int(signal_number)})


def add(path: Path, service: Service, passed: abc.Sequence[int] = ()) -> None:
    """Add a service until the next boot; it finds what is passed from 3 on."""
    entry = asdict(service) | {"environment": dict(service.environment)}
    _ask(path, {"verb": "add", "service": entry}, passed)


def _ask(
    path: Path, request: dict[str, Any], passed: abc.Sequence[int] = ()
) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_TIMEOUT_S)
        try:
            connection.connect(str(path))
            socket.send_fds(connection, [json.dumps(request).encode()], list(passed))
            text = b""
            while chunk := connection.recv(65536):
                text += chunk
        except OSError as problem:
            raise errors.NotRunning(
                path.parent.name,
                f"its PID 1 does not answer: {problem}",
                remedy=f"python -m tests.lab boot {path.parent.name}",
                log=path.parent / "console.log",
            ) from problem
    if not text:
        raise errors.StepFailed(
            path.parent.name,
            f"its PID 1 refused {request['verb']!r}",
            remedy="see the log",
            log=path.parent / "console.log",
        )
    reply: dict[str, Any] = json.loads(text)
    if "error" in reply:
        raise errors.BadSetting(
            path.parent.name, reply["error"], remedy="name a service that is there"
        )
    return reply
