"""Write what the agent replies of storage for people at a terminal. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from node.commands import storage_text, terminal
from node.model.ids import DiskId, PoolId, StorageDomainId
from node.model.reason import Reason
from node.model.storage import (
    DiskDocument,
    PoolDocument,
    StorageDomainDocument,
    Transfer,
)
from node.model.storage_requests import (
    StorageProblems,
)

# What a serial console shows.
_WIDTH: Final = 78
# Nobody is silent for a year and still told of: nothing was heard at all.
_LONG_S: Final = 365 * 86400.0


def storage_domains(
    found: Iterable[StorageDomainDocument], pools: Mapping[PoolId, str]
) -> str:
    return terminal.table(
        ("STORAGE DOMAIN", "CLASS", "POOL", "STATE", "SIZE", "FREE", "AT", "REASON"),
        (
            (
                each.storage_domain.name,
                each.storage_domain.domain_class,
                _pool_name(each, pools),
                each.state,
                terminal.size(each.total_bytes) if each.total_bytes else "",
                terminal.size(each.free_bytes) if each.total_bytes else "",
                storage_text.place(each.storage_domain.connection),
                terminal.sentence(each.reason or next(iter(each.problems), None)),
            )
            for each in found
        ),
    )


def storage_domain(reply: StorageDomainDocument) -> str:
    named = reply.storage_domain
    latency = "" if reply.latency_s is None else f" in {reply.latency_s:.3f} s"
    return storage_text.storage_domain(
        named,
        reply,
        named.pool_id or "",
        reply.problems,
        more=(
            ("sectors", f"{named.sector_bytes} B"),
            ("checked", f"{reply.checked_at or 'never'}{latency}"),
            ("host id", "not joined" if reply.host_id is None else reply.host_id),
        ),
    )


def pools(found: Iterable[PoolDocument]) -> str:
    return terminal.table(
        ("POOL", "STATE", "THIS NODE", "MANAGER", "STORAGE DOMAINS", "REASON"),
        (
            (
                each.name,
                each.state,
                each.spm.state,
                each.spm.holder or "none",
                len(each.domains),
                terminal.sentence(each.reason),
            )
            for each in found
        ),
    )


def pool(reply: PoolDocument) -> str:
    spm = reply.spm
    names = {each.storage_domain_id: each.name for each in reply.domains}
    master = names.get(reply.master, "") if reply.master is not None else ""
    head = terminal.pairs(
        [
            ("name", reply.name),
            ("id", reply.pool_id),
            ("kind", "of this node alone" if reply.is_local else "shared"),
            ("state", f"{reply.state} since {reply.since}"),
            *(("", line) for line in terminal.causes(reply.reason)),
            (
                "master",
                f"{master or reply.master or 'none'}, version {reply.master_version}",
            ),
            ("generation", reply.generation),
            ("manager", f"{spm.holder or 'none'}, lease {spm.lease_version}"),
            ("this node", spm.state),
            *(("", line) for line in terminal.causes(_own(reply, spm.reason))),
        ]
    )
    domains = terminal.table(
        ("STORAGE DOMAIN", "CLASS", "WANTED", "AT"),
        (
            (
                each.name or each.storage_domain_id,
                each.domain_class,
                each.state,
                storage_text.place(each.connection)
                if each.connection is not None
                else "",
            )
            for each in reply.domains
        ),
    )
    members = terminal.table(
        ("HOST ID", "NODE", "STATE", "PRIORITY", "SILENT", "HEARS AN AGGREGATOR"),
        (
            (
                each.host_id,
                each.node_id,
                each.liveness,
                each.priority,
                _silence(each.silence_s),
                "yes" if each.hears_leader else "no",
            )
            for each in reply.members
        ),
    )
    return "\n\n".join(each for each in (head, domains, members) if each)


def _own(document: PoolDocument, reason: Reason | None) -> Reason | None:
    """Return a reason with what goes without saying in a document."""
    if reason is None:
        return None
    known = {"node": document.node_id, "pool": document.name}
    return replace(reason, fields={**known, **reason.fields})


def _silence(silence_s: float) -> str:
    return f"{silence_s:.0f} s" if silence_s < _LONG_S else "never heard"


def disks(found: Iterable[DiskDocument], names: Mapping[StorageDomainId, str]) -> str:
    return terminal.table(
        (
            "DISK",
            "STATE",
            "SIZE",
            "ON DISK",
            "FORMAT",
            "STORAGE DOMAIN",
            "VMS",
            "REASON",
        ),
        (
            (
                each.name or each.disk_id,
                each.state,
                terminal.size(each.size_bytes),
                terminal.size(each.allocated_bytes),
                each.disk_format,
                ", ".join(names.get(at, at) for at in each.storage_domain_ids),
                len(each.vm_ids),
                terminal.sentence(each.reason),
            )
            for each in found
        ),
    )


def disk(reply: DiskDocument) -> str:
    return storage_text.disk(reply, reply.storage_domain_ids, reply.vm_ids)


def transfers(found: Iterable[Transfer]) -> str:
    return terminal.table(
        ("TRANSFER", "DISK", "DIRECTION", "PHASE", "MOVED", "OF", "REASON"),
        (
            (
                each.transfer_id,
                each.disk_id,
                each.direction,
                each.phase,
                terminal.size(each.transferred_bytes),
                terminal.size(each.size_bytes),
                terminal.sentence(each.reason),
            )
            for each in found
        ),
    )


def transfer(reply: Transfer) -> str:
    moved = terminal.size(reply.transferred_bytes)
    return terminal.pairs(
        [
            ("transfer", reply.transfer_id),
            ("disk", reply.disk_id),
            ("direction", reply.direction),
            ("phase", reply.phase),
            *(("", line) for line in terminal.causes(reply.reason)),
            ("moved", f"{moved} of {terminal.size(reply.size_bytes)}"),
            ("format", reply.disk_format),
            ("address", reply.url),
            ("SHA-256", reply.sha256 or "not asked for"),
        ]
    )


def of_disk(reply: StorageProblems, disk_id: DiskId | None) -> StorageProblems:
    """Return what a check tells of one disk; None: of all."""
    if disk_id is None:
        return reply
    problems = tuple(each for each in reply.problems if each.disk_id == disk_id)
    return replace(reply, problems=problems)


def check(document: StorageDomainDocument, reply: StorageProblems) -> str:
    """Return what is wrong with a storage domain and its disks, and what to do."""
    name = document.storage_domain.name
    own = [*([document.reason] if document.reason else []), *document.problems]
    return storage_text.check(
        name, own, reply, f"skerry-node storage repair {name} --yes"
    )


def repairs(document: StorageDomainDocument, reply: StorageProblems) -> str:
    """Return what a repair would do, were it not a dry run."""
    name = document.storage_domain.name
    offered = [each for each in reply.problems if each.repair]
    left = len(reply.problems) - len(offered)
    lines = [f"{name}: can be repaired: {len(offered)}; left to a person: {left}"]
    lines += storage_text.problems(offered)
    if offered:
        lines += ["", "This was a dry run: nothing was changed. Add --yes to do it."]
    if left:
        lines.append(f"`skerry-node storage check {name}` explains the others.")
    return "\n".join(lines)


def _pool_name(document: StorageDomainDocument, pools: Mapping[PoolId, str]) -> str:
    pool_id = document.storage_domain.pool_id
    return pools.get(pool_id, pool_id) if pool_id is not None else ""
