"""Keep what limits disks: storage QoS of data centers, and disk profiles.

What they are: `aggregator.policies.profiles`. Part of the fleet's documents, so that
every node keeps a sealed copy.
"""

import uuid
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import Final

from aggregator import db
from aggregator.federation.view import View
from aggregator.policies.profiles import (
    Choice,
    DiskProfile,
    Profiles,
    StorageQos,
    default_id,
)
from node import wire
from node.errors import Conflict, Invalid, NotFound
from node.model.ids import DiskId, StorageDomainId
from node.model.storage import DiskQos, DomainClass, check_limits

_QOS: Final = "storage_qos/"
_PROFILE: Final = "disk_profile/"
_CHOICE: Final = "disk_choice/"
_NAME_BYTES_MAX: Final = 255


class QosNotFound(NotFound):
    code = "storage_qos_not_found"
    remedy = "Check the name; see `skerry qos list`."


class ProfileNotFound(NotFound):
    code = "disk_profile_not_found"
    remedy = "Check the name; see `skerry disk-profile list`."


class DataCenterNotFound(NotFound):
    code = "data_center_not_found"
    remedy = "Check the id; see the fleet's data centers."


class BadName(Invalid):
    code = "bad_name"
    remedy = "Give it a name of at most 255 bytes."


class NameTaken(Conflict):
    code = "name_taken"
    remedy = "Choose another name."


class QosInUse(Conflict):
    code = "storage_qos_in_use"
    remedy = "Let the disk profiles that the message names do without it first."


class ProfileInUse(Conflict):
    code = "disk_profile_in_use"
    remedy = "Give the disks that the message names another disk profile first."


class DefaultProfile(Conflict):
    """A storage domain always has one."""

    code = "disk_profile_is_default"
    remedy = "Change it instead; it goes with its storage domain."


class ProfileElsewhere(Conflict):
    code = "disk_profile_elsewhere"
    remedy = "Choose a disk profile of the storage domain on which the disk lies."


class LimitedByProfile(Conflict):
    code = "disk_limited_by_profile"
    remedy = "Change the storage QoS, or give the disk another disk profile."


class NoProfiles(Conflict):
    code = "storage_domain_has_no_profiles"
    remedy = "Choose a data storage domain."


