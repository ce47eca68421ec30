"""Hooks: the moments at which scripts of administrators run, and which are there."""

from dataclasses import dataclass
from enum import StrEnum

from node.model.ids import VmId
from node.model.properties import CustomProperty


class HookPoint(StrEnum):
    """A moment; its name is that of the folder with its scripts."""

    BEFORE_VDSM_START = "before_vdsm_start"
    AFTER_VDSM_STOP = "after_vdsm_stop"
    BEFORE_DEVICE_CREATE = "before_device_create"
    AFTER_DEVICE_CREATE = "after_device_create"
    BEFORE_DEVICE_DESTROY = "before_device_destroy"
    AFTER_DEVICE_DESTROY = "after_device_destroy"
    BEFORE_UPDATE_DEVICE = "before_update_device"
    AFTER_UPDATE_DEVICE = "after_update_device"
    AFTER_UPDATE_DEVICE_FAIL = "after_update_device_fail"
    BEFORE_VM_START = "before_vm_start"
    AFTER_VM_START = "after_vm_start"
    BEFORE_VM_CONT = "before_vm_cont"
    AFTER_VM_CONT = "after_vm_cont"
    BEFORE_VM_PAUSE = "before_vm_pause"
    AFTER_VM_PAUSE = "after_vm_pause"
    BEFORE_VM_HIBERNATE = "before_vm_hibernate"
    AFTER_VM_HIBERNATE = "after_vm_hibernate"
    BEFORE_VM_DEHIBERNATE = "before_vm_dehibernate"
    AFTER_VM_DEHIBERNATE = "after_vm_dehibernate"
    BEFORE_VM_MIGRATE_SOURCE = "before_vm_migrate_source"
    AFTER_VM_MIGRATE_SOURCE = "after_vm_migrate_source"
    BEFORE_VM_MIGRATE_DESTINATION = "before_vm_migrate_destination"
    AFTER_VM_MIGRATE_DESTINATION = "after_vm_migrate_destination"
    BEFORE_DEVICE_MIGRATE_SOURCE = "before_device_migrate_source"
    AFTER_DEVICE_MIGRATE_SOURCE = "after_device_migrate_source"
    BEFORE_DEVICE_MIGRATE_DESTINATION = "before_device_migrate_destination"
    AFTER_DEVICE_MIGRATE_DESTINATION = "after_device_migrate_destination"
    BEFORE_VM_DESTROY = "before_vm_destroy"
    AFTER_VM_DESTROY = "after_vm_destroy"
    BEFORE_VM_SET_TICKET = "before_vm_set_ticket"
    AFTER_VM_SET_TICKET = "after_vm_set_ticket"
    BEFORE_NIC_HOTPLUG = "before_nic_hotplug"
    AFTER_NIC_HOTPLUG = "after_nic_hotplug"
    AFTER_NIC_HOTPLUG_FAIL = "after_nic_hotplug_fail"
    BEFORE_NIC_HOTUNPLUG = "before_nic_hotunplug"
    AFTER_NIC_HOTUNPLUG = "after_nic_hotunplug"
    AFTER_NIC_HOTUNPLUG_FAIL = "after_nic_hotunplug_fail"
    AFTER_DISK_PREPARE = "after_disk_prepare"
    BEFORE_DISK_HOTPLUG = "before_disk_hotplug"
    AFTER_DISK_HOTPLUG = "after_disk_hotplug"
    BEFORE_DISK_HOTUNPLUG = "before_disk_hotunplug"
    AFTER_DISK_HOTUNPLUG = "after_disk_hotunplug"
    BEFORE_SET_NUM_OF_CPUS = "before_set_num_of_cpus"
    AFTER_SET_NUM_OF_CPUS = "after_set_num_of_cpus"
    BEFORE_MEMORY_HOTPLUG = "before_memory_hotplug"
    AFTER_MEMORY_HOTPLUG = "after_memory_hotplug"
    BEFORE_NETWORK_SETUP = "before_network_setup"
    AFTER_NETWORK_SETUP = "after_network_setup"
    AFTER_NETWORK_SETUP_FAIL = "after_network_setup_fail"
    BEFORE_GET_VM_STATS = "before_get_vm_stats"
    AFTER_GET_VM_STATS = "after_get_vm_stats"
    BEFORE_GET_ALL_VM_STATS = "before_get_all_vm_stats"
    AFTER_GET_ALL_VM_STATS = "after_get_all_vm_stats"
    BEFORE_GET_CAPS = "before_get_caps"
    AFTER_GET_CAPS = "after_get_caps"
    BEFORE_GET_STATS = "before_get_stats"
    AFTER_GET_STATS = "after_get_stats"
    AFTER_HOSTDEV_LIST_BY_CAPS = "after_hostdev_list_by_caps"


