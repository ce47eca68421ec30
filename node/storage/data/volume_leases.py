"""Take the leases of volumes, one thread of this agent at a time, and none for ever.

A volume's lease is held by whoever moves data into it, or by the manager for a moment
in which it sees to it that nobody does. What an agent held that is gone now is given
back by the one after it, unless it goes on with it. Source: docs/formats/data-jobs.md.
"""

import logging
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Final

from node.errors import Busy, Error, NotFound
from node.storage.disks.actions import Home, Homes
from node.storage.domains.access import LOOK_S
from node.storage.formats import layout, volume_meta
from node.storage.formats.layout import FILE_MODE, FolderKind
from node.storage.formats.volume_meta import Legality, VolumeMeta, next_generation
from node.storage.guard import FILE_DEADLINE_S, Guard, GuardFiles
from node.storage.operations import plan as plans
from node.storage.process.file_operations import FileMissing
from node.storage.process.protocol import Held, Need, ResourceAt
from node.system.leases import (
    HostsUnknown,
    LeaseBusy,
    LeaseHeld,
    Liveness,
    NotALease,
)

log = logging.getLogger(__name__)

_LEASE: Final = ".lease"
Key = tuple[str, str]  # lockspace, resource


class VolumeHeld(Busy):
    """Somebody holds the lease of a volume: he may be writing to it."""

    code = "volume_held"
    remedy = "It goes on when that node lets go of the volume, or is dead."


class VolumeGone(NotFound):
    """The volume is not there any more: nobody can take its lease."""

    code = "volume_gone"
    remedy = "Look at the disk; its operation was undone."


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume into which data are moved, by its path in a plan."""

    path: PurePosixPath

    @property
    def volume_id(self) -> str:
        return self.path.name

    @property
    def storage_domain_id(self) -> str:
        return self.path.parts[1]

    @property
    def lease_path(self) -> str:
        return f"{self.path}{_LEASE}"

    @property
    def key(self) -> Key:
        return self.storage_domain_id, self.volume_id

    @property
    def is_in_workshop(self) -> bool:
        found = layout.read_image_name(self.path.parent.name)
        return found is not None and found.kind is FolderKind.REMOVED


class VolumeLeases:
    """Who of this agent works with which volume's lease. Any thread may call."""

    def __init__(self) -> None:
        self.ordering = threading.Lock()  # a slot of orders is read, then written
        self._lock = threading.Lock()
        self._used: set[Key] = set()

    def take(self, volume: Volume) -> None:
        """Be the only one here who works with a lease, until `end`; VolumeHeld."""
        with self._lock:
            if volume.key in self._used:
                raise VolumeHeld(f"this node works with volume {volume.volume_id}")
            self._used.add(volume.key)

    def end(self, volume: Volume) -> None:
        """Let others of this agent have it. Idempotent."""
        with self._lock:
            self._used.discard(volume.key)

    @contextmanager
    def using(self, volume: Volume) -> Iterator[None]:
        self.take(volume)
        try:
            yield
        finally:
            self.end(volume)


def read_meta(
    guard: Guard,
    homes: Homes,
    volume: Volume,
    deadline_s: float = FILE_DEADLINE_S,
) -> VolumeMeta:
    """Return what a volume says of itself; VolumeGone, MetadataDamaged."""
    home = homes.home(volume.storage_domain_id)
    files = GuardFiles(
        guard, volume.storage_domain_id, home.root, deadline_s=deadline_s
    )
    try:
        data = files.read(_meta_path(home, volume), _META_MAX)
    except Error as error:
        if error.code != FileMissing.code:
            raise
        raise VolumeGone(f"volume {volume.volume_id} is gone") from error
    return volume_meta.parse(data)


def write_next(
    guard: Guard, homes: Homes, volume: Volume, meta: VolumeMeta, need: Need
) -> None:
    """Give a volume the next generation, under its lease; StaleLease."""
    home = homes.home(volume.storage_domain_id)
    changed = replace(meta, generation=next_generation(meta.generation))
    files = GuardFiles(
        guard, volume.storage_domain_id, home.root, (need,), deadline_s=LOOK_S
    )
    files.write_whole(_meta_path(home, volume), volume_meta.write(changed), FILE_MODE)


def may_fill(volume: Volume, meta: VolumeMeta) -> bool:
    """Tell whether nobody uses a volume's content."""
    return volume.is_in_workshop or meta.legality is Legality.ILLEGAL


def held(guard: Guard, volume: Volume) -> Held | None:
    """Return the lease of a volume, if this node's storage process has it."""
    return next(
        (e for e in guard.leases().held if (e.lockspace, e.resource) == volume.key),
        None,
    )


def give_back(guard: Guard, homes: Homes, leases: VolumeLeases) -> None:
    """Release volumes' leases that nobody of this agent works with.

    One under which a program runs stays until that has ended.
    """
    for each in guard.leases().held:
        volume = _volume_of(each, homes.by_id)
        if volume is None or each.users:
            continue
        try:
            with leases.using(volume):
                guard.release(homes.resource(volume.lease_path))
        except Error as error:
            log.info("lease of volume %s stays: %s", each.resource, error)
        else:
            log.info("gave back the lease of volume %s", each.resource)


