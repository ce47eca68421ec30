"""Decide what one run of the storage's soak does, by its seed. Pure.

A run needs none before it: a seed gives the same one for ever, alone or in a row.
Its four strands of work go on at once, each step after the one before it, and in
the middle of them something breaks.
"""

import random
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from node.model.ids import DiskId

WORK_S: Final = 4.0  # within this all strands begin, and something breaks
DOMAINS: Final = ("alpha", "beta")
# A host's storage is lost to it after 80 s of sanlock's, which are 13 s here.
_BRIEF_S: Final = (1.0, 3.0, 5.0)
_LONG_S: Final = (16.0, 35.0)


class Work(StrEnum):
    CREATE = "create"
    RESIZE = "resize"
    COPY = "copy"
    MOVE = "move"
    DELETE = "delete"
    SNAPSHOT = "snapshot"  # of the VM
    MERGE = "merge"  # that snapshot is deleted
    SUSPEND = "suspend"  # the VM
    GO_ON = "go on"  # it is started again, on a host that may be another one
    TEMPLATE = "template"  # of a VM that is down
    THIN = "thin clone"  # a VM of that template
    CLONE = "clone"  # such a VM, with copies of the template's data
    DELETE_VM = "delete VM"
    DELETE_TEMPLATE = "delete template"


class Kind(StrEnum):
    KILL = "kill"  # -9 of a service, which is started again
    FREEZE = "freeze"  # SIGSTOP of a service, SIGCONT later
    POWER = "power"  # off, and on later
    CUT = "cut"  # the network, plugged in again later
    HANG = "hang"  # the host's mount of the shared storage
    NO_SPACE = "no space"
    IO_ERROR = "I/O errors"
    READ_ONLY = "read-only"


class Target(StrEnum):
    """Who is hit: known when it happens."""

    MANAGER = "the manager"
    RUNNER = "the VM's host"
    OTHER = "a host"  # that is neither, if there is one
    AGGREGATOR = "the aggregator"


@dataclass(frozen=True, slots=True)
class Task:
    work: Work
    disk_id: DiskId | None = None  # None: of the VM
    place: str = ""  # a storage domain's name, where it is made
    made_id: str = ""  # a snapshot, a template, or a VM that is made of it
    of_id: str = ""  # the template that a VM is made of
    host: int = 0  # where a VM goes on


