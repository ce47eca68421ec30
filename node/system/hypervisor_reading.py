"""Read what libvirt's documents and records say. Pure.

Source: https://libvirt.org/formatcaps.html, formatdomaincaps.html, formatdomain.html
and virConnectGetAllDomainStats.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lxml import etree

from node.system import hypervisor
from node.units import KiB, MiB

_SCREENSHOT_MAX = 64 * MiB  # far more than any screen


@dataclass(frozen=True, slots=True)
class Disk:
    target: str  # the name of its block device
    files: tuple[str, ...]  # what the guest writes to, then all beneath
    is_merge_ready: bool  # it can be turned to the lower file


def picture(stream: Any) -> bytes:
    """Return all that libvirt sends of a screen; HypervisorRefused: it is too much."""
    read = bytearray()
    while piece := stream.recv(64 * KiB):
        read += piece
        if len(read) > _SCREENSHOT_MAX:
            stream.abort()
            raise hypervisor.HypervisorRefused("the picture of the screen is too large")
    stream.finish()
    return bytes(read)


def target(xml: str, alias: str) -> str:
    """Return the name of the block device that bears an alias; DeviceMissing."""
    return disk(xml, alias).target


def disk(xml: str, alias: str) -> Disk:
    """Return the disk that bears an alias; DeviceMissing."""
    for each in etree.fromstring(xml).iterfind("devices/disk"):
        named, target = each.find("alias"), each.find("target")
        if named is None or named.get("name") != alias or target is None:
            continue
        mirror = each.find("mirror")
        is_ready = mirror is not None and mirror.get("ready") == "yes"
        return Disk(str(target.get("dev")), tuple(_files(each)), is_ready)
    raise hypervisor.DeviceMissing(f"there is no disk {alias}")


def snapshot(xml: str, files: Mapping[str, str], memory: str | None = None) -> str:
    """Return the XML of a snapshot: disks by alias get files, the others none.

    `memory` is the file for the guest's; None: it is not kept.
    """
    root = etree.Element("domainsnapshot")
    if memory is not None:
        etree.SubElement(root, "memory", snapshot="external", file=memory)
    disks = etree.SubElement(root, "disks")
    wanted = {target(xml, alias): path for alias, path in files.items()}
    for each in etree.fromstring(xml).iterfind("devices/disk/target"):
        name = str(each.get("dev"))
        if name not in wanted:
            etree.SubElement(disks, "disk", name=name, snapshot="no")
            continue
        new = etree.SubElement(disks, "disk", name=name, snapshot="external")
        etree.SubElement(new, "driver", type="qcow2")
        source = etree.SubElement(new, "source", file=wanted[name])
        etree.SubElement(source, "seclabel", model="dac", relabel="no")
    return etree.tostring(root, encoding="unicode")


def _files(disk: etree._Element) -> Iterator[str]:
    """Yield the files of a disk's chain from the top."""
    step: etree._Element | None = disk
    while step is not None:
        source = step.find("source")
        if source is None:
            return
        yield source.get("file", "")
        step = step.find("backingStore")


def sample(
    figures: Mapping[str, Any], cpu_time_ns: int | None = None
) -> hypervisor.Sample:
    """Return the counters in a record of virDomainListGetStats."""
    has_monitor = "block.count" in figures
    return hypervisor.Sample(
        cpu_time_ns=cpu_time_ns,
        net_rx_bytes=_total(figures, "net", "rx.bytes"),
        net_tx_bytes=_total(figures, "net", "tx.bytes"),
        disk_read_bytes=_total(figures, "block", "rd.bytes"),
        disk_written_bytes=_total(figures, "block", "wr.bytes"),
        memory_rss_bytes=_from_kib(figures.get("balloon.rss")),
        memory_total_bytes=_from_kib(figures.get("balloon.available")),
        memory_unused_bytes=_from_kib(figures.get("balloon.unused")),
        has_monitor=has_monitor and _has_all_blocks(figures),
    )


def _has_all_blocks(figures: Mapping[str, Any]) -> bool:
    """Tell whether QEMU was asked: if not, disks have no counters."""
    count = int(figures["block.count"])
    return all(f"block.{each}.rd.bytes" in figures for each in range(count))


def _total(figures: Mapping[str, Any], group: str, field: str) -> int | None:
    count = figures.get(f"{group}.count")
    if count is None:
        return None
    values = [figures.get(f"{group}.{each}.{field}") for each in range(count)]
    return sum(int(value) for value in values if value is not None)


def _from_kib(value: int | None) -> int | None:
    return None if value is None else value * KiB


def facts(
    capabilities: str, domain_capabilities: str, libvirt_version: int, version: int
) -> hypervisor.HypervisorFacts:
    """Return the facts in libvirt's two capability documents."""
    guests = etree.fromstring(capabilities)
    cpu = etree.fromstring(domain_capabilities).find("cpu")
    models: Iterator[str] = iter(())
    host_model = ""
    if cpu is not None:
        models = (
            str(model.text)
            for model in cpu.iterfind("mode[@name='custom']/model[@usable='yes']")
        )
        host_model = cpu.findtext("mode[@name='host-model']/model") or ""
    machines = {
        each.get("canonical") or str(each.text)
        for each in guests.iterfind("guest/arch[@name='x86_64']/machine")
    }
    return hypervisor.HypervisorFacts(
        _version(libvirt_version),
        _version(version),
        tuple(sorted(filter(_MACHINE.fullmatch, machines), key=_newest_first)),
        tuple(sorted(set(models))),
        host_model or guests.findtext("host/cpu/model") or "",
    )


_MACHINE = re.compile(r"pc-(q35|i440fx)-([0-9.]+)")


def _newest_first(machine: str) -> tuple[bool, tuple[int, ...]]:
    match = _MACHINE.fullmatch(machine)
    assert match is not None
    numbers = tuple(-int(part) for part in match.group(2).split("."))
    return match.group(1) != "q35", numbers


def _version(number: int) -> str:
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"
