"""Say what is wrong with a pool after its storage was broken. Pure.

What the guest writes, by sectors of its data disk; each start has a slot of its own,
and stamps each sector with the version of the lease under which it runs:

    slot 0: │ STAMP version slot 0 │ … │ slot 1: │ STAMP version slot 1 │ …
    0         1 sector each              SLOT_SECTORS

It numbers them, waits until each is on disk, and acknowledges it on its serial line,
which the host keeps outside of the shared storage. At the end of its slot it begins
there again, with the next number, for as long as it lives.
"""

import itertools
import re
import statistics
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tests.lab.witness import Change

SECTOR: Final = 512
SLOT_SECTORS: Final = 1024
_STAMP: Final = re.compile(rb"STAMP (\d{8}) (\d{4}) (\d{6,})\n\0+")
_ACK: Final = re.compile(r"ACK (\d+) (\d+) (\d+)\b")
_RESOURCE: Final = re.compile(r"^r ([^:]+):([^:]+):", re.MULTILINE)
_LEAF, _SHARED = "LEAF", "SHARED"
_NONE = "00000000-0000-0000-0000-000000000000"
_WRITES: Final = frozenset({"write", "truncate", "fallocate"})


@dataclass(frozen=True, slots=True)
class Ack:
    """The last sector of a slot that a guest called written."""

    version: int
    slot: int
    number: int


