"""Reach storage domains: mount what they lie on, and say how they are accessed.

    local folder          the folder itself; its file system is this host's alone
    POSIX, file_system    mounted below our run folder, as NFS is
    POSIX, no such        a folder on a shared file system that is mounted already,
                          by the administrator: it is used as it is
    NFS                   mounted below our run folder

A shared storage domain whose file system is not mounted would be an empty folder of
this host's own disk, so one that is only this host's is refused. Each call may last
as long as mount(8) does: call it where nobody waits for anything else.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from node import wire
from node.errors import Conflict, Invalid
from node.model.storage import Connection, DomainType, StorageDomain
from node.storage.domains import access as accesses
from node.storage.domains.access import LOOK_S, Access, LocalFolders
from node.storage.formats import layout
from node.storage.formats.layout import Layout
from node.storage.guard import Guard, GuardFiles
from node.system.mounts import Mounts

# Of a mount point's name: what is left of 255 bytes is for people's eyes.
_SHOWN_MAX: Final = 100
_DIGITS: Final = 8
_ODD: Final = re.compile(r"[^A-Za-z0-9.:-]")


class PathNotAbsolute(Invalid):
    code = "storage_path_not_absolute"
    remedy = "Name the folder by its whole path, beginning with a slash."


class NotShared(Conflict):
    """Other hosts cannot reach the folder: each would have one of its own."""

    code = "storage_folder_not_shared"
    remedy = (
        "Mount the shared file system there first, on every host, or say which file "
        "system to mount; for a disk of this host alone make a local storage domain."
    )


class ConnectionIncomplete(Invalid):
    code = "connection_incomplete"
    remedy = "Add what the message names."


@dataclass(frozen=True, slots=True)
class Reach:
    """The way to storage domains. Any thread may call."""

    mounts: Mounts
    folder: Path  # where we mount
    guard: Guard
    local_folders: LocalFolders

    def enter(self, connection: Connection) -> PurePosixPath:
        """Return the folder that a connection leads to, mounted if it needs to be.

        Raises PathNotAbsolute, NotShared, NotLocal, and what mounts raise.
        """
        check(connection)
        place = self.place(connection)
        if connection.kind is DomainType.LOCALFS:
            access = Access(Layout(place / layout.NO_PARENT), "", is_local=True)
            self.local_folders.check(access)
        elif is_mounted_by_others(connection):
            mount = self.mounts.find(Path(place))
            if mount.is_local or mount.is_scratch:
                raise NotShared(
                    f"{place} lies on {mount.file_system} from {mount.source}",
                    path=str(place),
                )
        else:
            file_system, options = accesses.mounting(connection)
            source = accesses.source(connection)
            self.mounts.mount(source, Path(place), file_system, options)
        return place

    def keep(self, connection: Connection) -> None:
        """Mount again what we mounted and is not there any more.

        It looks at what the kernel says only: nothing that hangs is touched.
        """
        if connection.kind is DomainType.LOCALFS or is_mounted_by_others(connection):
            return
        self.enter(connection)

    def open(self, known: StorageDomain) -> Access:
        """Return how a storage domain is accessed, as its metadata say.

        Raises what `enter` does, and what reading its metadata raises.
        """
        connection = known.connection
        place = self.enter(connection)
        access = Access(
            Layout(place / layout.check_id(known.storage_domain_id)),
            accesses.source(connection),
            connection.kind is DomainType.LOCALFS,
            connection=connection,
        )
        meta = access.meta(self.guard, LOOK_S)
        return Access(
            access.layout,
            access.source,
            access.is_local,
            meta.sector_size,
            meta.alignment,
            connection,
        )

    def files(self, connection: Connection) -> GuardFiles:
        """Return the files in the folder that a connection leads to, entered."""
        place = str(self.place(connection))
        return GuardFiles(self.guard, f"look {place}", place, deadline_s=LOOK_S)

    def close(self, connection: Connection) -> None:
        """Unmount what we mounted; what others mounted stays. MountBusy."""
        if connection.kind is DomainType.LOCALFS or is_mounted_by_others(connection):
            return
        self.mounts.unmount(Path(self.place(connection)))

    def place(self, connection: Connection) -> PurePosixPath:
        """Return the folder that a connection leads to."""
        if connection.kind is DomainType.LOCALFS or is_mounted_by_others(connection):
            return PurePosixPath(connection.path)
        digest = hashlib.sha256(wire.encode(connection)).hexdigest()[:_DIGITS]
        shown = _ODD.sub("_", accesses.source(connection))[:_SHOWN_MAX]
        return PurePosixPath(self.folder) / f"{shown}-{digest}"


def is_mounted_by_others(connection: Connection) -> bool:
    """Tell whether the path is a folder that the administrator mounts."""
    return connection.kind is DomainType.POSIXFS and not connection.file_system


def check(connection: Connection) -> None:
    """Refuse a connection that leads nowhere. Pure."""
    if connection.kind is DomainType.NFS and not connection.address:
        raise ConnectionIncomplete("NFS needs the server's address")
    if not connection.path:
        raise ConnectionIncomplete("there is no path")
    needs_folder = connection.kind is not DomainType.POSIXFS or is_mounted_by_others(
        connection
    )
    if needs_folder and not connection.path.startswith("/"):
        raise PathNotAbsolute(
            f"{connection.path[:200]!a} is relative", path=ascii(connection.path[:200])
        )
