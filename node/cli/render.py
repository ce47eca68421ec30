"""Write what the agent replies for people at a terminal. Pure."""

import textwrap
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Final

from node import translate
from node.commands import property_options, terminal
from node.model.event import Event
from node.model.fleet import FleetRules
from node.model.host import Device, Image, NodeFacts, NodeStatus
from node.model.ids import VmId
from node.model.job import Job
from node.model.stats import Stats
from node.model.vm import Disk, VmEntry

# What a serial console shows of a list beside its name.
_WIDTH: Final = 60


def status(reply: NodeStatus) -> str:
    links = [
        f"  {link.name} at {link.address}: "
        + (
            "reached"
            if link.is_reached
            else terminal.sentence(link.reason) or "not reached"
        )
        for link in reply.aggregators
    ]
    problems = [line for each in reply.problems for line in terminal.causes(each)]
    lines = [
        f"{reply.name} ({reply.node_id}) at {reply.address}, Skerry {reply.version}",
        reply.sentence,
        f"VMs: {reply.vms_running} running of {reply.vms_defined}",
        f"Fleet: {reply.fleet_id or 'none'}, term {reply.term}, {reply.admission}",
        f"Fingerprint: {terminal.groups(reply.fingerprint)}",
        *(["Aggregators:", *links] if links else ["Aggregators: none"]),
        *(["Problems:", *problems] if problems else []),
    ]
    if reply.foreign_vms:
        lines.append("Not ours, left alone: " + ", ".join(reply.foreign_vms))
    return "\n".join(lines)


def facts(reply: NodeFacts) -> str:
    cpu = reply.cpu
    shape = f"{cpu.sockets} × {cpu.cores} × {cpu.threads} at {cpu.mhz} MHz"
    kvm = "usable" if reply.kvm.is_usable else "not usable"
    return terminal.pairs(
        [
            ("name", reply.name),
            ("id", reply.node_id),
            ("address", reply.address),
            ("processor", f"{cpu.model} ({shape})"),
            *(
                (
                    f"NUMA node {each.number}",
                    f"CPUs {_ranges(each.cpus) or 'none'}, "
                    f"{terminal.size(each.memory_bytes)}",
                )
                for each in cpu.numa
            ),
            ("CPU flags", _wrapped(cpu.flags)),
            ("CPU models", _wrapped(cpu.usable_models)),
            ("memory", terminal.size(reply.memory_bytes)),
            ("KVM", f"{kvm}: {reply.kvm.detail}"),
            ("firmware", f"{reply.firmware.vendor} {reply.firmware.version}"),
            ("system", f"{reply.versions.os}, Linux {reply.versions.kernel}"),
            ("libvirt, QEMU", f"{reply.versions.libvirt}, {reply.versions.qemu}"),
            ("machines", _wrapped(reply.machines)),
            ("networks", ", ".join(reply.networks)),
            ("features", _wrapped(reply.features)),
            ("health", reply.health),
            *((f"hooks: {each.name}", each.value) for each in reply.reported),
            *(("problem", terminal.sentence(each)) for each in reply.problems),
        ]
    )


def devices(found: tuple[Device, ...]) -> str:
    return terminal.table(
        ("KIND", "NAME", "MODEL", "DRIVER", "DETAIL"),
        (
            (
                each.kind,
                each.name,
                f"{each.vendor} {each.model}".strip(),
                each.driver,
                each.mac or (terminal.size(each.size_bytes) if each.size_bytes else ""),
            )
            for each in found
        ),
    )


def images(found: tuple[Image, ...]) -> str:
    return terminal.table(
        ("IMAGE", "SIZE", "ON DISK", "MODIFIED"),
        (
            (
                each.name,
                terminal.size(each.size_bytes),
                terminal.size(each.allocated_bytes),
                each.modified_at,
            )
            for each in found
        ),
    )


def stats(reply: Stats, names: Mapping[VmId, str]) -> str:
    host = reply.node
    used = terminal.size(host.memory_used_bytes)
    free = terminal.size(host.memory_free_bytes)
    head = (
        f"node: CPU {host.cpu_percent:.1f} %, memory {used} used, {free} free "
        f"({reply.at})"
    )
    rows = (
        (
            names.get(each.vm_id, each.vm_id),
            f"{each.cpu_percent:.1f} %",
            terminal.size(each.memory_used_bytes),
            f"{terminal.size(each.disk_read_bps)}/s",
            f"{terminal.size(each.disk_write_bps)}/s",
            f"{each.age_s:.0f} s",
        )
        for each in reply.vms
    )
    headers = ("VM", "CPU", "MEMORY", "READ", "WRITE", "AGE")
    return f"{head}\n{terminal.table(headers, rows)}"


def event(given: Event) -> str:
    return f"{given.at} {translate.text(given.code, given.fields)}"


