"""Say what is wrong with a fleet that nobody disturbs any more. Pure.

Each check returns a sentence for each thing that must not be; none is well.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from node.model.ids import VmId
from node.model.vm import VmState, Wanted

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ToldVm:
    """A VM as a node or the aggregator tells it."""

    vm_id: VmId
    name: str
    node: str
    state: VmState
    wanted: Wanted
    reason: str = ""  # its code


@dataclass(frozen=True, slots=True)
class Observation:
    """What all parts of the fleet say, and what really runs, by host."""

    view: tuple[ToldVm, ...]
    told: Mapping[str, tuple[ToldVm, ...]]
    processes: Mapping[str, tuple[VmId, ...]]  # of QEMU, one entry for each
    folders: Mapping[str, tuple[str, ...]]  # whose disks are there
    node_states: Mapping[str, str]
    problems: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    open_orders: tuple[str, ...] = ()


@dataclass(slots=True)
class Ledger:
    """What was acknowledged: it must stay true whatever breaks."""

    created: set[VmId] = field(default_factory=set)
    delete_asked: set[VmId] = field(default_factory=set)
    deleted: set[VmId] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class SeenEvent:
    """An event as a node or the aggregator keeps it."""

    number: int
    at: str
    code: str
    vm_id: str
    node: str = ""  # its name, if the event tells


_SETTLED: Final = {
    Wanted.UP: VmState.UP,
    Wanted.PAUSED: VmState.PAUSED,
    Wanted.DOWN: VmState.DOWN,
}
_PASSING: Final = frozenset(
    {
        VmState.STARTING,
        VmState.POWERING_UP,
        VmState.POWERING_DOWN,
        VmState.REBOOTING,
        VmState.NOT_RESPONDING,
        VmState.UNKNOWN,
    }
)
_BAD: Final = re.compile(
    r"(^| )(ERROR|CRITICAL) |^Traceback |^[\w.]+Error\b|\[(emerg|alert)\]"
)
# What the faults of a soak let the product say: it reports them as its errors.
_EXPECTED: Final = re.compile(
    r"aggregator\.federation\.events: (node_unreachable|action_failed): "
)


def violations(seen: Observation, ledger: Ledger) -> list[str]:
    """Return all that is wrong with a fleet that should be at rest."""
    return [
        *doubles(seen.processes),
        *_orders(seen),
        *_nodes(seen),
        *_beliefs(seen),
        *_states(seen),
        *_processes(seen),
        *_folders(seen),
        *_promises(seen, ledger),
    ]


def doubles(processes: Mapping[str, Collection[VmId]]) -> list[str]:
    """Return the VMs that run more than once: that must not be at any moment."""
    count = Counter(vm_id for found in processes.values() for vm_id in found)
    return [
        f"VM {vm_id} runs {times} times: on "
        + ", ".join(host for host, found in processes.items() if vm_id in found)
        for vm_id, times in count.items()
        if times > 1
    ]


def repeated_events(events: Iterable[SeenEvent]) -> list[str]:
    """Return the events that bear a number twice, or were taken twice."""
    listed = tuple(events)
    numbers = Counter(event.number for event in listed)
    found = [f"event {number} is there twice" for number in _several(numbers)]
    same = Counter(_mark(event) for event in listed)
    return found + [f"event {mark} was taken twice" for mark in _several(same)]


def lost_events(told: Iterable[SeenEvent], kept: Iterable[SeenEvent]) -> list[str]:
    """Return the events of nodes that the aggregator does not have."""
    there = {_mark(event) for event in kept}
    return [
        f"the aggregator lacks the event {_mark(event)}"
        for event in told
        if _mark(event) not in there
    ]


def false_alarms(events: Iterable[SeenEvent], silenced: Collection[str]) -> list[str]:
    """Return the nodes that were called unreachable although nobody cut them off."""
    return [
        f"{event.node} was called unreachable at {event.at}, and was up"
        for event in events
        if event.code == "node_unreachable" and event.node not in silenced
    ]


def bad_lines(log: str) -> list[str]:
    """Return the lines of a log that no fault of a soak explains."""
    return [
        line
        for line in log.splitlines()
        if _BAD.search(line) and not _EXPECTED.search(line)
    ]


def _mark(event: SeenEvent) -> tuple[str, str, str]:
    return event.at, event.code, event.vm_id


def _several(counted: Mapping[T, int]) -> list[T]:
    return [each for each, times in counted.items() if times > 1]


def _orders(seen: Observation) -> Iterator[str]:
    for order in seen.open_orders:
        yield f"the order {order} is still open"


def _nodes(seen: Observation) -> Iterator[str]:
    for host in seen.told:
        state = seen.node_states.get(host, "absent")
        if state != "up":
            yield f"{host} is up, the aggregator calls it {state}"
        for problem in seen.problems.get(host, ()):
            yield f"{host} has the problem {problem}"


def _beliefs(seen: Observation) -> Iterator[str]:
    """Compare the aggregator's View with what the nodes say themselves."""
    told = {vm.vm_id: vm for found in seen.told.values() for vm in found}
    if len(told) != sum(map(len, seen.told.values())):
        yield "two nodes have the same VM"
    believed = {vm.vm_id: vm for vm in seen.view}
    for vm_id in sorted(told.keys() | believed.keys()):
        if told.get(vm_id) != believed.get(vm_id):
            yield (
                f"the node says {told.get(vm_id)}, "
                f"the aggregator believes {believed.get(vm_id)}"
            )


def _states(seen: Observation) -> Iterator[str]:
    for vm in _all(seen):
        if vm.state in _PASSING:
            yield f"VM {vm.name} is still {vm.state} ({vm.reason or 'no reason'})"
        elif vm.state is not _SETTLED[vm.wanted] and not vm.reason:
            yield f"VM {vm.name} is {vm.state}, not {vm.wanted}, for no reason"


def _processes(seen: Observation) -> Iterator[str]:
    for host, found in seen.told.items():
        running = set(seen.processes.get(host, ()))
        told = {vm.vm_id for vm in found if vm.state is not VmState.DOWN}
        for vm_id in sorted(running - told):
            yield f"QEMU of {vm_id} runs on {host}, which does not say so"
        for vm_id in sorted(told - running):
            yield f"{host} says that {vm_id} runs, but there is no QEMU"


def _folders(seen: Observation) -> Iterator[str]:
    for host, found in seen.told.items():
        defined: set[str] = {vm.vm_id for vm in found}
        there = set(seen.folders.get(host, ()))
        for name in sorted(there - defined):
            yield f"the disks {name} on {host} belong to no VM"
        for name in sorted(defined - there):
            yield f"VM {name} on {host} has no disks"


def _promises(seen: Observation, ledger: Ledger) -> Iterator[str]:
    there = {vm.vm_id for vm in _all(seen)}
    for vm_id in sorted(ledger.created - ledger.delete_asked - there):
        yield f"VM {vm_id} was acknowledged as created, and is not there"
    for vm_id in sorted(ledger.deleted & there):
        yield f"VM {vm_id} was acknowledged as deleted, and is there"


def _all(seen: Observation) -> Iterator[ToldVm]:
    for found in seen.told.values():
        yield from found
