"""nginx is told to read again, and nobody else is."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from node.http import front

_LISTEN = "import signal; print('ready', flush=True); signal.sigwait([signal.SIGHUP])"


@pytest.fixture
def served(tmp_path: Path) -> front.Front:
    return front.Front(tmp_path, lambda: "worker_processes 1;\n")


def test_refresh_writes_the_configuration_when_nginx_does_not_run(
    served: front.Front,
) -> None:
    assert not served.refresh()
    assert served.configuration.read_text() == "worker_processes 1;\n"


@pytest.mark.parametrize("text", ["", "no number", "999999999"])
def test_refresh_tells_nobody_when_the_pid_is_none(
    served: front.Front, tmp_path: Path, text: str
) -> None:
    (tmp_path / "nginx.pid").write_text(text)
    assert not served.refresh()


def test_refresh_tells_nobody_when_the_pid_is_another_program(
    served: front.Front, tmp_path: Path
) -> None:
    (tmp_path / "nginx.pid").write_text(f"{os.getpid()}\n")
    assert not served.refresh()


def test_refresh_tells_nginx(served: front.Front, tmp_path: Path) -> None:
    """A copy of the interpreter under nginx's name waits for the signal."""
    script = f"import ctypes; ctypes.CDLL(None).prctl(15, b'nginx'); {_LISTEN}"
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        preexec_fn=_block_hangup,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        (tmp_path / "nginx.pid").write_text(f"{process.pid}\n")
        assert served.refresh()
        assert process.wait(10) == 0


def test_argv_runs_the_configuration_in_the_foreground(served: front.Front) -> None:
    argv = served.argv("/usr/sbin/nginx")
    assert argv[0] == "/usr/sbin/nginx"
    assert str(served.configuration) in argv
    assert "daemon off;" in argv


def _block_hangup() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