def jobs(found: tuple[Job, ...]) -> str:
    return terminal.table(
        ("JOB", "VERB", "OBJECT", "STATE", "%", "STEP"),
        (
            (
                each.job_id,
                each.verb,
                each.object_id,
                each.state,
                each.progress_percent,
                each.error.message if each.error else _step(each),
            )
            for each in found
        ),
    )


def job_line(reply: Job) -> str:
    """Return how far a job is."""
    percent = reply.progress_percent
    return f"{reply.verb}: {reply.state} {percent} % {_step(reply)}"


def _step(job: Job) -> str:
    moved = f", data moved by node {job.data_node_id}" if job.data_node_id else ""
    return f"{job.step}{moved}"


def job(reply: Job) -> str:
    error = reply.error
    return terminal.pairs(
        [
            ("job", reply.job_id),
            ("verb", reply.verb),
            ("object", f"{reply.object_kind} {reply.object_id}"),
            ("state", f"{reply.state}, {reply.progress_percent} %"),
            ("step", _step(reply)),
            ("asked for", reply.created_at),
            ("started", reply.started_at or "not yet"),
            ("ended", reply.ended_at or "not yet"),
            *((("error", error.message), ("", f"→ {error.remedy}")) if error else ()),
        ]
    )


def vms(found: tuple[VmEntry, ...]) -> str:
    return terminal.table(
        ("VM", "STATE", "WANTED", "MEMORY", "CPUS", "ADDRESS", "REASON"),
        (
            (
                each.vm.spec.name,
                each.run.state,
                each.vm.wanted,
                terminal.size(each.vm.spec.memory_bytes),
                each.vm.spec.cpu.count,
                ", ".join(each.run.guest.addresses) if each.run.guest else "",
                terminal.sentence(each.run.reason),
            )
            for each in found
        ),
    )


def vm(entry: VmEntry) -> str:
    spec, run = entry.vm.spec, entry.run
    guest = run.guest
    rows = [
        ("name", spec.name),
        ("id", spec.vm_id),
        ("state", f"{run.state} since {run.since} (wanted: {entry.vm.wanted})"),
        *(("", line) for line in terminal.causes(run.reason)),
        ("memory", terminal.size(spec.memory_bytes)),
        ("processors", f"{spec.cpu.count}, {spec.cpu.model or spec.cpu.mode}"),
        ("machine", f"{spec.machine}, {spec.firmware}"),
        *((each.name, f"{_disk(each)}{terminal.bus(each)}") for each in spec.disks),
        *((each.name, f"{each.mac} on {each.network}") for each in spec.nics),
        *property_options.rows(spec),
    ]
    if guest is not None:
        rows.append(("guest", f"{guest.host_name} {guest.os} ({guest.at})"))
        rows.append(("addresses", ", ".join(guest.addresses)))
    if run.end is not None:
        rows.append(("last end", f"{run.end.cause} at {run.end.at} {run.end.detail}"))
    return terminal.pairs(rows)


def _disk(disk: Disk) -> str:
    if disk.storage_domain_id is not None:
        where = f"on storage domain {disk.storage_domain_id}"
        # Of a disk that was there before, only the storage knows the size.
        size = f"{terminal.size(disk.size_bytes)} " if disk.size_bytes else ""
        return f"{size}{where}, disk {disk.disk_id}"
    return f"{terminal.size(disk.size_bytes)} from {disk.image or 'nothing'}"


def why(entry: VmEntry) -> str:
    run = entry.run
    head = f"{entry.vm.spec.name} is {run.state} since {run.since}"
    if run.reason is None:
        return f"{head}, as wanted."
    return "\n".join(
        (f"{head}, wanted {entry.vm.wanted}:", *terminal.causes(run.reason))
    )


def rules(reply: FleetRules) -> str:
    """Return what a fleet has decided for its members."""
    how = "do not start" if reply.has_strict_hooks else "start, and warn"
    parts = [f"VMs that libvirt's schema dislikes after hooks {how}."]
    if reply.hook_keys:
        names = ", ".join(each.name for each in reply.hook_keys)
        parts.append(f"Bundles of hooks may be signed by: {names}")
    rows = [(each.level, each.name, each.pattern) for each in reply.properties]
    if rows:
        parts.append(terminal.table(("OF", "PROPERTY", "PATTERN"), rows))
    return "\n\n".join(parts)


def _wrapped(words: Iterable[str]) -> str:
    return "\n".join(textwrap.wrap(" ".join(words), _WIDTH))


def _ranges(numbers: Iterable[int]) -> str:
    """Return rising numbers as the kernel lists them, such as 0-3,8."""
    runs = groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])
    ends = [(run[0][1], run[-1][1]) for run in (list(pairs) for _, pairs in runs)]
    return ",".join(
        str(first) if first == last else f"{first}-{last}" for first, last in ends
    )
