"""Decide what a soak does: orders and faults, round after round. Pure.

A seed gives the same rounds for ever, so that a failure can be had again. The plan
cannot see the fleet: it believes that each order is carried out, and each round
names what must be true of its VMs before the next one begins.
"""

import random
import uuid
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from node.model.ids import VmId

SLOTS: Final = 5  # VMs that exist at once
RUNNING_MAX: Final = 3  # guests are emulated: more of them only wait for each other
STEPS_S: Final = 15.0  # all steps of a round begin within this
ORDERS: Final = (3, 6)  # of a round
FAULTS: Final = (1, 3)  # of a round
AIMED: Final = 0.5  # the part of the faults that meet an order under way
ORDER_S: Final = 0.6  # what an order takes on a machine that is not too busy
DELETE_AFTER_S: Final = 4.0  # a forced stop takes less, if nothing is broken


class Verb(StrEnum):
    CREATE = "create"
    START = "start"
    STOP = "stop"
    FORCE = "force"  # a stop
    PAUSE = "pause"
    RESUME = "resume"
    RESET = "reset"
    DELETE = "delete"


class Way(StrEnum):
    """Whom an order is given to."""

    AGGREGATOR = "aggregator"
    NODE = "node"


class Kind(StrEnum):
    KILL = "kill"  # -9 of a service, which is started again
    CRASH = "crash"  # -9 of a VM's QEMU
    FREEZE = "freeze"  # SIGSTOP of a service, SIGCONT later
    POWER = "power"  # off, and on later
    CUT = "cut"  # the network, plugged in again later


@dataclass(frozen=True, slots=True)
class PlannedVm:
    vm_id: VmId
    name: str


@dataclass(frozen=True, slots=True)
class Order:
    at_s: float  # since the round began
    verb: Verb
    vm: PlannedVm
    way: Way
    host: str = ""  # where to create; empty: the aggregator chooses


@dataclass(frozen=True, slots=True)
class Fault:
    at_s: float
    kind: Kind
    member: str = ""
    service: str = ""
    duration_s: float = 0.0
    vm: PlannedVm | None = None  # whose QEMU


Step = Order | Fault


@dataclass(frozen=True, slots=True)
class Round:
    number: int
    steps: tuple[Step, ...]  # by time
    kept: tuple[PlannedVm, ...]  # exist afterwards
    idle: tuple[PlannedVm, ...]  # of those, the ones that do not run
    retired: tuple[PlannedVm, ...]  # do not exist afterwards

    @property
    def silenced(self) -> frozenset[str]:
        """Return the hosts that the aggregator cannot hear for a while."""
        return frozenset(
            step.member
            for step in self.steps
            if isinstance(step, Fault) and step.kind in (Kind.POWER, Kind.CUT)
        )


def rounds(seed: int, hosts: Sequence[str]) -> Iterator[Round]:
    """Yield the rounds of a seed, without end."""
    planner = _Planner(random.Random(seed), hosts)
    number = 0
    while True:
        number += 1
        yield planner.plan(number)


def describe(step: Step) -> str:
    """Return what a step does, in a few words."""
    match step:
        case Order(verb=verb, vm=vm, way=way, host=host):
            where = f" on {host}" if host else ""
            return f"{verb} {vm.name}{where}, by the {way}"
        case Fault(kind=Kind.CRASH, vm=vm):
            return f"kill QEMU of {vm.name if vm else ''}"
        case Fault(kind=Kind.KILL):
            return f"kill {step.service} of {step.member}"
        case Fault(kind=Kind.FREEZE):
            return f"freeze {step.service} of {step.member} for {step.duration_s:g} s"
        case Fault():
            return f"{step.kind} {step.member} for {step.duration_s:g} s"


def amends(
    done: Round, existing: Collection[VmId], running: Collection[VmId]
) -> tuple[Order, ...]:
    """Return the orders after which the plan's beliefs are true again."""
    wanted: list[tuple[Verb, PlannedVm]] = []
    for vm in done.retired:
        if vm.vm_id in running:
            wanted.append((Verb.FORCE, vm))
        if vm.vm_id in existing:
            wanted.append((Verb.DELETE, vm))
    for vm in done.kept:
        if vm.vm_id not in existing:
            wanted.append((Verb.CREATE, vm))
        elif vm in done.idle and vm.vm_id in running:
            wanted.append((Verb.FORCE, vm))
    return tuple(Order(0.0, verb, vm, Way.AGGREGATOR) for verb, vm in wanted)


class _Belief(StrEnum):
    DOWN = "down"
    UP = "up"
    PAUSED = "paused"


@dataclass(slots=True)
class _Slot:
    vm: PlannedVm
    belief: _Belief
    host: str  # empty: not known


