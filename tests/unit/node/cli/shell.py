"""Run commands against a real agent on fake doors, through its unix socket."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import flask

from node import cli
from node.http import face
from node.http.serving import Server
from tests.contract.agents import FakeAgent
from tests.unit import terminal
from tests.unit.terminal import Ended


def run(socket: str, *words: str, typed: str = "") -> Ended:
    """Run a command of the agent that listens there."""
    return terminal.run(cli.main, ["--socket", socket, *words], typed)


@contextmanager
def serving(agent: FakeAgent, folder: Path) -> "Iterator[Shell]":
    """Let an agent answer on its socket, to the end of the block."""
    shell = Shell(agent, folder / "s")
    server = Server(folder / "s", agent.local, 4)
    server.start()
    yield shell
    server.stop()
    agent.close()


class Shell:
    """Runs commands as a person would type them."""

    def __init__(self, agent: FakeAgent, socket: Path) -> None:
        self.agent = agent
        self.socket = str(socket)
        self.called: list[str] = []  # names of the verbs
        self.bodies: list[bytes] = []  # of what was asked, beside
        agent.local.before_request(self._note)

    def _note(self) -> None:
        verb = face.verb_of(self.agent.local, flask.request.endpoint)
        if verb is not None:
            self.called.append(verb.name)
            self.bodies.append(flask.request.get_data())

    def run(self, *words: str, typed: str = "") -> Ended:
        return run(self.socket, *words, typed=typed)

    def ok(self, *words: str, typed: str = "") -> Ended:
        ended = self.run(*words, typed=typed)
        assert ended.status == 0, ended.err
        return ended

    def state(self, name: str) -> str:
        return str(self.ok("--json", "vm", "show", name).json["run"]["state"])
