"""Set up the aggregator that is measured, in folders of its own.

It is the real program with a real fleet; its members are simulated, so they are
written into its database instead of being admitted one by one.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aggregator import db
from aggregator.api.model import AggregatorStatus, Login, Token
from aggregator.registry import Member
from node import wire
from node.clock import SystemClock, rfc3339
from node.model.ids import Fingerprint
from tests.lab import members as lab_members
from tests.ports import free_ports
from tests.scale import certificates, daemon, simulated
from tests.scale.connection import Answer, Connection
from tests.scale.daemon import Daemon
from tests.scale.generator import Task

PROGRAM: Final = lab_members.VIRTUAL_ENVIRONMENT / "bin" / "skerry-aggregator"
USER: Final = "admin@internal"
PASSWORD: Final = "measured-for-minutes"
START_TIMEOUT_S: Final = 120.0
_CONFIG: Final = """\
[aggregator]
name = bench
address = 127.0.0.1
state_folder = {folder}/state
run_folder = {folder}/run
https_port = {https_port}
feed_port = {feed_port}
admission_port = {admission_port}
does_discover = no
log_level = WARNING
"""


@dataclass(frozen=True, slots=True)
class Ports:
    https: int
    feed: int
    admission: int
    nodes_api: int  # of all simulated nodes together


class Subject:
    """An aggregator with a number of members; `start` it, measure, `stop` it."""

    def __init__(self, folder: Path, nodes: int) -> None:
        self.folder = folder
        self.ports = Ports(*free_ports(4))
        self.people_socket = folder / "run" / "people.sock"
        self.ingest_socket = folder / "run" / "ingest.sock"
        self.log_file = folder / "aggregator.log"
        self.state = folder / "state"
        self._config = folder / "aggregator.conf"
        self._config.write_text(
            _CONFIG.format(
                folder=folder,
                https_port=self.ports.https,
                feed_port=self.ports.feed,
                admission_port=self.ports.admission,
            )
        )
        self._running: Daemon | None = None
        self._token = ""
        daemon.run(self._command("--json", "init", "--password-stdin"), given=PASSWORD)
        self._add_members(nodes)
        certificates.write(self.state / "pki", [0], folder / "api")

    @property
    def daemon(self) -> Daemon:
        assert self._running is not None, "start it first"
        return self._running

    @property
    def token(self) -> str:
        """Return the token of a person who is logged in."""
        return self._token

    def task(self, nodes: int, vms_per_node: int) -> Task:
        """Return the task of being the first nodes, as nginx passes them on."""
        return Task(
            nodes,
            vms_per_node,
            socket=str(self.ingest_socket),
            api_port=self.ports.nodes_api,
            api_certificate=str(self.folder / "api" / f"{simulated.node_id(0)}.pem"),
        )

    def start(self) -> None:
        """Run it, and log in."""
        self._running = Daemon(self._command("run"), self.log_file)
        login = wire.encode(Login(USER, PASSWORD))

        def log_in() -> str:
            self.daemon.check()
            with Connection.unix(self.people_socket) as connection:
                answer = connection.exchange(
                    "POST", "/v1/login", login, {"Content-Type": "application/json"}
                )
            return token if (token := _token(answer)) else ""

        self._token = daemon.wait(
            "a login at the aggregator",
            log_in,
            timeout_s=START_TIMEOUT_S,
        )

    def stop(self) -> float:
        """End it; return the seconds it took."""
        return self.daemon.stop()

    def status(self) -> AggregatorStatus:
        """Return how many nodes and VMs it knows."""
        with Connection.unix(self.people_socket) as connection:
            headers = {"Authorization": f"Bearer {self._token}"}
            answer = connection.exchange("GET", "/v1/status", None, headers)
        if answer.status != 200:
            raise daemon.StepFailed(f"/v1/status: {answer.status} {answer.body!r}")
        return wire.decode(AggregatorStatus, answer.body, strict=False)

    def database_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.state.glob("aggregator.db*"))

    def _command(self, *arguments: str) -> list[str]:
        return [str(PROGRAM), "--config", str(self._config), *arguments]

    def _add_members(self, count: int) -> None:
        database = db.Database(db.sqlite_url(self.state / "aggregator.db"))
        now = rfc3339(SystemClock().now())
        records = database.records("member")
        for index in range(count):
            member = Member(
                simulated.node_id(index),
                simulated.node_name(index),
                certificates.ADDRESS,
                self.ports.nodes_api,
                Fingerprint(f"{index:064x}"),
                now,
                USER,
            )
            records.put(member.node_id, wire.to_json(member), 0)
        database.close()


@contextlib.contextmanager
def running(folder: Path, nodes: int) -> Iterator[Subject]:
    """Run an aggregator with so many members, and end it."""
    folder.mkdir(mode=0o755)
    subject = Subject(folder, nodes)
    subject.start()
    try:
        yield subject
    finally:
        subject.stop()


def _token(answer: Answer) -> str:
    if answer.status != 200:
        raise daemon.StepFailed(f"login: {answer.status} {answer.body[:300]!r}")
    return wire.decode(Token, answer.body, strict=False).token