# What is ordered of a VM in each state, and how often; now and then, what is refused.
_VERBS: Final = {
    _Belief.DOWN: {Verb.START: 8, Verb.DELETE: 2, Verb.STOP: 1, Verb.PAUSE: 1},
    _Belief.UP: {
        **{Verb.STOP: 4, Verb.FORCE: 2, Verb.PAUSE: 3, Verb.RESET: 2},
        **{Verb.DELETE: 1, Verb.START: 1},
    },
    _Belief.PAUSED: {Verb.RESUME: 5, Verb.FORCE: 2, Verb.STOP: 1, Verb.DELETE: 1},
}
_BECOMES: Final = {
    Verb.START: _Belief.UP,
    Verb.STOP: _Belief.DOWN,
    Verb.FORCE: _Belief.DOWN,
    Verb.PAUSE: _Belief.PAUSED,
    Verb.RESUME: _Belief.UP,
    Verb.RESET: _Belief.UP,
}
# Faults, and how often.
_FAULTS: Final = {
    (Kind.KILL, "agent"): 5,
    (Kind.KILL, "libvirtd"): 4,
    (Kind.KILL, "nginx"): 2,
    (Kind.KILL, "avahi"): 1,
    (Kind.KILL, "aggregator"): 4,
    (Kind.CRASH, "qemu"): 3,
    (Kind.FREEZE, "aggregator"): 2,
    (Kind.POWER, ""): 3,
    (Kind.CUT, ""): 3,
}
_AGGREGATOR: Final = "a1"
_BOTH: Final = ("nginx", "avahi")  # run on hosts and on the aggregator
# A node is suspect after 12 s and unreachable after 25 s: shorter and longer.
_DURATIONS_S: Final = {
    Kind.FREEZE: {5.0: 4, 20.0: 3, 40.0: 2, 120.0: 1},
    Kind.POWER: {1.0: 2, 15.0: 2, 30.0: 2},
    Kind.CUT: {5.0: 2, 16.0: 2, 35.0: 2},
}


class _Planner:
    def __init__(self, chance: random.Random, hosts: Sequence[str]) -> None:
        self._chance = chance
        self._hosts = tuple(hosts)
        self._slots: list[_Slot] = []
        self._made = 0

    def plan(self, number: int) -> Round:
        """Return the next round."""
        steps: list[Step] = []
        retired: list[PlannedVm] = []
        free = list(self._slots)  # one order for a VM and round, or a stop and delete
        for _ in range(self._chance.randint(*ORDERS)):
            can_create = len(self._slots) < SLOTS
            if can_create and (not free or self._chance.random() < 0.3):
                steps.append(self._create())
            elif free:
                slot = free.pop(self._chance.randrange(len(free)))
                steps += self._order(slot, retired)
        steps += self._faults([step.at_s for step in steps])
        steps.sort(key=lambda step: step.at_s)
        idle = [each.vm for each in self._slots if each.belief is _Belief.DOWN]
        return Round(
            number,
            tuple(steps),
            tuple(each.vm for each in self._slots),
            tuple(idle),
            tuple(retired),
        )

    def _create(self) -> Order:
        self._made += 1
        number = uuid.UUID(int=self._chance.getrandbits(128), version=4)
        vm = PlannedVm(VmId(str(number)), f"vm{self._made}")
        way = self._way()
        does_choose = way is Way.NODE or self._chance.random() < 0.5
        host = self._chance.choice(self._hosts) if does_choose else ""
        self._slots.append(_Slot(vm, _Belief.DOWN, host))
        return Order(self._moment(), Verb.CREATE, vm, way, host)

    def _order(self, slot: _Slot, retired: list[PlannedVm]) -> list[Step]:
        verbs = dict(_VERBS[slot.belief])
        running = sum(each.belief is not _Belief.DOWN for each in self._slots)
        if slot.belief is _Belief.DOWN and running >= RUNNING_MAX:
            del verbs[Verb.START]
        (verb,) = self._chance.choices(list(verbs), list(verbs.values()))
        at_s = self._moment()
        if verb is not Verb.DELETE:
            # A VM that is down is not paused: that is refused.
            if not (slot.belief is _Belief.DOWN and verb is Verb.PAUSE):
                slot.belief = _BECOMES[verb]
            return [Order(at_s, verb, slot.vm, self._way())]
        self._slots.remove(slot)
        retired.append(slot.vm)
        delete = Order(at_s + DELETE_AFTER_S, verb, slot.vm, self._way())
        return [Order(at_s, Verb.FORCE, slot.vm, self._way()), delete]

    def _faults(self, ordered_s: Sequence[float]) -> list[Step]:
        """Return faults, some of them in the middle of what was ordered."""
        found: list[Step] = []
        dark: set[str] = set()  # a host loses its power or its network, not both
        for _ in range(self._chance.randint(*FAULTS)):
            choices = self._chance.choices(list(_FAULTS), list(_FAULTS.values()))
            kind, service = choices[0]
            at_s = self._moment()
            if self._chance.random() < AIMED:
                late_s = self._chance.uniform(0, ORDER_S)
                at_s = round(self._chance.choice(ordered_s) + late_s, 2)
            fault = self._fault(at_s, kind, service)
            if kind in (Kind.POWER, Kind.CUT, Kind.FREEZE):
                if fault.member in dark:
                    continue
                dark.add(fault.member)
            found.append(fault)
        return found

    def _fault(self, at_s: float, kind: Kind, service: str) -> Fault:
        running = [each for each in self._slots if each.belief is not _Belief.DOWN]
        if kind is Kind.CRASH and running:
            slot = self._chance.choice(running)
            slot.belief = _Belief.DOWN
            return Fault(at_s, kind, vm=slot.vm)
        if kind is Kind.CRASH:
            kind, service = Kind.KILL, "agent"
        duration_s = 0.0
        if durations := _DURATIONS_S.get(kind):
            (duration_s,) = self._chance.choices(
                list(durations), list(durations.values())
            )
        member = self._chance.choice(self._hosts)
        if service == "aggregator" or (
            service in _BOTH and self._chance.random() < 0.3
        ):
            member = _AGGREGATOR
        if kind is Kind.POWER:
            for slot in self._slots:
                if slot.host in (member, ""):
                    slot.belief = _Belief.DOWN
        return Fault(at_s, kind, member, service, duration_s)

    def _moment(self) -> float:
        return round(self._chance.uniform(0, STEPS_S), 1)

    def _way(self) -> Way:
        return Way.NODE if self._chance.random() < 0.3 else Way.AGGREGATOR
