"""Be the nodes of a simulated fleet: push the real feed, as nginx passes it on.

A process of its own, `python -m tests.scale.generator`. It reads its task as one
line of JSON, prints a line of JSON each second, and ends when its input ends.
Few connections carry many nodes, as those between nginx and the aggregator do.
"""

import contextlib
import json
import logging
import queue
import random
import ssl
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from node import clock as clocks
from node import wire
from node.clock import SystemClock
from node.errors import Error
from node.model.feed import DeltaReply
from node.model.ids import NodeId
from tests.scale import responder, samples, schedule
from tests.scale.connection import Answer, Connection, NoAnswer
from tests.scale.schedule import Plan
from tests.scale.simulated import SimulatedNode

log = logging.getLogger(__name__)

PATH: Final = "/v1/feed/delta"
_JSON: Final = {"Content-Type": "application/json"}
_TICK_S: Final = 1.0
STOP_S: Final = 5.0  # a push that is under way may end
_STATUS_UNAVAILABLE: Final = 503


@dataclass(frozen=True, slots=True)
class Task:
    """What to be, and where to push: a socket, or an address through TLS."""

    nodes: int
    vms_per_node: int
    first_node: int = 0  # whoever makes other nodes of the fleet begins there
    socket: str = ""
    address: str = ""
    port: int = 0
    ca_file: str = ""
    certificates: str = ""  # folder with <node id>.pem: key and certificate
    is_kept_open: bool = True  # else a connection for each push
    api_port: int = 0  # where the nodes' own API answers; 0: nowhere
    api_certificate: str = ""
    connections: int = 8
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Tick:
    """What happened within a second; times are seconds."""

    at: float
    known: int  # nodes whose push was taken at least once
    vms: int
    documents: int
    pushes: int
    resyncs: int
    refused: int  # 503: come later
    failed: int
    late_s: tuple[float, ...] = ()  # from when a push was due to when it was sent
    push_s: tuple[float, ...] = ()  # from sent to answered


