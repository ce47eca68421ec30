"""Write what the aggregator replies of storage for people at a terminal. Pure."""

from aggregator.api.profile_model import (
    DiskProfileLine,
    DiskProfileLines,
    StorageQosLine,
    StorageQosLines,
)
from aggregator.api.storage_model import (
    DiskDetail,
    DiskLines,
    PoolDetail,
    PoolLines,
    StorageDomainDetail,
    StorageDomainLine,
    StorageDomainLines,
)
from node.commands import storage_text, terminal
from node.model.storage_requests import (
    StorageProblems,
)


def storage_domains(reply: StorageDomainLines) -> str:
    return terminal.table(
        (
            "STORAGE DOMAIN",
            "CLASS",
            "KIND",
            "POOL",
            "STATE",
            "SIZE",
            "FREE",
            "NODES",
            "REASON",
        ),
        (
            (
                each.name,
                each.domain_class,
                each.kind,
                each.pool,
                each.state,
                terminal.size(each.total_bytes) if each.total_bytes else "",
                terminal.size(each.free_bytes) if each.total_bytes else "",
                f"{each.nodes_well} of {each.nodes}",
                terminal.sentence(each.stale or each.reason),
            )
            for each in reply.storage_domains
        ),
    )


def storage_domain(reply: StorageDomainDetail) -> str:
    line, named = reply.line, reply.storage_domain
    head = storage_text.storage_domain(
        named, line, line.pool, reply.problems, stale=line.stale
    )
    sights = terminal.table(
        ("NODE", "STATE", "SINCE", "LATENCY", "HOST ID", "REASON"),
        (
            (
                each.node,
                f"{each.state} (silent)" if each.is_silent else each.state,
                each.since,
                "" if each.latency_s is None else f"{each.latency_s:.3f} s",
                "" if each.host_id is None else each.host_id,
                terminal.sentence(each.reason),
            )
            for each in reply.sights
        ),
    )
    return f"{head}\n\n{sights}"


def qoss(reply: StorageQosLines) -> str:
    return terminal.table(
        ("STORAGE QOS", "LIMITS", "DISK PROFILES", "DATA CENTER", "DESCRIPTION"),
        (
            (
                each.name,
                storage_text.limits(each.limits),
                ", ".join(each.disk_profiles),
                each.data_center,
                each.description,
            )
            for each in reply.qoss
        ),
    )


def qos_line(line: StorageQosLine) -> str:
    return f"{line.name}: {storage_text.limits(line.limits)}"


def disk_profiles(reply: DiskProfileLines) -> str:
    return terminal.table(
        ("DISK PROFILE", "STORAGE DOMAIN", "QOS", "LIMITS", "DEFAULT", "DESCRIPTION"),
        (
            (
                each.name,
                each.storage_domain,
                each.qos,
                storage_text.limits(each.limits) if each.limits is not None else "",
                "yes" if each.is_default else "",
                each.description,
            )
            for each in reply.disk_profiles
        ),
    )


def disk_profile_line(line: DiskProfileLine) -> str:
    limited = f"its disks are limited by {line.qos}" if line.qos else "no storage QoS"
    return f"{line.name} of {line.storage_domain}: {limited}"


def check(line: StorageDomainLine, reply: StorageProblems) -> str:
    own = [line.reason] if line.reason else []
    repair = f"skerry storage repair {line.name}"
    return storage_text.check(line.name, own, reply, repair)


def pools(reply: PoolLines) -> str:
    return terminal.table(
        (
            "POOL",
            "STATE",
            "MANAGER",
            "MASTER",
            "STORAGE DOMAINS",
            "NODES",
            "REASON",
        ),
        (
            (
                each.name,
                each.state,
                each.manager or "none",
                each.master or "none",
                each.storage_domains,
                each.nodes,
                terminal.sentence(each.stale or each.reason),
            )
            for each in reply.pools
        ),
    )


def pool(reply: PoolDetail) -> str:
    line = reply.line
    head = terminal.pairs(
        [
            ("name", line.name),
            ("id", line.pool_id),
            ("kind", "of one node alone" if line.is_local else "shared"),
            ("state", f"{line.state} since {line.since}"),
            *(("", text) for text in terminal.causes(line.reason)),
            *(("", text) for text in terminal.causes(line.stale)),
            ("manager", line.manager or "none"),
            ("master", f"{line.master or 'none'}, version {reply.master_version}"),
            ("generation", reply.generation),
        ]
    )
    domains = terminal.table(
        ("STORAGE DOMAIN", "CLASS", "WANTED"),
        ((each.name, each.domain_class, each.wanted) for each in reply.storage_domains),
    )
    members = terminal.table(
        ("NODE", "STATE", "MANAGER", "HOST ID", "PRIORITY", "REASON"),
        (
            (
                each.node,
                f"{each.state} (silent)" if each.is_silent else each.state,
                each.spm,
                "" if each.host_id is None else each.host_id,
                each.priority,
                terminal.sentence(each.reason),
            )
            for each in reply.members
        ),
    )
    return "\n\n".join((head, domains, members))


def disks(reply: DiskLines) -> str:
    shown = terminal.table(
        (
            "DISK",
            "STATE",
            "SIZE",
            "ON DISK",
            "STORAGE DOMAIN",
            "POOL",
            "VMS",
            "REASON",
        ),
        (
            (
                each.name or each.disk_id,
                each.state,
                terminal.size(each.size_bytes),
                terminal.size(each.allocated_bytes),
                ", ".join(each.storage_domains),
                each.pool,
                ", ".join(each.vms),
                terminal.sentence(each.stale),
            )
            for each in reply.disks
        ),
    )
    hidden = reply.total - len(reply.disks)
    more = f"\n… and {hidden} more: name a part of what you look for."
    return shown + more if hidden else shown


def disk(reply: DiskDetail) -> str:
    line = reply.line
    return storage_text.disk(
        reply.disk,
        line.storage_domains,
        line.vms,
        stale=line.stale,
        more=(("pool", line.pool), ("disk profile", reply.disk_profile or "none")),
    )