class Payload(StrEnum):
    """What a script finds in the file that its environment names."""

    NONE = "none"
    DOMAIN = "domain"  # a domain's XML
    DEVICE = "device"  # that of one of its devices
    JSON = "json"

    @property
    def variable(self) -> str:
        """Return the name under which the file is in the environment."""
        return "_hook_json" if self is Payload.JSON else "_hook_domxml"


@dataclass(frozen=True, slots=True)
class Point:
    """A moment at which scripts run; its name is that of the folder with them."""

    payload: Payload = Payload.DOMAIN
    may_abort: bool = False
    counts: bool = False  # edits do
    timeout_s: float = 60.0  # of each script
    waits_for: str = ""  # what it is a part of, while nothing here does that yet


@dataclass(frozen=True, slots=True)
class HookScript:
    """A file in the folder of a point, as it is found."""

    point: str
    name: str
    path: str
    size_bytes: int
    sha256: str
    md5: str  # for clients that know no better
    refused: str = ""  # why it does not run; empty: it does


@dataclass(frozen=True, slots=True)
class HookRun:
    """How one script went."""

    script: str
    status: int  # 0: well; below zero: minus the signal that ended it
    took_s: float
    said: str = ""
    problem: str = ""  # empty: there was none


@dataclass(frozen=True, slots=True)
class HookTrial:
    """What a point's scripts do, or would do."""

    point: str
    runs: tuple[HookRun, ...]
    before: str = ""  # what they were given
    after: str = ""  # what they have made of it
    error: str = ""  # why what they are about would not be done; empty: it would
    warnings: tuple[str, ...] = ()
    refused: tuple[HookScript, ...] = ()


@dataclass(frozen=True, slots=True)
class PointFacts:
    """What a point's scripts are handed, and can do."""

    point: str
    payload: str
    may_abort: bool
    counts: bool  # edits do
    timeout_s: float
    waits_for: str = ""  # what it is a part of, and this version cannot do


@dataclass(frozen=True, slots=True)
class HookList:
    scripts: tuple[HookScript, ...]
    points: tuple[PointFacts, ...]
    folders: tuple[str, ...]  # where scripts are looked for


@dataclass(frozen=True, slots=True)
class TryHook:
    """Run a point's scripts, with properties in place of the VM's own."""

    point: str
    vm_id: VmId | None = None  # None: about no VM
    properties: tuple[CustomProperty, ...] = ()


@dataclass(frozen=True, slots=True)
class HookReport:
    """What a script tells beside what a node has found out itself."""

    name: str
    value: str  # a text, or JSON


@dataclass(frozen=True, slots=True)
class HookBundle:
    """A bundle of hooks that is installed."""

    name: str
    version: str
    signed_by: str  # the SHA-256 of the key; empty: nobody known signed it


@dataclass(frozen=True, slots=True)
class HookBundles:
    bundles: tuple[HookBundle, ...]


@dataclass(frozen=True, slots=True)
class InstallHooks:
    """Put a bundle in place of one of that name."""

    bundle: str  # the text of the file
    keys: tuple[str, ...] = ()  # PEM of those whose signature is enough
    is_unsigned: bool = False  # also if none of them has signed it


@dataclass(frozen=True, slots=True)
class ReceiveHooks:
    """Put a bundle in place of one of that name; a key of the fleet has signed it."""

    bundle: str


@dataclass(frozen=True, slots=True)
class RemoveHooks:
    name: str
