"""Describe storage QoS and disk profiles on the wire of /v1."""

from dataclasses import dataclass, field

from node.model.ids import StorageDomainId
from node.model.storage import DiskQos


@dataclass(frozen=True, slots=True)
class StorageQosLine:
    qos_id: str
    name: str
    data_center: str
    data_center_id: str
    description: str
    limits: DiskQos
    disk_profiles: tuple[str, ...] = ()  # the names of those that have it


@dataclass(frozen=True, slots=True)
class StorageQosLines:
    qoss: tuple[StorageQosLine, ...]


@dataclass(frozen=True, slots=True)
class NewStorageQos:
    name: str
    limits: DiskQos = field(default_factory=DiskQos)
    description: str = ""
    data_center_id: str | None = None  # None: the default one


@dataclass(frozen=True, slots=True)
class ChangeStorageQos:
    """What it is from now on; None: as it was."""

    name: str | None = None
    limits: DiskQos | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True)
class RemoveStorageQos:
    """Nothing more is needed to remove a QoS."""


@dataclass(frozen=True, slots=True)
class DiskProfileLine:
    profile_id: str
    name: str
    storage_domain: str
    storage_domain_id: StorageDomainId
    description: str
    is_default: bool
    qos: str = ""  # name; empty: its disks have limits of their own
    qos_id: str | None = None
    limits: DiskQos | None = None  # of its QoS


@dataclass(frozen=True, slots=True)
class DiskProfileLines:
    disk_profiles: tuple[DiskProfileLine, ...]


@dataclass(frozen=True, slots=True)
class NewDiskProfile:
    name: str
    storage_domain_id: StorageDomainId
    description: str = ""
    qos_id: str | None = None


@dataclass(frozen=True, slots=True)
class ChangeDiskProfile:
    """What it is from now on; None: as it was."""

    name: str | None = None
    description: str | None = None
    qos_id: str | None = None
    has_own_limits: bool = False  # its disks have: it has no QoS any more


@dataclass(frozen=True, slots=True)
class RemoveDiskProfile:
    """Nothing more is needed to remove a profile."""


@dataclass(frozen=True, slots=True)
class ChooseDiskProfile:
    profile_id: str
