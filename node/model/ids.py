"""Name the ids: all are lower-case UUIDs unless their comment says otherwise."""

from typing import NewType

NodeId = NewType("NodeId", str)
VmId = NewType("VmId", str)
DiskId = NewType("DiskId", str)
NicId = NewType("NicId", str)
JobId = NewType("JobId", str)
FleetId = NewType("FleetId", str)
CorrelationId = NewType("CorrelationId", str)  # up to 36 of [0-9a-zA-Z_-]
Fingerprint = NewType("Fingerprint", str)  # SHA-256 of a certificate, 64 hex digits
StorageDomainId = NewType("StorageDomainId", str)
PoolId = NewType("PoolId", str)
VolumeId = NewType("VolumeId", str)
SnapshotId = NewType("SnapshotId", str)
TemplateId = NewType("TemplateId", str)
TransferId = NewType("TransferId", str)
