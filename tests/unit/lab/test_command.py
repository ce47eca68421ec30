"""Run commands with a deadline."""

import subprocess

from tests.lab import command


def test_abandon_takes_a_command_that_has_ended() -> None:
    with subprocess.Popen(
        ["true"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        process.wait()
        assert command._abandon(process) == ("", "")
