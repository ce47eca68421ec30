"""The feed: documents, the numbered deltas that carry them, and the reply.

A node's store has an epoch (new with each creation of the store) and a
revision that only grows. Source: DESIGN section 4.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from node.model.event import Event
from node.model.ids import FleetId
from node.model.stats import Stats

Body = Mapping[str, Any]  # a document's JSON object: unknown fields are kept


class Kind(StrEnum):
    NODE = "node"
    VM = "vm"
    VM_RUN = "vm_run"
    DEVICE = "device"
    IMAGE = "image"
    JOB = "job"
    DISK = "disk"
    STORAGE_DOMAIN = "storage_domain"
    POOL = "pool"
    TEMPLATE = "template"


@dataclass(frozen=True, slots=True)
class Document:
    kind: str  # a Kind, or one that only newer nodes know
    id: str
    rev: int
    body: Body


@dataclass(frozen=True, slots=True)
class Tombstone:
    kind: str
    id: str
    rev: int


@dataclass(frozen=True, slots=True)
class Delta:
    """What changed after `from_rev` up to `to_rev`; from 0: everything.

    A resync comes in parts: all carry the same epoch and to_rev, and replace
    the old state after the last one.
    """

    epoch: str
    from_rev: int = field(metadata={"wire": "from"})
    to_rev: int = field(metadata={"wire": "to"})
    boot_id: str
    changed: tuple[Document, ...] = ()
    gone: tuple[Tombstone, ...] = ()
    stats: Stats | None = None
    events: tuple[Event, ...] = ()
    part: int = 1
    parts: int = 1


class DeltaOutcome(StrEnum):
    OK = "ok"
    RESYNC = "resync"


@dataclass(frozen=True, slots=True)
class FleetMark:
    """Which sealed copy of the fleet's documents is the newest, and who leads."""

    fleet_id: FleetId
    term: int
    version: int


@dataclass(frozen=True, slots=True)
class DeltaReply:
    outcome: DeltaOutcome
    to_rev: int = field(metadata={"wire": "to"})
    fleet: FleetMark | None = None
    # all events of this boot up to this number are committed
    events_acknowledged: int = 0
