"""Say which event tells of a job on disks that has ended.

Pure. Jobs that are a part of something else tell of nothing: who asked for them does.
"""

from collections.abc import Callable, Mapping
from typing import Final

from node.jobs import Cancelled
from node.model.job import Job
from node.storage.disks.tasks import (
    Change,
    Copy,
    Create,
    Delete,
    Move,
    Repair,
    Resize,
    Sparsify,
    Task,
)
from node.storage.spm.term import NotSpm, SpmLost

_GO_ON: Final = frozenset({NotSpm.code, SpmLost.code})
_CODES: Final[Mapping[type[Task], str]] = {
    Create: "disk_created",
    Delete: "disk_deleted",
    Resize: "disk_resized",
    Change: "disk_changed",
    Copy: "disk_copied",
    Move: "disk_moved",
    Sparsify: "disk_sparsified",
    Repair: "disk_repaired",
}


def event_of(
    task: Task, name: str, named: Callable[[str], str]
) -> tuple[str, Mapping[str, str]] | None:
    """Return an event's code and fields; None: nobody is told.

    `name` is the disk's, `named` returns a storage domain's.
    """
    code = _CODES.get(type(task))
    if code is None:
        return None
    fields = {"name": name}
    match task:
        case Delete(storage_domain_id=where, is_copy=True):
            code, fields["storage_domain"] = "disk_copy_deleted", named(where)
        case Resize(size_bytes=size_bytes):
            fields["size_bytes"] = str(size_bytes)
        case Copy(storage_domain_id=target) | Move(target_domain_id=target):
            fields["storage_domain"] = named(target)
        case Repair(kind=kind):
            fields["problem"] = str(kind)
    return code, fields


def failure_of(
    task: Task, name: str, job: Job, error: Exception
) -> tuple[str, Mapping[str, str]] | None:
    """Return the event of a job that failed; None: nobody is told.

    Who cancelled one knows, and the next manager ends what was begun. `name` is the
    disk's, empty if it is not there.
    """
    is_told = type(task) in _CODES and not isinstance(error, Cancelled)
    if not is_told or getattr(error, "code", "") in _GO_ON:
        return None
    fields = {
        "disk": task.disk_id,
        "name": name or task.disk_id,
        "job": job.job_id,
        "verb": job.verb,
        "detail": str(error),
    }
    return "storage_job_failed", fields
