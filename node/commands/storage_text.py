"""Tell of storage at a terminal: what both command lines say alike. Pure."""

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import fields
from itertools import groupby
from typing import Final, Protocol

from node.commands import terminal
from node.model.reason import Reason
from node.model.storage import (
    Connection,
    DiskDocument,
    DiskQos,
    DomainState,
    DomainType,
    StorageDomain,
)
from node.model.storage_requests import (
    FoundStorageDomains,
    StorageProblem,
    StorageProblems,
)

# What a serial console shows.
_WIDTH: Final = 78


class SeenStorageDomain(Protocol):
    """How a storage domain is: as one node sees it, or as the fleet does."""

    @property
    def state(self) -> DomainState: ...

    @property
    def since(self) -> str: ...

    @property
    def reason(self) -> Reason | None: ...

    @property
    def total_bytes(self) -> int: ...

    @property
    def free_bytes(self) -> int: ...

    @property
    def committed_bytes(self) -> int: ...


def place(at: Connection) -> str:
    """Return where a storage domain lies."""
    path = at.path
    if at.kind is DomainType.NFS:
        path = f"{at.address}:{path}"
    return f"{at.kind} {path}"


def storage_domain(
    named: StorageDomain,
    seen: SeenStorageDomain,
    pool: str,
    problems: Iterable[Reason],
    *,
    stale: Reason | None = None,
    more: Iterable[tuple[str, object]] = (),
) -> str:
    """Return what is known of a storage domain; `more` stands before its problems."""
    return terminal.pairs(
        [
            ("name", named.name),
            ("id", named.storage_domain_id),
            ("description", named.description),
            ("class", f"{named.domain_class}, {named.role}, format V{named.version}"),
            ("at", place(named.connection)),
            ("pool", pool or "none"),
            ("state", f"{seen.state} since {seen.since}"),
            *(("", line) for line in terminal.causes(seen.reason)),
            *(("", line) for line in terminal.causes(stale)),
            ("size", terminal.size(seen.total_bytes)),
            ("free", terminal.size(seen.free_bytes)),
            ("may still grow", terminal.size(seen.committed_bytes)),
            *more,
            *(("problem", line) for line in _all_causes(problems)),
        ]
    )


def found(reply: FoundStorageDomains) -> str:
    """Return which storage domains lie at a place."""
    lines = ["No storage domain lies there."]
    if reply.storage_domains:
        lines = [
            terminal.table(
                ("STORAGE DOMAIN", "ID", "CLASS", "FORMAT", "POOL"),
                (
                    (
                        each.name,
                        each.storage_domain_id,
                        each.domain_class,
                        f"V{each.version}",
                        each.pool_id or "none",
                    )
                    for each in reply.storage_domains
                ),
            )
        ]
    return "\n".join([*lines, *_all_causes(reply.problems)])


def disk(
    document: DiskDocument,
    storage_domains: Iterable[str],
    vms: Iterable[str],
    *,
    stale: Reason | None = None,
    more: Iterable[tuple[str, object]] = (),
) -> str:
    """Return what is known of a disk; `more` stands behind where it lies."""
    told = f"{document.disk_format}, {document.allocation}, {document.content}"
    return terminal.pairs(
        [
            ("name", document.name),
            ("id", document.disk_id),
            ("description", document.description),
            ("state", f"{document.state} since {document.since}"),
            *(("", line) for line in terminal.causes(document.reason)),
            *(("", line) for line in terminal.causes(stale)),
            ("size", terminal.size(document.size_bytes)),
            ("on disk", terminal.size(document.allocated_bytes)),
            ("format", told),
            ("storage domains", "\n".join(storage_domains)),
            *more,
            ("VMs", "\n".join(vms) or "none: it floats"),
            ("shared", "yes" if document.is_shared else "no"),
            ("wiped when deleted", "yes" if document.wipe_after_delete else "no"),
            ("limits", limits(document.qos)),
            ("job", document.lock_owner or "none"),
            ("volumes", "\n".join(document.chain.volumes)),
            *(("problem", line) for line in _all_causes(document.chain.problems)),
        ]
    )


def limits(qos: DiskQos) -> str:
    """Return what limits a disk, in one line."""
    found = [(each.name, getattr(qos, each.name)) for each in fields(DiskQos)]
    return ", ".join(f"{name} {value}" for name, value in found if value) or "none"


def check(
    name: str, reasons: Iterable[Reason], reply: StorageProblems, repair: str
) -> str:
    """Return what is wrong with a storage domain and its disks, and what to do.

    `reasons` say what is wrong with itself; `repair` is the command that repairs.
    """
    ill = len({each.disk_id for each in reply.problems})
    lines = [f"{name}: disks read: {reply.disks_read}; with problems: {ill}"]
    passed_over, foreign = reply.disks_passed_over, reply.foreign_names
    if passed_over:
        lines.append(f"disks not read, because they are too many: {passed_over}")
    if foreign:
        lines.append(f"names that are none of ours and are left alone: {foreign}")
    lines += _all_causes(reasons)
    lines += problems(reply.problems)
    if any(each.repair for each in reply.problems):
        lines += ["", "To do what → says, and nothing else:", f"  {repair}"]
    return "\n".join(lines)


def problems(reply: Sequence[StorageProblem]) -> list[str]:
    """Return the problems of disks, and what a repair does about each."""
    lines = []
    by_disk = sorted(reply, key=lambda each: each.disk_id)  # else as they come
    for disk_id, several in groupby(by_disk, lambda each: each.disk_id):
        of_disk = list(several)
        lines += ["", f"Disk {of_disk[0].disk_name} ({disk_id})".replace("  ", " ")]
        for each in of_disk:
            lines += _problem(each)
    return lines


def _problem(problem: StorageProblem) -> list[str]:
    where = f", volume {problem.volume_id}" if problem.volume_id else ""
    return [
        f"  {problem.kind.replace('_', ' ')}{where}",
        *_wrapped(problem.explanation, "    ", "    "),
        *(
            line
            for each in problem.repair
            for line in _wrapped(each, "    → ", "      ")
        ),
        *([] if problem.repair else ["    No repair is offered: a person decides."]),
    ]


def _wrapped(text: str, first: str, others: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=first, subsequent_indent=others)


def _all_causes(reasons: Iterable[Reason]) -> list[str]:
    return [line for each in reasons for line in terminal.causes(each)]
