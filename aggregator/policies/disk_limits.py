"""Let disks have the limits of their profiles: the View and profiles → what to do.

Pure, and asked again and again: whatever was cut short is seen the next time. A disk
whose profile has no storage QoS keeps its own limits; one that just lost those of a
profile has none.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from aggregator.federation.view import DiskRow, View
from aggregator.policies.profiles import Profiles
from node import wire
from node.model.ids import DiskId
from node.model.storage import DiskDocument, DiskQos, DiskState


@dataclass(frozen=True, slots=True)
class Limit:
    """Let a disk have these limits."""

    disk_id: DiskId
    limits: DiskQos


@dataclass(frozen=True, slots=True)
class Mark:
    """Remember whether the limits of a disk are a profile's."""

    disk_id: DiskId
    is_limited: bool


def decide(view: View, profiles: Profiles) -> tuple[Limit | Mark, ...]:
    """Return what differs from what is wanted; a mark comes before its limits."""
    return tuple(_decide(view, profiles))


def _decide(view: View, profiles: Profiles) -> Iterator[Limit | Mark]:
    for disk in _concerned(view, profiles):
        wanted = profiles.limits(profiles.of(view, disk))
        choice = profiles.choices.get(disk.disk_id)
        is_marked = choice is not None and choice.is_limited
        if wanted is None and not is_marked:
            continue
        now = wire.decode(DiskDocument, disk.document, strict=False).qos
        if wanted is not None and not is_marked:
            yield Mark(disk.disk_id, is_limited=True)
        if now != (wanted or DiskQos()):
            yield Limit(disk.disk_id, wanted or DiskQos())
        elif wanted is None:
            yield Mark(disk.disk_id, is_limited=False)


def _concerned(view: View, profiles: Profiles) -> Iterator[DiskRow]:
    """Yield the disks that somebody chose for, or on whose storage domains all are."""
    limiting = {
        row.storage_domain_id
        for row in view.storage_domains.values()
        if profiles.limits(profiles.default(row)) is not None
    }
    found = set(profiles.choices)
    if limiting:
        found.update(
            disk.disk_id
            for disk in view.disks.values()
            if not limiting.isdisjoint(disk.storage_domain_ids)
        )
    for disk_id in sorted(found):
        disk = view.disks.get(disk_id)
        if disk is not None and _may_change(disk):
            yield disk


def _may_change(disk: DiskRow) -> bool:
    """Tell whether it is a disk of its own that can be changed now."""
    is_there = disk.state is DiskState.OK and not disk.is_disputed and not disk.is_left
    return is_there and not disk.is_ovf_store and len(disk.storage_domain_ids) == 1
