"""Describe what limits disks: storage QoS of data centers, and disk profiles.

    disk ──► disk profile of its storage domain ──► storage QoS of the data center

A data storage domain has a default profile that nobody needs to make; its disks have
that unless they were given another. A profile with a QoS decides the limits of its
disks (`disk_limits`); with none each disk has limits of its own. Pure.
"""

import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from aggregator.federation.view import DiskRow, StorageDomainRow, View
from node.model.ids import DiskId, StorageDomainId
from node.model.storage import DiskQos, DomainClass

# The default profile's id follows from its storage domain's.
_NAMESPACE: Final = uuid.UUID("0b7e1d6a-3a3b-4a60-8a4e-6a0c7e7f3a51")


@dataclass(frozen=True, slots=True)
class StorageQos:
    qos_id: str
    name: str
    data_center_id: str
    description: str = ""
    limits: DiskQos = field(default_factory=DiskQos)


@dataclass(frozen=True, slots=True)
class DiskProfile:
    profile_id: str
    name: str
    storage_domain_id: StorageDomainId
    description: str = ""
    qos_id: str | None = None  # None: each disk has limits of its own


@dataclass(frozen=True, slots=True)
class Choice:
    """What was decided for one disk."""

    disk_id: DiskId
    profile_id: str | None = None  # None, or elsewhere by now: the default one
    is_limited: bool = False  # its limits are a profile's; else they are its own


@dataclass(frozen=True, slots=True)
class Profiles:
    """All of it at one moment."""

    qoss: Mapping[str, StorageQos] = field(default_factory=dict)
    kept: Mapping[str, DiskProfile] = field(default_factory=dict)
    choices: Mapping[DiskId, Choice] = field(default_factory=dict)

    def all(self, view: View) -> Iterator[DiskProfile]:
        """Yield all profiles, by their storage domains."""
        for _, storage_domain_id in view.storage_domain_order:
            yield from self.on(view.storage_domains[storage_domain_id])

    def on(self, row: StorageDomainRow) -> Iterator[DiskProfile]:
        """Yield the profiles of a storage domain, the default one first."""
        if row.domain_class is not DomainClass.DATA:
            return
        default = self.default(row)
        yield default
        others = (
            each
            for each in self.kept.values()
            if each.storage_domain_id == row.storage_domain_id
            and each.profile_id != default.profile_id
        )
        yield from sorted(others, key=lambda each: each.name.casefold())

    def default(self, row: StorageDomainRow) -> DiskProfile:
        profile_id = default_id(row.storage_domain_id)
        made = DiskProfile(profile_id, row.name, row.storage_domain_id)
        return self.kept.get(profile_id, made)

    def find(self, view: View, profile_id: str) -> DiskProfile | None:
        known = self.kept.get(profile_id)
        if known is not None and known.storage_domain_id in view.storage_domains:
            return known
        found = (each for each in self.all(view) if each.profile_id == profile_id)
        return next(found, None)

    def of(self, view: View, disk: DiskRow) -> DiskProfile | None:
        """Return the profile of a disk; None: it lies on no data storage domain."""
        return self.of_disk(view, disk.disk_id, disk.storage_domain_ids)

    def of_disk(
        self, view: View, disk_id: DiskId, places: Iterable[StorageDomainId]
    ) -> DiskProfile | None:
        """Return the profile of a disk that lies there, or will."""
        rows = (view.storage_domains.get(each) for each in places)
        here = next((row for row in rows if row is not None), None)
        if here is None or here.domain_class is not DomainClass.DATA:
            return None
        choice = self.choices.get(disk_id)
        chosen = self.kept.get(choice.profile_id or "") if choice is not None else None
        if chosen is not None and chosen.storage_domain_id == here.storage_domain_id:
            return chosen
        return self.default(here)

    def limits(self, profile: DiskProfile | None) -> DiskQos | None:
        """Return the limits of a profile's disks; None: each has its own."""
        qos = self.qoss.get(profile.qos_id or "") if profile is not None else None
        return qos.limits if qos is not None else None

    def users(self, qos_id: str) -> tuple[DiskProfile, ...]:
        return tuple(each for each in self.kept.values() if each.qos_id == qos_id)


def default_id(storage_domain_id: StorageDomainId) -> str:
    """Return the id of a storage domain's default profile."""
    return str(uuid.uuid5(_NAMESPACE, f"diskprofile/{storage_domain_id}"))
