"""End a process by a mistake, in a process of its own; survive the world in this."""

import subprocess
import sys

import pytest

from node.errors import Error, Failed
from node.storage.process import threads
from tests.fakes.storage_process import CHECKOUT

END_S = 20.0


@pytest.mark.parametrize("error", [Failed("no"), OSError(24, "too many")])
def test_surviving_passes_over_what_the_world_did(error: Error | OSError) -> None:
    with threads.surviving(0.0):
        raise error


def test_surviving_lets_a_mistake_through() -> None:
    with pytest.raises(ZeroDivisionError), threads.surviving(0.0):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("act", "status"),
    [
        pytest.param("lambda: 1 / 0", threads.BROKEN, id="mistake"),
        pytest.param("lambda: None", 3, id="returns"),
    ],
)
def test_start_ends_the_process_by_a_mistake(act: str, status: int) -> None:
    program = (
        "import sys, threading; from node.storage.process import threads; "
        f"threads.start('x', {act}); "
        "[t.join(10) for t in threading.enumerate() if t.name == 'x']; sys.exit(3)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=CHECKOUT,
        capture_output=True,
        timeout=END_S,
        check=False,
    )
    assert done.returncode == status, done.stderr