def end_steps(
    guard: Guard, prefix: str, kept: Collection[str], killed: Collection[str] = ()
) -> dict[str, Error]:
    """End and forget the programs whose ids begin so, but those that are kept.

    Returns what was said of those that did not end. Who was `killed` before is not
    waited for again: it dies when its storage answers.
    """
    failed: dict[str, Error] = {}
    for step in guard.steps():
        if not step.step_id.startswith(prefix) or step.step_id in kept:
            continue
        try:
            if step.step_id not in killed:
                guard.cancel(step.step_id)
            guard.forget(step.step_id)
        except Error as error:
            failed[step.step_id] = error
    return failed


@contextmanager
def fenced(
    guard: Guard, homes: Homes, leases: VolumeLeases, volume: Volume
) -> Iterator[tuple[int, VolumeMeta]]:
    """Hold a volume's lease, so that nobody else moves data into it.

    Yields its version, and what the volume says. Raises VolumeHeld, VolumeGone.
    """
    resource = homes.resource(volume.lease_path)
    read_meta(guard, homes, volume)  # else there is no lease to take
    with leases.using(volume):
        version = _acquire(guard, resource, volume)
        try:
            now = held(guard, volume)
            if now is not None and now.users:
                # Of an order that an earlier agent of this node took.
                raise VolumeHeld(f"a program fills volume {volume.volume_id} here")
            yield version, read_meta(guard, homes, volume)
        finally:
            _release(guard, resource, volume)


@contextmanager
def fenced_image(
    guard: Guard,
    homes: Homes,
    leases: VolumeLeases,
    folder: PurePosixPath,
    *,
    is_kept: bool,
) -> Iterator[None]:
    """See to it that nobody moves data into the volumes of an image's folder.

    `is_kept`: until the end of the block; else only now, for what is removed then.
    What has no lease that anybody could hold is passed over. Raises VolumeHeld.
    """
    with ExitStack() as stack:
        for volume in _volumes_in(guard, homes, folder):
            try:
                stack.enter_context(fenced(guard, homes, leases, volume))
            except Error as error:
                if error.code not in _NOBODYS:
                    raise
                log.info("volume %s: %s", volume.volume_id, error)
        if not is_kept:
            stack.close()
        yield


def _volumes_in(guard: Guard, homes: Homes, folder: PurePosixPath) -> Iterator[Volume]:
    _, storage_domain_id, *parts = folder.parts
    home = homes.home(storage_domain_id)
    files = GuardFiles(guard, storage_domain_id, home.root)
    try:
        entries = files.list(str(PurePosixPath(home.root, *parts)))
    except Error as error:
        if error.code != FileMissing.code:
            raise
        return
    for name in sorted(each.name for each in entries):
        if plans.volume_of(name) is not None:
            yield Volume(folder / name.removesuffix(_LEASE))


def _check_owner(guard: Guard, resource: ResourceAt, volume: Volume) -> None:
    """Refuse what another host has that may live; VolumeHeld.

    sanlock would wait for minutes to say so, and nothing else in that lockspace is
    given a lease meanwhile.
    """
    owner = guard.read_owner(resource)
    if owner is None:
        return
    lockspace = resource.lockspace
    own = [each.host_id for each in guard.lockspaces() if each.name == lockspace]
    hosts = guard.hosts(lockspace) if owner.host_id not in own else ()
    for host in hosts:
        is_owner = (host.host_id, host.generation) == (owner.host_id, owner.generation)
        if is_owner and host.liveness not in _GONE:
            raise VolumeHeld(
                f"host {host.host_id} has volume {volume.volume_id}, "
                f"and is {host.liveness}"
            )


def _acquire(guard: Guard, resource: ResourceAt, volume: Volume) -> int:
    try:
        _check_owner(guard, resource, volume)
        return guard.acquire(resource)
    except Error as error:
        if error.code not in _HELD:
            raise
        raise VolumeHeld(f"volume {volume.volume_id}: {error}") from error


def _release(guard: Guard, resource: ResourceAt, volume: Volume) -> None:
    """Give a lease back; if that fails `give_back` tries again."""
    try:
        guard.release(resource)
    except Error as error:
        log.warning("lease of volume %s stays: %s", volume.volume_id, error)


def _volume_of(lease: Held, homes: Mapping[str, Home]) -> Volume | None:
    """Return the volume whose lease it is; None: it is another lease."""
    home = homes.get(lease.lockspace)
    if home is None or not lease.path.endswith(_LEASE):
        return None
    inside = PurePosixPath(lease.path.removesuffix(_LEASE))
    if not inside.is_relative_to(home.root) or inside.name != lease.resource:
        return None
    return Volume(PurePosixPath("/", lease.lockspace, inside.relative_to(home.root)))


def _meta_path(home: Home, volume: Volume) -> str:
    _, _, *parts = volume.path.parts
    return f"{PurePosixPath(home.root, *parts)}{layout.META}"


_META_MAX: Final = 8192  # of a slot on a block storage domain
_GONE: Final = frozenset({Liveness.DEAD, Liveness.FREE})
_HELD: Final = frozenset({LeaseHeld.code, LeaseBusy.code, HostsUnknown.code})
_NOBODYS: Final = frozenset({VolumeGone.code, NotALease.code, FileMissing.code})