@dataclass(frozen=True, slots=True)
class Start:
    """A start of the VM: who runs it from then on."""

    host: str
    at_ns: int


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume as its metadata and qemu-img tell it."""

    volume_id: str
    parent_id: str  # by its metadata; zeros: none
    role: str
    legality: str
    backing: str  # by the file itself; empty: none


def script(version: int, slot: int) -> str:
    """Return what the guest runs, unless it runs one already."""
    first = slot * SLOT_SECTORS
    return (
        "mkdir /run/writes || exit; n=0; while :; do"
        f" printf 'STAMP %08d %04d %06d\\n' {version} {slot} $n |"
        f" dd of=/dev/vdb bs={SECTOR} seek=$(({first} + n % {SLOT_SECTORS}))"
        " conv=notrunc,sync,fsync 2>/dev/null || exit;"
        f' echo "ACK {version} {slot} $n" >/dev/ttyS0;'
        " n=$((n + 1)); sleep 0.05; done"
    )


def stamp(version: int, slot: int, number: int) -> bytes:
    """Return the sector that the guest writes."""
    text = b"STAMP %08d %04d %06d\n" % (version, slot, number)
    return text.ljust(SECTOR, b"\0")


def acks(serial: str) -> dict[int, Ack]:
    """Return the last acknowledgement of each slot that a serial line tells of."""
    found: dict[int, Ack] = {}
    for words in _ACK.findall(serial):
        version, slot, number = map(int, words)
        if slot not in found or found[slot].number < number:
            found[slot] = Ack(version, slot, number)
    return found


def lost_writes(data: bytes, acked: Iterable[Ack]) -> list[str]:
    """Return the slots of a disk of which an acknowledged sector is not there."""
    wrong = []
    for ack in acked:
        first = ack.slot * SLOT_SECTORS
        for number in range(max(0, ack.number + 1 - SLOT_SECTORS), ack.number + 1):
            begin = (first + number % SLOT_SECTORS) * SECTOR
            told = data[begin : begin + SECTOR]
            if not _is_there(told, ack, number):
                wrong.append(f"{ack}: stamp {number} is lost, there is {told[:32]!r}")
                break
    return wrong


def _is_there(sector: bytes, ack: Ack, number: int) -> bool:
    """Tell whether a sector has a stamp, or one that came there after it."""
    found = _STAMP.fullmatch(sector)
    if found is None:
        return False
    version, slot, last = map(int, found.groups())
    return (version, slot) == (ack.version, ack.slot) and (
        last >= number and (last - number) % SLOT_SECTORS == 0
    )


def double_writers(changes: Iterable[Change], starts: Sequence[Start]) -> list[str]:
    """Return the volumes of a VM that another host wrote while one ran it.

    `changes` are of the VM's disks alone, in order of time. A volume that is new is
    made by the manager, and then the VM's host alone writes it.
    """
    done = [each for each in changes if each.is_done and "." not in each.path]
    born = {each.path: each.begin_ns for each in reversed(done)}
    writes = [each for each in done if each.verb in _WRITES]
    wrong: list[str] = []
    for start, until_ns in _reigns(starts):
        mine = [
            each
            for each in writes
            if each.host == start.host and start.at_ns <= each.begin_ns < until_ns
        ]
        for path in dict.fromkeys(each.path for each in writes):
            is_new = born[path] >= start.at_ns
            ours = [each for each in mine if each.path == path or not is_new]
            others = [each for each in writes if each.path == path]
            wrong += _strangers(start.host, ours, others)
    return wrong


def _reigns(starts: Sequence[Start]) -> Iterator[tuple[Start, float]]:
    """Yield each start with the moment at which the VM was started anew."""
    ends = [*(start.at_ns for start in starts), float("inf")]
    return zip(starts, ends[1:], strict=True)


def _strangers(
    host: str, ours: Sequence[Change], others: Iterable[Change]
) -> Iterator[str]:
    """Yield the first write of another host between the first and the last of ours."""
    if not ours:
        return
    first_ns, last_ns = ours[0].begin_ns, ours[-1].begin_ns
    for change in others:
        # A mirror that died before the end writes no more.
        end_ns = change.begin_ns if change.end_ns is None else change.end_ns
        if change.host != host and change.begin_ns < last_ns and end_ns > first_ns:
            yield f"{change.host} wrote while {host} did: {change}"
            return


def managers_out_of_turn(
    changes: Iterable[Change], terms: Sequence[str]
) -> Iterator[str]:
    """Yield where hosts changed what only managers do, not in the order of terms."""
    done = [change for change in changes if change.is_done]
    order = iter(terms)
    for host, group in itertools.groupby(done, lambda change: change.host):
        first = next(group)
        if host not in order:  # takes from the terms up to that host's next one
            yield f"{host} changed {first.path} ({first.verb}), after {terms}"
            return


def chain_problems(volumes: Collection[Volume]) -> Iterator[str]:
    """Yield what makes the volumes of one disk no legal chain."""
    by_id = {volume.volume_id: volume for volume in volumes}
    # A template's disk ends with a volume that others share; a thin clone's own folder
    # has that volume too.
    by_role = {
        role: [volume for volume in volumes if volume.role == role]
        for role in (_LEAF, _SHARED)
    }
    leaves = by_role[_LEAF] or by_role[_SHARED]
    if len(leaves) != 1:
        yield f"{len(leaves)} leaves"
        return
    seen = []
    current: Volume | None = leaves[0]
    while current is not None and current.volume_id not in seen:
        seen.append(current.volume_id)
        parent = "" if current.parent_id == _NONE else current.parent_id
        if current.legality != "LEGAL":
            yield f"volume {current.volume_id} is {current.legality}"
        if current.backing != parent:
            yield f"{current.volume_id}: backing {current.backing!r}, not {parent!r}"
        if parent and parent not in by_id:
            yield f"volume {parent} is not there"
        current = by_id.get(parent)
    for volume_id in by_id.keys() - set(seen):
        yield f"volume {volume_id} is in no chain"


def left_over(there: Collection[str], known: Collection[str]) -> list[str]:
    """Return what lies among the disks and is none, and disks that are not there."""
    return [
        *(
            f"{name} takes space, and is no disk"
            for name in sorted({*there} - {*known})
        ),
        *(f"disk {name} has no files" for name in sorted({*known} - {*there})),
    ]


def locks_left(status: Mapping[str, str], vm_id: str, runner: str) -> list[str]:
    """Return the leases that hosts hold and nothing needs.

    `status` is what `sanlock client status` says on each host.
    """
    wrong: list[str] = []
    managers: set[str] = set()
    for host, text in status.items():
        for _, resource in _RESOURCE.findall(text):
            if resource == "SDM":
                managers.add(host)
            elif resource != vm_id or host != runner:
                wrong.append(f"{host} still has the lease {resource}")
    if len(managers) != 1:
        wrong.append(f"managers by their leases: {sorted(managers)}")
    return wrong


def spread(times_s: Collection[float]) -> str:
    """Return the median and the maximum of some times, in words."""
    if not times_s:
        return "none"
    middle, most = statistics.median(times_s), max(times_s)
    return f"{len(times_s)}, median {middle:.1f} s, max {most:.1f} s"
