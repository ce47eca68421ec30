"""A node as it sees itself: identity, capacity, devices, images, health.

Sizes are bytes, frequencies MHz.
"""

from dataclasses import dataclass
from enum import StrEnum

from node.model.hooks import HookBundle, HookReport, HookScript
from node.model.ids import Fingerprint, FleetId, NodeId
from node.model.reason import Reason


class Feature(StrEnum):
    """What a node can do that another version, or another machine, cannot."""

    VM = "vm"
    FEED = "feed"
    ADMISSION = "admission"
    STORAGE = "storage"  # pools, storage domains and their disks
    UEFI = "uefi"  # of guests: OVMF is installed


@dataclass(frozen=True, slots=True)
class NumaNode:
    number: int
    cpus: tuple[int, ...]  # none: memory only
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class CpuFacts:
    model: str  # as the processor names itself
    vendor: str
    libvirt_model: str  # the nearest model that libvirt knows
    flags: tuple[str, ...]
    sockets: int
    cores: int  # per socket
    threads: int  # per core
    numa_nodes: int
    mhz: int
    usable_models: tuple[str, ...] = ()  # named models that guests may have here
    numa: tuple[NumaNode, ...] = ()  # empty: the kernel does not tell

    @property
    def count(self) -> int:
        return self.sockets * self.cores * self.threads


@dataclass(frozen=True, slots=True)
class KvmFacts:
    """The result of the boot probe: neither /dev/kvm nor libvirt prove it."""

    is_usable: bool
    detail: str  # the first line of the guest, or of the error


@dataclass(frozen=True, slots=True)
class FirmwareFacts:
    vendor: str = ""
    version: str = ""
    product: str = ""
    manufacturer: str = ""
    serial: str = ""
    has_uefi: bool = False


@dataclass(frozen=True, slots=True)
class Versions:
    agent: str
    kernel: str
    os: str
    libvirt: str
    qemu: str


class NodeHealth(StrEnum):
    OK = "ok"
    DEGRADED = "degraded"


@dataclass(frozen=True, slots=True)
class NodeFacts:
    node_id: NodeId
    name: str
    address: str
    boot_id: str
    booted_at: str  # RFC 3339
    versions: Versions
    features: tuple[str, ...]  # a Feature, or one that only newer nodes know
    memory_bytes: int
    cpu: CpuFacts
    kvm: KvmFacts
    firmware: FirmwareFacts
    networks: tuple[str, ...]  # bridges that VMs may attach to
    machines: tuple[str, ...]  # versioned machine types, newest q35 first
    health: NodeHealth = NodeHealth.OK
    problems: tuple[Reason, ...] = ()
    hooks: tuple[HookScript, ...] = ()
    hook_bundles: tuple[HookBundle, ...] = ()
    # What hooks say beside our own facts, under their names.
    reported: tuple[HookReport, ...] = ()
    schema: int = 1


class DeviceKind(StrEnum):
    NIC = "nic"
    DISK = "disk"
    PCI = "pci"


@dataclass(frozen=True, slots=True)
class Device:
    device_id: str  # nic-eth0, disk-vda, pci-0000:00:1f.2
    kind: DeviceKind
    name: str
    vendor: str = ""
    model: str = ""
    driver: str = ""
    mac: str = ""
    mtu: int = 0
    speed_bps: int = 0  # bits, as links are sold
    is_up: bool = False
    size_bytes: int = 0
    is_rotational: bool = False
    schema: int = 1


@dataclass(frozen=True, slots=True)
class Image:
    """A base image: a named qcow2 file that disks start from."""

    name: str
    size_bytes: int  # virtual
    allocated_bytes: int
    sha256: str = ""  # empty until it is computed
    modified_at: str = ""
    schema: int = 1


class AdmissionState(StrEnum):
    WAITING = "waiting"
    ADMITTED = "admitted"


@dataclass(frozen=True, slots=True)
class AggregatorLink:
    """An aggregator this node pushes to, and how that goes."""

    name: str
    address: str
    feed_port: int
    admission_port: int
    is_reached: bool = False
    last_push_at: str | None = None
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """The health of a node in one reply, for the local console."""

    node_id: NodeId
    name: str
    address: str
    version: str
    fingerprint: Fingerprint
    admission: AdmissionState
    sentence: str
    epoch: str
    rev: int
    term: int
    vms_running: int
    vms_defined: int
    fleet_id: FleetId | None = None
    problems: tuple[Reason, ...] = ()
    aggregators: tuple[AggregatorLink, ...] = ()
    foreign_vms: tuple[str, ...] = ()