class DiskProfiles:
    """What people decide of limits. Any thread may call."""

    def __init__(
        self,
        database: db.Database,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        self._records = database.records("fleet")
        self._new_id = new_id

    def now(self) -> Profiles:
        return read(self._records.list())

    def make_qos(
        self, name: str, data_center_id: str, description: str, limits: DiskQos
    ) -> StorageQos:
        records = self._records.list()
        if not any(each.id == f"data_center/{data_center_id}" for each in records):
            raise DataCenterNotFound(f"there is no data center {data_center_id}")
        made = StorageQos(self._new_id(), name, data_center_id, description, limits)
        self._check_qos(made, read(records))
        self._put(_QOS, made.qos_id, made)
        return made

    def change_qos(
        self,
        qos_id: str,
        *,
        name: str | None = None,
        description: str | None = None,
        limits: DiskQos | None = None,
    ) -> StorageQos:
        """Change what is not None; the disks follow."""
        now = self.now()
        known = _qos(now, qos_id)
        changed = replace(
            known,
            name=known.name if name is None else name,
            description=known.description if description is None else description,
            limits=known.limits if limits is None else limits,
        )
        self._check_qos(changed, now)
        self._put(_QOS, qos_id, changed)
        return changed

    def remove_qos(self, qos_id: str) -> None:
        now = self.now()
        known = _qos(now, qos_id)
        users = sorted(each.name for each in now.users(qos_id))
        if users:
            raise QosInUse(
                f"storage QoS {known.name} is of disk profiles {', '.join(users)}"
            )
        self._records.delete(f"{_QOS}{qos_id}")

    def make(
        self,
        view: View,
        name: str,
        storage_domain_id: StorageDomainId,
        description: str = "",
        qos_id: str | None = None,
    ) -> DiskProfile:
        row = view.storage_domains.get(storage_domain_id)
        if row is None or row.domain_class is not DomainClass.DATA:
            raise NoProfiles(f"{storage_domain_id} is no data storage domain")
        made = DiskProfile(
            self._new_id(), name, storage_domain_id, description, qos_id or None
        )
        self._check(view, made, self.now())
        self._put(_PROFILE, made.profile_id, made)
        return made

    def change(
        self,
        view: View,
        profile_id: str,
        *,
        name: str | None = None,
        description: str | None = None,
        qos_id: str | None = None,
    ) -> DiskProfile:
        """Change what is not None; an empty id of a QoS: it has none any more."""
        now = self.now()
        known = _profile(view, now, profile_id)
        changed = replace(
            known,
            name=known.name if name is None else name,
            description=known.description if description is None else description,
            qos_id=known.qos_id if qos_id is None else qos_id or None,
        )
        self._check(view, changed, now)
        self._put(_PROFILE, profile_id, changed)
        return changed

    def remove(self, view: View, profile_id: str) -> None:
        now = self.now()
        known = _profile(view, now, profile_id)
        if profile_id == default_id(known.storage_domain_id):
            raise DefaultProfile(f"{known.name} is its storage domain's default")
        users = sorted(
            disk.name
            for disk in view.disks.values()
            if disk.disk_id in now.choices and now.of(view, disk) == known
        )
        if users:
            shown = ", ".join(users[:3]) + (" and others" if users[3:] else "")
            raise ProfileInUse(f"disk profile {known.name} is of {shown}")
        self._records.delete(f"{_PROFILE}{profile_id}")

    def choose(
        self,
        view: View,
        disk_id: DiskId,
        profile_id: str,
        places: Collection[StorageDomainId],
    ) -> DiskProfile:
        """Give a disk a profile of the storage domain on which it lies, or will."""
        now = self.now()
        known = _profile(view, now, profile_id)
        if known.storage_domain_id not in places:
            raise ProfileElsewhere(
                f"disk profile {known.name} is of another storage domain"
            )
        before = now.choices.get(disk_id, Choice(disk_id))
        self._decide(replace(before, profile_id=profile_id))
        return known

    def mark(self, disk_id: DiskId, *, is_limited: bool) -> None:
        """Note whether the limits of a disk are those of a profile."""
        before = self.now().choices.get(disk_id, Choice(disk_id))
        self._decide(replace(before, is_limited=is_limited))

    def forget(self, disk_id: DiskId) -> None:
        """Forget what was decided for a disk that is no more."""
        self._records.delete(f"{_CHOICE}{disk_id}")

    def check_own(
        self, view: View, disk_id: DiskId, places: Iterable[StorageDomainId] = ()
    ) -> None:
        """Refuse limits of a disk's own where its profile has some; LimitedByProfile.

        `places`: where a disk will lie that is not there yet.
        """
        now, disk = self.now(), view.disks.get(disk_id)
        there = disk.storage_domain_ids if disk is not None else places
        profile = now.of_disk(view, disk_id, there)
        if profile is not None and now.limits(profile) is not None:
            raise LimitedByProfile(
                f"the limits of this disk are those of disk profile {profile.name}"
            )

    def _decide(self, choice: Choice) -> None:
        if choice.profile_id is None and not choice.is_limited:
            self._records.delete(f"{_CHOICE}{choice.disk_id}")
        else:
            self._put(_CHOICE, choice.disk_id, choice)

    def _check_qos(self, wanted: StorageQos, now: Profiles) -> None:
        _check_name(
            *(wanted.name, "storage QoS"),
            (
                each.name
                for each in now.qoss.values()
                if each.data_center_id == wanted.data_center_id
                and each.qos_id != wanted.qos_id
            ),
        )
        check_limits(wanted.limits)

    def _check(self, view: View, wanted: DiskProfile, now: Profiles) -> None:
        row = view.storage_domains[wanted.storage_domain_id]
        others = (e for e in now.on(row) if e.profile_id != wanted.profile_id)
        _check_name(wanted.name, "disk profile", (each.name for each in others))
        if wanted.qos_id is not None:
            _qos(now, wanted.qos_id)

    def _put(
        self, prefix: str, object_id: str, body: StorageQos | DiskProfile | Choice
    ) -> None:
        self._records.put(f"{prefix}{object_id}", wire.to_json(body))


def read(records: Iterable[db.Record]) -> Profiles:
    """Return what lies among the fleet's documents. Pure."""
    qoss, kept, choices = {}, {}, {}
    for record in records:
        body = record.body
        if record.id.startswith(_QOS):
            qos = wire.from_json(StorageQos, body, strict=False)
            qoss[qos.qos_id] = qos
        elif record.id.startswith(_PROFILE):
            profile = wire.from_json(DiskProfile, body, strict=False)
            kept[profile.profile_id] = profile
        elif record.id.startswith(_CHOICE):
            choice = wire.from_json(Choice, body, strict=False)
            choices[choice.disk_id] = choice
    return Profiles(qoss, kept, choices)


def _qos(now: Profiles, qos_id: str) -> StorageQos:
    known = now.qoss.get(qos_id)
    if known is None:
        raise QosNotFound(f"there is no storage QoS {qos_id}", id=qos_id)
    return known


def _profile(view: View, now: Profiles, profile_id: str) -> DiskProfile:
    known = now.find(view, profile_id)
    if known is None:
        raise ProfileNotFound(f"there is no disk profile {profile_id}", id=profile_id)
    return known


def _check_name(name: str, what: str, others: Iterable[str]) -> None:
    if not name.strip() or len(name.encode()) > _NAME_BYTES_MAX:
        raise BadName(f"a {what} needs a name", field="name")
    if name.casefold() in (each.casefold() for each in others):
        raise NameTaken(f"there is already a {what} {name}", name=name)
