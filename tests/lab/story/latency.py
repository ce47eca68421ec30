"""Measure how soon the aggregator answers, and how soon it sees a change."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median
from typing import Final

from aggregator.api.model import VmDetail
from node import clock
from node.model.ids import VmId
from node.model.vm import VmState
from tests.lab import waiting
from tests.lab.story.conftest import Story

READS: Final = 10  # for each pair of changes
_POLL_S: Final = 0.02  # what is measured takes some 200 ms


@dataclass(frozen=True, slots=True)
class Latency:
    """Medians, in seconds."""

    read_s: float  # one VM shown
    change_s: float  # from the moment a node saw a change until it is shown

    def __str__(self) -> str:
        return f"read {self.read_s * 1000:.0f} ms, change {self.change_s * 1000:.0f} ms"


def measure(story: Story, node: str, name: str, pairs: int) -> Latency:
    """Read a VM that is up on a node, and pause and resume it, so many times."""
    vm_id = VmId(story.fleet.node_json(node, "vm", "show", name)["vm"]["spec"]["vm_id"])
    reads_s, changes_s = [], []
    for _ in range(pairs):
        reads_s += [_read_s(story, vm_id) for _ in range(READS)]
        changes_s += [
            _change_s(story, node, vm_id, "pause", VmState.PAUSED),
            _change_s(story, node, vm_id, "resume", VmState.UP),
        ]
    return Latency(median(reads_s), median(changes_s))


def _read_s(story: Story, vm_id: VmId) -> float:
    begin = time.monotonic()
    assert story.client.vm_show(vm_id).entry.vm.spec.vm_id == vm_id
    return time.monotonic() - begin


def _change_s(story: Story, node: str, vm_id: VmId, verb: str, state: VmState) -> float:
    """Change a VM in its node's own shell; return the age of the news when shown.

    All members have this machine's clock.
    """

    def shown() -> VmDetail | None:
        detail = story.client.vm_show(vm_id)
        return detail if detail.state is state else None

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(story.fleet.node_json, node, "vm", verb, vm_id)
        detail = waiting.until(f"VM {state}", shown, poll_s=_POLL_S)
        seen_at = datetime.now(UTC)
        asked.result()
    return (seen_at - clock.parse_rfc3339(detail.entry.run.since)).total_seconds()
