"""Let the nodes of a pool see each other on the storage, with no network between.

`dom_md/skerry/presence` of the master has a slot of 4 KiB for each host id. A node
writes its own every 10 s: one line of JSON and one line `sha256=` with the digest of
the first, then zeros; less than a sector of any kind, so it is written whole or not.
A counter that stands still is silence, measured by the reader's own clock: whoever
renews in sanlock and is silent here has an agent that is dead.

It is how a holder of the SDM lease is asked to leave, too. sanlock's own request
would not do: it runs the holder's killpath, which kills what should finish. Its
events (set_event) would come with a renewal, 20 s later, and only to a process that
waits for them just then; what stands in a slot stays until it is answered.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from node import wire
from node.errors import Invalid
from node.model.ids import NodeId
from node.model.storage import Liveness, PoolMember, SpmPriority
from node.storage.domains import DomainFiles
from node.storage.domains.host_ids import HOST_ID_MAX, HostRecord
from node.system.leases import Host

SLOT_BYTES: Final = 4096
AREA_BYTES: Final = HOST_ID_MAX * SLOT_BYTES
_WRITTEN_MAX: Final = 512  # one sector
_LINES = re.compile(rb"([^\n]*)\nsha256=([0-9a-f]{64})\n\0*")


@dataclass(frozen=True, slots=True)
class Presence:
    """What a node says of itself."""

    node_id: NodeId
    counter: int  # grows with each publication, also over restarts
    priority: int = SpmPriority.NORMAL
    hears_leader: bool = False
    serves: int = 0  # it is manager under the SDM lease of this version; 0: it is not
    asks: int = 0  # it asks who holds the SDM lease in this version to leave
    schema: int = 1


@dataclass(frozen=True, slots=True)
class Seen:
    """What was read last in a slot, and when that was new."""

    presence: Presence
    changed_at: float  # by our monotonic clock


def write(presence: Presence) -> bytes:
    """Return a slot."""
    body = wire.encode(presence)
    text = b"%b\nsha256=%b\n" % (body, hashlib.sha256(body).hexdigest().encode())
    assert len(text) <= _WRITTEN_MAX, f"{len(text)} bytes are more than a sector"
    return text.ljust(SLOT_BYTES, b"\0")


def parse(slot: bytes) -> Presence | None:
    """Return what a slot says; None if nobody speaks there, or not to us."""
    found = _LINES.fullmatch(slot)
    if found is None or hashlib.sha256(found[1]).hexdigest().encode() != found[2]:
        return None
    try:
        return wire.decode(Presence, found[1], strict=False)
    except Invalid:
        return None


def publish(
    files: DomainFiles, path: str, host_id: int, presence: Presence
) -> Presence:
    """Write our slot, its counter one higher than what is there; return that."""
    before = parse(files.read_at(path, _offset(host_id), SLOT_BYTES))
    counter = max(before.counter if before else 0, presence.counter) + 1
    presence = replace(presence, counter=counter)
    files.write_at(path, _offset(host_id), write(presence))
    return presence


def read(files: DomainFiles, path: str, host_ids: Iterable[int]) -> dict[int, Presence]:
    """Return what the nodes with these host ids say."""
    highest = max(host_ids, default=0)
    if not highest:
        return {}
    data = files.read_at(path, 0, highest * SLOT_BYTES)
    slots = {
        host_id: parse(data[_offset(host_id) : _offset(host_id + 1)])
        for host_id in range(1, highest + 1)
    }
    return {host_id: said for host_id, said in slots.items() if said is not None}


def follow(
    before: Mapping[int, Seen], found: Mapping[int, Presence], now: float
) -> dict[int, Seen]:
    """Note what is new since the last reading. Pure."""
    return {
        host_id: before[host_id]
        if host_id in before and before[host_id].presence == said
        else Seen(said, now)
        for host_id, said in found.items()
    }


def members(
    seen: Mapping[int, Seen],
    hosts: Iterable[Host],
    records: Iterable[HostRecord],
    now: float,
) -> tuple[PoolMember, ...]:
    """Put together what sanlock and the nodes themselves say. Pure.

    A host that says nothing is silent for ever; its name is in its host id's sector.
    """
    liveness = {each.host_id: Liveness(each.liveness.value) for each in hosts}
    return tuple(
        _member(each, liveness.get(each.host_id, Liveness.FREE), seen, now)
        for each in records
        if each.host_name
    )


def _member(
    record: HostRecord, liveness: Liveness, seen: Mapping[int, Seen], now: float
) -> PoolMember:
    node_id = NodeId(record.host_name)
    known = seen.get(record.host_id)
    if known is None or known.presence.node_id != node_id:
        return PoolMember(node_id, record.host_id, liveness, silence_s=_FOR_EVER)
    said = known.presence
    return PoolMember(
        node_id,
        record.host_id,
        liveness,
        said.hears_leader,
        said.priority,
        max(now - known.changed_at, 0.0),
    )


def _offset(host_id: int) -> int:
    return (host_id - 1) * SLOT_BYTES


_FOR_EVER: Final = 1e9  # seconds: 30 years; JSON has no infinity
