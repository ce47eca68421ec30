"""Type a command as a person would, and see what both command lines say."""

import contextlib
import io
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import click.testing

EVENT_S: Final = 30.0  # until an event is shown, on a busy machine


@dataclass(frozen=True, slots=True)
class Ended:
    status: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def run(main: Callable[[list[str]], object], words: list[str], typed: str) -> Ended:
    """Run a command of one of them in this process."""
    runner = click.testing.CliRunner(mix_stderr=False)
    with runner.isolation(input=typed) as (out, err):
        assert isinstance(err, io.BytesIO)
        status: Any = 0
        try:
            main(words)
        except SystemExit as end:
            status = end.code
        return Ended(status or 0, out.getvalue(), err.getvalue().decode())


@contextlib.contextmanager
def following(module: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command that goes on until Ctrl-C; its output ends after a while."""
    argv = ["env", "--default-signal=INT", sys.executable]
    argv += ["-c", f"import {module}; {module}.main()", *words]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        timer = threading.Timer(EVENT_S, process.kill)
        timer.start()
        try:
            yield process
        finally:
            timer.cancel()
            process.kill()
