"""Run the hooks of what a node tells of itself: capabilities and figures.

Scripts find what VDSM's had, under VDSM's names, as far as we know it. What one of them
changes or adds is told beside the node's own facts and figures, under its name; these
themselves stay as they were measured, because decisions are made of them.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from node.hooks.runner import Occasion, Runner
from node.model.hooks import HookPoint, HookReport
from node.model.host import NodeFacts
from node.model.ids import VmId
from node.model.stats import Stats, VmStats
from node.units import MiB

log = logging.getLogger(__name__)

_REPORTED_MAX: Final = 16 * 1024  # characters of what scripts add, in all
_Dict = dict[str, Any]


class Replies:
    """The hooks of what is told. Any thread may call."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def caps(self, measure: Callable[[], NodeFacts]) -> NodeFacts:
        """Return a node's facts, and what scripts say beside them.

        HookFailed: a script forbids to tell.
        """
        self._ask(HookPoint.BEFORE_GET_CAPS)
        facts = measure()
        if not self._runner.has_scripts(HookPoint.AFTER_GET_CAPS):
            return facts
        before = _capabilities(facts)
        after = self._edit(HookPoint.AFTER_GET_CAPS, before)
        return replace(facts, reported=_news(before, after))

    def stats(self, measure: Callable[[], Stats]) -> Stats:
        """Return figures, and what scripts say beside them; HookFailed."""
        self._ask(HookPoint.BEFORE_GET_STATS)
        self._ask(HookPoint.BEFORE_GET_ALL_VM_STATS)
        stats = measure()
        if self._runner.has_scripts(HookPoint.AFTER_GET_STATS):
            before = _figures(stats)
            after = self._edit(HookPoint.AFTER_GET_STATS, before)
            node = replace(stats.node, reported=_news(before, after))
            stats = replace(stats, node=node)
        if self._runner.has_scripts(HookPoint.AFTER_GET_ALL_VM_STATS):
            stats = replace(stats, vms=self._vms(stats.vms))
        return stats

    def _vms(self, vms: Sequence[VmStats]) -> tuple[VmStats, ...]:
        before = {each.vm_id: _figures_of_vm(each) for each in vms}
        rows = self._edit(HookPoint.AFTER_GET_ALL_VM_STATS, list(before.values()))
        after: dict[VmId, _Dict] = {}
        for row in rows if isinstance(rows, list) else ():
            if isinstance(row, dict) and isinstance(row.get("vmId"), str):
                after[VmId(row["vmId"])] = row
        return tuple(
            replace(
                each,
                reported=_news(
                    before[each.vm_id], after.get(each.vm_id, before[each.vm_id])
                ),
            )
            for each in vms
        )

    def _ask(self, point: HookPoint) -> None:
        if self._runner.has_scripts(point):
            self._runner.run(Occasion(point, b"{}"))

    def _edit(self, point: HookPoint, given: object) -> Any:
        """Return what scripts made of it; a script that fails is in the log."""
        outcome = self._runner.attempt(Occasion(point, json.dumps(given).encode()))
        if outcome.problem:
            log.warning("%s: %s", point, outcome.problem)
        return json.loads(outcome.payload)


def _capabilities(facts: NodeFacts) -> _Dict:
    cpu = facts.cpu
    return {
        "uuid": facts.node_id,
        "kvmEnabled": str(facts.kvm.is_usable).lower(),
        "cpuModel": cpu.model,
        "cpuFlags": ",".join(cpu.flags),
        "cpuSockets": str(cpu.sockets),
        "cpuCores": str(cpu.sockets * cpu.cores),
        "cpuThreads": str(cpu.count),
        "cpuSpeed": str(cpu.mhz),
        "memSize": str(facts.memory_bytes // MiB),
        "emulatedMachines": list(facts.machines),
        "software_version": facts.versions.agent,
        "kernel": facts.versions.kernel,
    }


def _figures(stats: Stats) -> _Dict:
    node = stats.node
    return {
        "cpuIdle": f"{100 - node.cpu_percent:.2f}",
        "cpuLoad": f"{node.load_5min:.2f}",
        "memFree": node.memory_free_bytes // MiB,
        "swapUsed": node.swap_used_bytes // MiB,
        "vmCount": len(stats.vms),
    }


def _figures_of_vm(stats: VmStats) -> _Dict:
    return {
        "vmId": stats.vm_id,
        "cpuUser": f"{stats.cpu_percent:.2f}",
        "memUsed": stats.memory_used_bytes // MiB,
        "elapsedTime": str(stats.uptime_s),
        "statsAge": f"{stats.age_s:.2f}",
    }


def _news(before: Mapping[str, Any], after: object) -> tuple[HookReport, ...]:
    """Return what a script has changed or added, as texts."""
    if not isinstance(after, dict):
        return ()
    found = tuple(
        HookReport(name, value if isinstance(value, str) else json.dumps(value))
        for name, value in after.items()
        if name not in before or before[name] != value
    )
    if sum(len(each.name) + len(each.value) for each in found) > _REPORTED_MAX:
        log.warning("hooks report more than %d characters", _REPORTED_MAX)
        return ()
    return found
