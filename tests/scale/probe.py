"""Measure how long a change takes from a node to whoever looks.

The bench is one node of the fleet itself. Time runs from just before the push to
the answer that shows the change. A real node adds its 200 ms of coalescing.
"""

import time
from pathlib import Path

from node import clock as clocks
from node import wire
from node.clock import SystemClock
from node.model.feed import DeltaReply
from tests.scale import daemon, generator, people, samples, simulated
from tests.scale.connection import Connection

_SEEN_S = 10.0
_PAUSE_S = 0.05  # between two changes: other pushes get their turn


class Probe:
    """One node, spoken for by the bench."""

    def __init__(self, ingest: Path, index: int, vms_per_node: int) -> None:
        first = index * vms_per_node
        self._vms = range(first, first + vms_per_node)
        self._node = simulated.SimulatedNode(samples.read(), index, self._vms)
        self._ingest = ingest
        self._clock = SystemClock()

    def measure(self, people_socket: Path, token: str, count: int) -> list[float]:
        """Return the seconds that each of so many changes took to be seen."""
        headers = {"Authorization": f"Bearer {token}"}
        times = []
        with (
            Connection.unix(self._ingest) as pusher,
            Connection.unix(people_socket) as looker,
        ):
            self._push(pusher)
            for number in range(count):
                vm = self._vms[number % len(self._vms)]
                self._node.toggle(vm, clocks.rfc3339(self._clock.now()))
                wanted = "paused" if self._node.is_paused(vm) else "up"
                target = f"/v1/vms/{simulated.vm_id(vm)}"
                begin = time.perf_counter()
                self._push(pusher)
                _wait_seen(looker, target, headers, f'"state":"{wanted}"')
                times.append(time.perf_counter() - begin)
                time.sleep(_PAUSE_S)
        return times

    def _push(self, connection: Connection) -> None:
        """Push until it is taken whole; a fresh aggregator asks for patience."""
        deadline = time.monotonic() + _SEEN_S
        while time.monotonic() < deadline:
            for body in self._node.deltas():
                answer = connection.exchange(
                    "POST",
                    generator.PATH,
                    body,
                    generator.headers(self._node.node_id),
                )
            if answer.status == 200:
                self._node.hear(wire.decode(DeltaReply, answer.body, strict=False))
                if self._node.is_known:
                    return
            time.sleep(answer.retry_after_s)
        raise daemon.StepFailed(f"the probe's push was not taken: {answer.body!r}")


def _wait_seen(
    connection: Connection, target: str, headers: dict[str, str], sign: str
) -> None:
    deadline = time.monotonic() + _SEEN_S
    while True:
        answer = connection.exchange("GET", target, None, headers)
        if sign.encode() in answer.body or time.monotonic() > deadline:
            people.check(answer, target, sign)
            return
