"""Run one host of the lab for a measurement, with its agent. Needs root."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.lab import layout, running
from tests.lab.lab import Lab, take_down
from tests.scale import daemon

SOCKET: Final = "/run/skerry/local.sock"
_READY_S: Final = 60.0


@contextlib.contextmanager
def booted(name: str) -> Iterator[running.Member]:
    """Bring a lab of one host up under a name of its own; take it down at the end."""
    settings = layout.Settings(name, Path(f"/srv/skerry-{name}"), None)
    lab = Lab.up(1, 0, settings)
    try:
        host = lab.member("h1")
        daemon.wait(
            "the agent of the lab's host",
            lambda: host.exec(["test", "-S", SOCKET]).returncode == 0,
            _READY_S,
        )
        yield host
    finally:
        take_down(settings)


def run_inside(
    host: running.Member, module: str, *arguments: str, timeout_s: float
) -> str:
    """Return what a module of this package prints when it runs in a host."""
    python = ["env", f"PYTHONPATH={layout.CHECKOUT}", sys.executable]
    argv = [*python, "-m", f"tests.scale.{module}", *arguments]
    result = host.exec(argv, timeout_s=timeout_s)
    if result.returncode != 0:
        raise daemon.StepFailed(f"{module} in {host.name}: {result.stderr[-2000:]}")
    return result.stdout
