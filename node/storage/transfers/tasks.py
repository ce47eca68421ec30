"""Say which jobs on its disk a transfer needs: before, at its end, or if it fails."""

import uuid

from node.model.ids import JobId
from node.storage.disks.tasks import BeginUpload, Delete, EndUpload
from node.storage.transfers.rules import Kept


def begin(kept: Kept) -> BeginUpload:
    """Return what closes a disk to guests before data come."""
    size_bytes = kept.transfer.size_bytes if kept.is_file else None
    where = (kept.transfer.disk_id, kept.storage_domain_id, kept.volume_id)
    return BeginUpload(*where, kept.transfer_id, size_bytes)


def end(kept: Kept) -> EndUpload:
    """Return what opens a disk to guests when all has come."""
    where = (kept.transfer.disk_id, kept.storage_domain_id, kept.volume_id)
    return EndUpload(*where, kept.transfer_id)


def removal(kept: Kept) -> Delete:
    """Return what removes a disk that was made for what did not come."""
    return Delete(kept.transfer.disk_id, kept.storage_domain_id, kept.transfer_id)


def job_id(kept: Kept, name: str) -> JobId:
    """Return the id of a job of a transfer: asked twice, it is the same."""
    return JobId(str(uuid.uuid5(uuid.UUID(kept.transfer_id), name)))
