"""Decide who this machine is and what it can do, from the texts it shows.

Pure: the caller reads /proc, /sys and the links. Sources: proc(5), the
kernel's ABI documents of /sys, os-release(5), machine-id(5).
"""

import re
import uuid
from collections.abc import Iterable
from typing import Final

from node.errors import Failed
from node.model.host import CpuFacts, NumaNode
from node.model.ids import NodeId
from node.system.hypervisor import HypervisorFacts
from node.system.netlink import Address, Link, Route
from node.units import KiB

# What mainboards show when nobody gave them an id of their own.
_BAD_IDS: Final = frozenset(
    {
        "03000200-0400-0500-0006-000700080009",  # AMI's template
        "00020003-0004-0005-0006-000700080009",  # the same, in the other byte order
        "4c4c4544-0000-2010-8020-80c04f202020",  # Dell, without a service tag
        "12345678-1234-5678-90ab-cddeefaabbcc",  # a template of several makers
    }
)
# libvirt's own: what is made on such a bridge belongs to libvirt.
_FOREIGN_BRIDGES: Final = ("virbr", "docker")


class NodeIdMissing(Failed):
    """Neither the firmware nor the system has an id, and none is configured."""

    code = "node_id_missing"
    remedy = "Set node_id in the configuration to a new random UUID."


def node_id(configured: str, smbios_uuid: str, machine_id: str) -> NodeId:
    """Return the id of this node: the first of the three that can be one."""
    for text in (configured, smbios_uuid, machine_id):
        try:
            value = str(uuid.UUID(text.strip()))
        except ValueError:
            continue
        if text is configured or not _is_bad(value):
            return NodeId(value)
    raise NodeIdMissing(
        "this machine has no usable SMBIOS UUID and no machine-id",
        smbios_uuid=smbios_uuid,
    )


def _is_bad(value: str) -> bool:
    """Say whether an id is a maker's default; all bytes the same is one, too."""
    return value in _BAD_IDS or len(set(uuid.UUID(value).bytes)) == 1


def address(
    configured: str, routes: Iterable[Route], addresses: Iterable[Address]
) -> str:
    """Return where others reach this node: empty if it has no address.

    Asked in turn: the configuration, the default routes, IPv4 first, then any
    address that is valid beyond its link.
    """
    if configured:
        return configured
    usable = sorted(
        (each for each in addresses if each.is_global),
        key=lambda each: each.version,
    )
    for route in sorted(routes, key=lambda route: (route.version, route.metric)):
        if route.source:
            return route.source
        for each in usable:
            if (each.link, each.version) == (route.link, route.version):
                return each.address
    return usable[0].address if usable else ""


def networks(links: Iterable[Link]) -> tuple[str, ...]:
    """Return the bridges that VMs may attach to."""
    return tuple(
        sorted(
            link.name
            for link in links
            if link.kind == "bridge" and not link.name.startswith(_FOREIGN_BRIDGES)
        )
    )


def cpu_facts(
    cpuinfo: str,
    numa: tuple[NumaNode, ...],
    max_khz: str,
    hypervisor: HypervisorFacts,
) -> CpuFacts:
    """Return the processors, from the text of /proc/cpuinfo.

    `max_khz` is the text of cpuinfo_max_freq; empty if the kernel has none.
    """
    processors = [_pairs(block) for block in cpuinfo.split("\n\n") if block.strip()]
    first = processors[0] if processors else {}
    sockets = len({each.get("physical id", "0") for each in processors}) or 1
    cores = int(first.get("cpu cores", "0"))
    threads = int(first.get("siblings", "0")) // cores if cores else 0
    if not cores or sockets * cores * threads != len(processors):
        # Hybrid, partly offline, or not x86: count them, and say no more.
        sockets, cores, threads = 1, len(processors) or 1, 1
    mhz = int(max_khz) // 1000 if max_khz.isdecimal() else _mhz(first)
    return CpuFacts(
        model=first.get("model name", ""),
        vendor=first.get("vendor_id", ""),
        libvirt_model=hypervisor.host_model,
        flags=tuple(sorted(first.get("flags", first.get("Features", "")).split())),
        sockets=sockets,
        cores=cores,
        threads=threads,
        numa_nodes=max(len(numa), 1),
        mhz=mhz,
        usable_models=hypervisor.usable_models,
        numa=numa,
    )


def numa_node(name: str, cpulist: str, meminfo: str) -> NumaNode:
    """Return a NUMA node, from its folder's name and the texts of its files."""
    total = re.search(r"MemTotal:\s*(\d+) kB", meminfo)
    return NumaNode(
        int(name.removeprefix("node")),
        tuple(each for part in cpulist.split(",") if part for each in _range(part)),
        int(total[1]) * KiB if total else 0,
    )


def os_name(os_release: str) -> str:
    """Return the system's name for people, from the text of os-release."""
    match = re.search(r"^PRETTY_NAME=(.*)$", os_release, re.MULTILINE)
    return match[1].strip("\"'") if match else "Linux"


def _range(text: str) -> range:
    """Return the numbers of a part of a kernel's list, such as 4 or 0-3."""
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def _pairs(block: str) -> dict[str, str]:
    lines = (line.partition(":") for line in block.splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}


def _mhz(processor: dict[str, str]) -> int:
    return round(float(processor.get("cpu MHz", "0")))
