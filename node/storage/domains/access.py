"""Say how this node reaches a storage domain: its files, its lockspace, its leases.

A local storage domain has leases of its own kind, granted by the storage process;
all others have sanlock's, in the places that oVirt gives them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from node.errors import Conflict, Error, NotFound, Unavailable
from node.model.storage import Connection, DomainType
from node.storage.formats import domain_meta
from node.storage.formats.domain_meta import DomainMeta
from node.storage.formats.layout import SPM_RESOURCE, SPM_SLOT, Layout, Special
from node.storage.guard import FILE_DEADLINE_S, Guard, GuardFiles
from node.storage.process.local_leases import PREFIX
from node.storage.process.protocol import LockspaceAt, Need, ResourceAt
from node.system.mounts import Mount
from node.units import MiB

# What is only looked at: a storage domain that hangs must not hold up the others.
LOOK_S: Final = 10.0


class StorageDomainUnknown(NotFound):
    code = "storage_domain_unknown"
    remedy = "Attach the storage domain to the pool, and connect this node to it."


class StorageDomainConnecting(Unavailable):
    """It is of the pool, and this node has no way to it: it has just started."""

    code = "storage_domain_connecting"
    remedy = "Try again in a moment; else see what `storage show` says of it."


class NotLocal(Conflict):
    """This host alone would grant leases for files that others reach, too."""

    code = "storage_folder_not_local"
    remedy = "Choose a folder on a disk of this host, or make a shared storage domain."


@dataclass(frozen=True, slots=True)
class Access:
    """A storage domain as this node reaches it."""

    layout: Layout
    source: str  # where its file system comes from, as REMOTE_PATH says it
    is_local: bool = False
    sector_bytes: int = 512
    alignment_bytes: int = MiB
    connection: Connection | None = None  # what other nodes are told of the way here

    @property
    def storage_domain_id(self) -> str:
        return self.layout.storage_domain_id

    @property
    def lockspace(self) -> LockspaceAt:
        if self.is_local:
            path = str(self.layout.local_leases)
            return LockspaceAt(f"{PREFIX}{self.storage_domain_id}", path)
        return LockspaceAt(
            self.storage_domain_id,
            str(self.layout.special(Special.IDS)),
            sector_bytes=self.sector_bytes,
            alignment_bytes=self.alignment_bytes,
        )

    @property
    def spm_lease(self) -> ResourceAt:
        """Who holds it may change the structure of this storage domain."""
        return ResourceAt(
            self.lockspace.name,
            SPM_RESOURCE,
            str(self.layout.special(Special.LEASES)),
            SPM_SLOT * self.alignment_bytes,
            self.sector_bytes,
            self.alignment_bytes,
        )

    def need(self, version: int) -> Need:
        """Return what a step must name to write here as manager."""
        return Need(self.lockspace.name, SPM_RESOURCE, version)

    def files(
        self,
        guard: Guard,
        needs: Sequence[Need] = (),
        deadline_s: float = FILE_DEADLINE_S,
    ) -> GuardFiles:
        root = str(self.layout.root)
        return GuardFiles(guard, self.storage_domain_id, root, needs, deadline_s)

    def files_above(self, guard: Guard, needs: Sequence[Need] = ()) -> GuardFiles:
        """Return the files of the folder that the storage domain lies in."""
        root = str(self.layout.root.parent)
        return GuardFiles(guard, self.storage_domain_id, root, needs)

    def meta(self, guard: Guard, deadline_s: float = FILE_DEADLINE_S) -> DomainMeta:
        """Read what the storage domain says that it is; what `parse` raises."""
        path = str(self.layout.special(Special.METADATA))
        files = self.files(guard, deadline_s=deadline_s)
        return domain_meta.parse(files.read(path, domain_meta.SIZE_MAX))


@dataclass(frozen=True, slots=True)
class LocalFolders:
    """Which folders may be local storage domains: only this host reaches them."""

    find_mount: Callable[[Path], Mount]
    # Memory, or a container's own layer: for the lab and demonstrations.
    permits_scratch: bool = False

    def check(self, access: Access) -> None:
        """Refuse a local storage domain where its files may be shared: NotLocal."""
        if access.is_local:
            path = Path(access.layout.root)
            check_local(self.find_mount(path), str(path), self.permits_scratch)


def source(connection: Connection) -> str:
    """Return where a file system comes from, as oVirt writes it into REMOTE_PATH."""
    if connection.kind is DomainType.NFS:
        return f"{connection.address}:{connection.path}"
    return connection.path


def mounting(connection: Connection) -> tuple[str, tuple[str, ...]]:
    """Return what mount is told: the type of the file system, and its options.

    NFS as oVirt mounts it: an error after a while is better than a hang for ever,
    and two mounts of one server must not share what they remember. Who can write to
    the storage must not become root here: of options that contradict, the last counts.
    """
    more = tuple(each for each in connection.options.split(",") if each)
    if connection.kind is not DomainType.NFS:
        return connection.file_system, (*more, *_SAFE_OPTIONS)
    version = connection.nfs_version
    chosen = (f"vers={version}",) if version else ()
    return "nfs", (*_NFS_OPTIONS, *chosen, *more, *_SAFE_OPTIONS)


def check_local(mount: Mount, path: str, permits_scratch: bool = False) -> None:
    """Refuse a local storage domain unless its file system is one host's alone."""
    if not (mount.is_local or (permits_scratch and mount.is_scratch)):
        raise NotLocal(
            f"{path} lies on {mount.file_system} from {mount.source}",
            file_system=mount.file_system,
        )


def stored_type(kind: DomainType) -> domain_meta.DomainType:
    """Return a kind of connection as metadata spell it."""
    return _STORED[kind]


# Answers are waited for 10 s, three times.
_NFS_OPTIONS: Final = ("soft", "nosharecache", "timeo=100", "retrans=3")
_SAFE_OPTIONS: Final = ("nosuid", "nodev")
_STORED: Final = {
    DomainType.LOCALFS: domain_meta.DomainType.LOCALFS,
    DomainType.POSIXFS: domain_meta.DomainType.POSIXFS,
    DomainType.NFS: domain_meta.DomainType.NFS,
}


def not_connected(storage_domain_id: str, *, is_named: bool) -> Error:
    """Return how to say that there is no way to a storage domain.

    `is_named`: by the pool's map. Only what is not may be taken for gone.
    """
    told = f"storage domain {storage_domain_id} is not connected"
    if is_named:
        return StorageDomainConnecting(
            f"{told} yet", storage_domain_id=storage_domain_id
        )
    return StorageDomainUnknown(f"{told} here", storage_domain_id=storage_domain_id)