@dataclass(slots=True)
class Tally:
    """What is counted until the next tick; several threads add to it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    pushes: int = 0
    resyncs: int = 0
    refused: int = 0
    failed: int = 0
    late_s: list[float] = field(default_factory=list)
    push_s: list[float] = field(default_factory=list)

    def add(
        self,
        late_s: float,
        push_s: float | None,
        *,
        is_resync: bool = False,
        is_refused: bool = False,
    ) -> None:
        """Count a push; `push_s` None: it was not taken."""
        with self.lock:
            self.pushes += 1
            self.resyncs += is_resync
            self.refused += is_refused
            self.failed += push_s is None and not is_refused
            self.late_s.append(late_s)
            if push_s is not None:
                self.push_s.append(push_s)

    def tick(self, nodes: "list[SimulatedNode]") -> Tick:
        """Return what was counted, and begin anew."""
        with self.lock:
            found = Tick(
                time.monotonic(),
                sum(node.is_known for node in nodes),
                sum(len(node.vms) for node in nodes),
                sum(node.document_count for node in nodes),
                self.pushes,
                self.resyncs,
                self.refused,
                self.failed,
                tuple(round(each, 4) for each in self.late_s),
                tuple(round(each, 4) for each in self.push_s),
            )
            self.pushes = self.resyncs = self.refused = self.failed = 0
            self.late_s, self.push_s = [], []
        return found


class Generator:
    """Push for all nodes from a few threads, each with its own connections."""

    def __init__(
        self, task: Task, recorded: samples.Samples, chance: random.Random
    ) -> None:
        self._task = task
        self._chance = chance
        jobs = round(60 * schedule.CHURN_PER_MINUTE * task.vms_per_node)
        self.nodes = [
            SimulatedNode(recorded, index, _vms(index, task.vms_per_node), jobs=jobs)
            for index in range(task.first_node, task.first_node + task.nodes)
        ]
        self.tally = Tally()
        self._plans: queue.PriorityQueue[tuple[float, int, Plan]] = (
            queue.PriorityQueue()
        )
        self._is_stopping = threading.Event()
        self._clock = SystemClock()

    def run(self, until: Callable[[], bool], show: Callable[[Tick], None]) -> None:
        """Push until told to end; show a tick each second."""
        now = time.monotonic()
        for number in range(len(self.nodes)):
            self._plan(number, self._first(now))
        stack = contextlib.ExitStack()
        sends = self._senders(stack)
        threads = [
            threading.Thread(
                target=self._push_all, args=[send], name=f"push-{number}", daemon=True
            )
            for number, send in enumerate(sends)
        ]
        with stack:
            for thread in threads:
                thread.start()
            while not until():
                show(self.tally.tick(self.nodes))
            self._is_stopping.set()
            for thread in threads:
                thread.join(STOP_S)

    def _first(self, now: float) -> Plan:
        return schedule.first(now, self._task.vms_per_node, self._chance.random)

    def _plan(self, number: int, plan: Plan) -> None:
        self._plans.put((plan.due, number, plan))

    def _senders(self, stack: contextlib.ExitStack) -> "list[Send]":
        """Return how each thread sends; the stack closes the connections."""
        task = self._task
        if task.socket:
            unix = [
                stack.enter_context(Connection.unix(Path(task.socket)))
                for _ in range(task.connections)
            ]
            return [_send_as_nginx(each) for each in unix]
        own = {
            node.node_id: stack.enter_context(
                Connection.tls(task.address, task.port, _context(task, node))
            )
            for node in self.nodes
        }
        send = _send_through_nginx(own, is_kept_open=task.is_kept_open)
        return [send] * task.connections

    def _push_all(self, send: "Send") -> None:
        """Take the node that is due next, wait until it is, push, plan again."""
        while not self._is_stopping.is_set():
            try:
                due, number, plan = self._plans.get(timeout=_TICK_S)
            except queue.Empty:
                continue
            while (wait_s := due - time.monotonic()) > 0:
                if self._is_stopping.wait(wait_s):
                    return
            self._plan(number, self._push(send, self.nodes[number], plan))

    def _push(self, send: "Send", node: SimulatedNode, plan: Plan) -> Plan:
        begin = time.monotonic()
        late_s = begin - plan.due
        at = clocks.rfc3339(self._clock.now())
        if plan.change_at <= begin and plan.retry_at is None:
            node.toggle(self._chance.choice(node.vms), at)
        stats = None
        if plan.stats_at <= begin or not node.is_known:
            stats = node.stats(at, round(100 * self._chance.random(), 1))
        was_known = node.is_known
        try:
            is_resync = not was_known
            for body in node.deltas(stats):
                answer = send(node, body)
                if answer.status != 200:
                    is_busy = answer.status == _STATUS_UNAVAILABLE
                    self.tally.add(late_s, None, is_refused=is_busy)
                    if not is_busy:
                        log.warning("%d: %s", answer.status, answer.body[:300])
                    return self._refused(plan, answer.retry_after_s)
                reply = wire.decode(DeltaReply, answer.body, strict=False)
            node.hear(reply)
        except (NoAnswer, Error) as error:
            log.warning("%s", error)
            self.tally.add(late_s, None)
            return self._refused(plan, 0.0)
        now = time.monotonic()
        self.tally.add(late_s, now - begin, is_resync=is_resync)
        if not node.is_known:
            return schedule.after_resync(plan, now)
        chance = self._chance.random()
        return schedule.after_push(plan, now, self._task.vms_per_node, chance)

    def _refused(self, plan: Plan, retry_after_s: float) -> Plan:
        return schedule.after_refusal(
            plan, time.monotonic(), retry_after_s, self._chance.random()
        )


Send = Callable[[SimulatedNode, bytes], Answer]


def headers(node_id: str) -> dict[str, str]:
    """Return what nginx sets once it has checked a node's certificate."""
    return {**_JSON, "X-Skerry-Role": "node", "X-Skerry-Subject": node_id}


def _send_as_nginx(connection: Connection) -> Send:
    """Return what sends for many nodes over one connection."""

    def send(node: SimulatedNode, body: bytes) -> Answer:
        return connection.exchange("POST", PATH, body, headers(node.node_id))

    return send


def _send_through_nginx(
    connections: Mapping[NodeId, Connection], *, is_kept_open: bool
) -> Send:
    """Return what sends for each node over a connection of its own, as nodes do."""

    def send(node: SimulatedNode, body: bytes) -> Answer:
        connection = connections[node.node_id]
        answer = connection.exchange("POST", PATH, body, _JSON)
        if not is_kept_open:
            connection.close()
        return answer

    return send


def _context(task: Task, node: SimulatedNode) -> ssl.SSLContext:
    """Return what a node shows, and whom it trusts: any aggregator of the fleet."""
    context = ssl.create_default_context(cafile=task.ca_file)
    context.check_hostname = False
    context.load_cert_chain(Path(task.certificates) / f"{node.node_id}.pem")
    return context


def _vms(index: int, count: int) -> range:
    return range(index * count, (index + 1) * count)


def main() -> None:
    """Do the task on the first line of standard input."""
    logging.basicConfig(level="WARNING", stream=sys.stderr)
    task = wire.decode(Task, sys.stdin.buffer.readline())
    if task.api_port:
        responder.start(task.api_port, Path(task.api_certificate))
    generator = Generator(task, samples.read(), random.Random(task.seed))
    ended = threading.Event()

    def watch() -> None:
        sys.stdin.buffer.read()
        ended.set()

    def show(tick: Tick) -> None:
        print(json.dumps(wire.to_json(tick)), flush=True)

    threading.Thread(target=watch, daemon=True).start()
    generator.run(lambda: ended.wait(_TICK_S), show)


if __name__ == "__main__":
    main()
