"""Test the generator against an endpoint that refuses and asks again."""

import http.server
import random
import socketserver
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from node import wire
from node.model.feed import Delta, DeltaOutcome, DeltaReply
from tests.scale import samples, schedule, simulated
from tests.scale.connection import Connection, NoAnswer
from tests.scale.generator import Generator, Task, Tick

DEADLINE_S = 20.0
NODES = 3


class Eager(random.Random):
    """A chance that makes every node push at once."""

    def random(self) -> float:
        return 1.0


class _Ingest(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """An aggregator's endpoint that refuses the first push it gets."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), _Handler)
        self.lock = threading.Lock()
        self.pushes: list[tuple[str, Delta]] = []
        self.refusals_left = 1
        self.resyncs_left = 1


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Ingest

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        delta = wire.decode(Delta, body)
        with self.server.lock:
            status, reply = self._judge(delta)
        self.send_response(status)
        self.send_header("Content-Length", str(len(reply)))
        self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(reply)

    def _judge(self, delta: Delta) -> tuple[int, bytes]:
        if self.server.refusals_left:
            self.server.refusals_left -= 1
            return 503, b"{}"
        assert self.headers["X-Skerry-Role"] == "node"
        self.server.pushes.append((self.headers["X-Skerry-Subject"], delta))
        outcome = DeltaOutcome.OK
        if self.server.resyncs_left:
            self.server.resyncs_left -= 1
            outcome = DeltaOutcome.RESYNC
        return 200, wire.encode(DeltaReply(outcome, delta.to_rev))

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def ingest(tmp_path: Path) -> Iterator[_Ingest]:
    with _Ingest(tmp_path / "ingest.sock") as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _run(generator: Generator, is_enough: Any) -> list[Tick]:
    ticks: list[Tick] = []
    pause = threading.Event()
    deadline = time.monotonic() + DEADLINE_S

    def until() -> bool:
        pause.wait(0.05)
        return bool(is_enough()) or time.monotonic() > deadline

    generator.run(until, ticks.append)
    ticks.append(generator.tally.tick(generator.nodes))
    return ticks


def test_generator_pushes_for_every_node_though_refused(
    ingest: _Ingest, tmp_path: Path
) -> None:
    task = Task(NODES, 2, first_node=5, socket=str(tmp_path / "ingest.sock"))
    generator = Generator(task, samples.read(), Eager())
    ticks = _run(
        generator,
        lambda: (
            ingest.resyncs_left == 0 and all(each.is_known for each in generator.nodes)
        ),
    )
    subjects = {subject for subject, _ in ingest.pushes}
    assert subjects == {simulated.node_id(index) for index in (5, 6, 7)}
    assert ticks[-1].known == NODES
    assert sum(tick.refused for tick in ticks) == 1
    # each told everything once, and one was asked for it again
    assert sum(tick.resyncs for tick in ticks) == NODES + 1
    assert sum(tick.failed for tick in ticks) == 0
    assert len([s for tick in ticks for s in tick.push_s]) == len(ingest.pushes)


def test_generator_counts_pushes_that_fail(tmp_path: Path) -> None:
    task = Task(1, 1, socket=str(tmp_path / "nobody.sock"))
    generator = Generator(task, samples.read(), Eager())
    failed: list[int] = []

    def is_enough() -> bool:
        failed.append(generator.tally.failed)
        return sum(failed) > 0

    _run(generator, is_enough)
    assert not generator.nodes[0].is_known


def test_connection_opens_again_after_an_error(ingest: _Ingest, tmp_path: Path) -> None:
    socket = tmp_path / "ingest.sock"
    moved = tmp_path / "away.sock"
    body = next(simulated.SimulatedNode(samples.read(), 0, range(1)).deltas())
    with Connection.unix(socket) as connection:
        socket.rename(moved)
        with pytest.raises(NoAnswer):
            connection.exchange("POST", "/", body)
        moved.rename(socket)
        assert connection.exchange("POST", "/", body).status == 503


def test_jobs_of_the_last_hour_follow_from_the_churn() -> None:
    node = Generator(Task(1, 100), samples.read(), Eager()).nodes[0]
    per_hour = round(schedule.CHURN_PER_MINUTE * 60 * 100)
    fixed = len(samples.read().node) + 100 * len(samples.read().vm)
    assert node.document_count == fixed + per_hour