@dataclass(frozen=True, slots=True)
class Strand:
    at_s: float  # since the run began
    tasks: tuple[Task, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    at_s: float
    kind: Kind
    target: Target
    service: str = ""
    duration_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Run:
    seed: int
    host: int | None  # which one runs the VM, if none does; None: the manager
    strands: tuple[Strand, ...]
    fault: Fault


_Blow = tuple[Kind, str]  # what happens, to which service if to one

# Faults of each pace, and how often: as many cards of a deck, of which each seed has
# one. What costs a host its leases takes as long as sanlock waits, and is left to the
# long runs.
_ALWAYS: Final[Mapping[_Blow, int]] = {
    (Kind.KILL, "agent"): 4,
    (Kind.KILL, "skerry-storage"): 4,
    (Kind.KILL, "libvirtd"): 1,
    (Kind.KILL, "aggregator"): 2,
    (Kind.FREEZE, "agent"): 2,
    (Kind.FREEZE, "skerry-storage"): 2,
    (Kind.FREEZE, "aggregator"): 1,
    (Kind.HANG, ""): 3,
    (Kind.CUT, ""): 1,
    (Kind.NO_SPACE, ""): 2,
    (Kind.IO_ERROR, ""): 2,
    (Kind.READ_ONLY, ""): 1,
}
_LONG: Final[Mapping[_Blow, int]] = {
    **_ALWAYS,
    (Kind.POWER, ""): 6,
    (Kind.HANG, ""): 5,
    (Kind.CUT, ""): 3,
}
_ELSEWHERE: Final = 0.4  # the part of the VMs that the manager does not run
_SUSPENDED: Final = 0.5  # the part of the runs that suspend the VM
_TARGETS: Final = {Target.MANAGER: 5, Target.RUNNER: 3, Target.OTHER: 1}


def plan(seed: int, fixed: DiskId, hosts: int, *, is_brief: bool) -> Run:
    """Return the run of a seed; `fixed` is a disk with data that is there always."""
    chance = random.Random(f"{seed} {is_brief}")
    # A chance of its own: what a seed did before this strand was added, it does still.
    more = random.Random(f"{seed} {is_brief} more")
    kept = _new_id(chance)
    return Run(
        seed=seed,
        host=chance.randrange(hosts) if chance.random() < _ELSEWHERE else None,
        strands=(
            Strand(_moment(chance), _own_disk(chance)),
            Strand(_moment(chance), _fixed_disk(chance, fixed)),
            Strand(_moment(chance), _snapshot(kept)),
            Strand(_moment(more), _made_or_suspended(more, hosts)),
        ),
        fault=_fault(seed, chance, is_brief=is_brief),
    )


def describe(fault: Fault) -> str:
    """Return what a fault does, in a few words."""
    whom = f"{fault.service} of {fault.target}" if fault.service else fault.target
    if fault.target is Target.AGGREGATOR:
        whom = fault.target
    lasts = f" for {fault.duration_s:g} s" if fault.duration_s else ""
    return f"{fault.kind}: {whom}{lasts}, after {fault.at_s:g} s"


def new_disks(run: Run) -> tuple[DiskId, ...]:
    """Return the disks that a run makes."""
    return tuple(
        dict.fromkeys(
            task.disk_id
            for strand in run.strands
            for task in strand.tasks
            if task.work in (Work.CREATE, Work.COPY) and task.disk_id is not None
        )
    )


def _own_disk(chance: random.Random) -> tuple[Task, ...]:
    disk_id = DiskId(_new_id(chance))
    middle = [Task(Work.RESIZE, disk_id), Task(Work.MOVE, disk_id)]
    chance.shuffle(middle)
    last = [Task(Work.DELETE, disk_id)] if chance.random() < 0.7 else []
    return (Task(Work.CREATE, disk_id, chance.choice(DOMAINS)), *middle, *last)


def _fixed_disk(chance: random.Random, fixed: DiskId) -> tuple[Task, ...]:
    """Move a disk to and fro, or copy it: most of what is written is written here."""
    if chance.random() < 0.5:
        return (Task(Work.MOVE, fixed), Task(Work.MOVE, fixed))
    copied = DiskId(_new_id(chance))
    place = chance.choice(DOMAINS)
    return (Task(Work.COPY, copied, place), Task(Work.DELETE, copied))


def _snapshot(snapshot_id: str) -> tuple[Task, ...]:
    made = Task(Work.SNAPSHOT, made_id=snapshot_id)
    return (made, Task(Work.MERGE, made_id=snapshot_id))


def _made_or_suspended(chance: random.Random, hosts: int) -> tuple[Task, ...]:
    """Suspend the VM and let it go on, or make a template and a VM of it."""
    if chance.random() < _SUSPENDED:
        return (Task(Work.SUSPEND), Task(Work.GO_ON, host=chance.randrange(hosts)))
    template_id, vm_id = _new_id(chance), _new_id(chance)
    made = chance.choice((Work.THIN, Work.CLONE))
    return (
        Task(Work.TEMPLATE, made_id=template_id),
        Task(made, made_id=vm_id, of_id=template_id),
        Task(Work.DELETE_VM, made_id=vm_id),
        Task(Work.DELETE_TEMPLATE, made_id=template_id),
    )


def _fault(seed: int, chance: random.Random, *, is_brief: bool) -> Fault:
    kind, service = _deal(seed, _ALWAYS if is_brief else _LONG)
    (target,) = chance.choices(list(_TARGETS), list(_TARGETS.values()))
    if service == "aggregator":
        target = Target.AGGREGATOR
    lasts = () if kind is Kind.KILL else _BRIEF_S if is_brief else _BRIEF_S + _LONG_S
    duration_s = chance.choice(lasts) if lasts else 0.0
    return Fault(_moment(chance), kind, target, service, duration_s)


def _deal(seed: int, faults: Mapping[_Blow, int]) -> _Blow:
    """Return a seed's card of the deck that it and its neighbours share."""
    deck = [each for each, count in faults.items() for _ in range(count)]
    number, place = divmod(seed, len(deck))
    random.Random(f"{number} of {len(deck)}").shuffle(deck)
    return deck[place]


def _moment(chance: random.Random) -> float:
    return round(chance.uniform(0, WORK_S), 2)


def _new_id(chance: random.Random) -> str:
    return str(uuid.UUID(int=chance.getrandbits(128), version=4))
