"""Figures of a node and its VMs: rates over the last interval, in bytes a second.

`age_s` tells how old a figure is: a VM that did not answer keeps its last.
"""

from dataclasses import dataclass

from node.model.hooks import HookReport
from node.model.ids import VmId


@dataclass(frozen=True, slots=True)
class NodeStats:
    cpu_percent: float = 0.0  # of all threads together
    load_5min: float = 0.0
    memory_used_bytes: int = 0
    memory_free_bytes: int = 0  # what a new guest could get
    swap_used_bytes: int = 0
    net_rx_bps: int = 0
    net_tx_bps: int = 0
    storage_size_bytes: int = 0  # of the file system that holds disks
    storage_used_bytes: int = 0
    reported: tuple[HookReport, ...] = ()  # what hooks say beside them


@dataclass(frozen=True, slots=True)
class VmStats:
    vm_id: VmId
    age_s: float = 0.0
    cpu_percent: float = 0.0  # of the VM's own vCPUs together
    memory_used_bytes: int = 0  # in the guest, if its balloon says so, else of QEMU
    disk_read_bps: int = 0
    disk_write_bps: int = 0
    net_rx_bps: int = 0
    net_tx_bps: int = 0
    uptime_s: int = 0
    reported: tuple[HookReport, ...] = ()


@dataclass(frozen=True, slots=True)
class Stats:
    at: str  # RFC 3339
    node: NodeStats
    vms: tuple[VmStats, ...] = ()
