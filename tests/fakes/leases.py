"""A storage with leases, and hosts that hold them: sanlock without its waits."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from node.system.leases import (
    Host,
    HostIdHeld,
    HostsUnknown,
    Joined,
    LeaseFailed,
    LeaseHeld,
    LeaseInUse,
    LeaseMoved,
    Leases,
    LeasesDown,
    Liveness,
    Lockspace,
    NotALease,
    NotHeld,
    Owner,
    Resource,
)


@dataclass(slots=True)
class _Lease:
    version: int = 0
    owner: Owner | None = None


@dataclass(slots=True)
class FakeLeaseStorage:
    """What lies on the shared storage, and which hosts renew there."""

    lockspaces: dict[str, dict[int, Host]] = field(default_factory=dict)
    machines: dict[tuple[str, int], str] = field(default_factory=dict)
    leases: dict[tuple[str, str], _Lease] = field(default_factory=dict)

    def die(self, lockspace: str, host_id: int) -> None:
        """Let a host fall silent for so long that its leases may be taken."""
        host = self.lockspaces[lockspace][host_id]
        self.lockspaces[lockspace][host_id] = replace(host, liveness=Liveness.DEAD)


class FakeLeases:
    def __init__(
        self,
        storage: FakeLeaseStorage,
        machine: str,
        killpath: Callable[[str], None] | None = None,
        *,
        reads_at_once: bool = True,
    ) -> None:
        """Be a host that has joined nothing.

        `killpath` is called with a lockspace's name when it is lost; `reads_at_once`:
        know the other hosts right after a join, not only when asked again.
        """
        self._storage = storage
        self._machine = machine
        self._killpath = killpath
        self._host_ids: dict[str, int] = {}
        self._lockspaces: dict[str, Lockspace] = {}
        self._held: dict[tuple[str, str], int] = {}
        self._lost: set[str] = set()
        self._reads_at_once = reads_at_once
        self._severed: set[tuple[str, str]] = set()
        # Lockspaces of which the hosts are known only when they are asked for again.
        self.unread: set[str] = set()
        self.release_fails = False

    def lose(self, lockspace: str) -> None:
        """Let the lockspace's renewals fail until sanlock gives up."""
        self._lost.add(lockspace)
        if self._killpath is not None:
            self._killpath(lockspace)
        self._drop(lockspace)

    def restart(self) -> None:
        """Let the daemon end, with all that it knew, and another one start."""
        self._severed |= set(self._held)
        self._held.clear()
        self._host_ids.clear()
        self._lockspaces.clear()
        self._lost.clear()

    def write_lockspace(self, lockspace: Lockspace, io_timeout_s: int) -> None:
        self._storage.lockspaces[lockspace.name] = {}

    def add_lockspace(
        self, lockspace: Lockspace, host_id: int, io_timeout_s: int
    ) -> None:
        hosts = self._storage.lockspaces.get(lockspace.name)
        if hosts is None:
            raise NotALease(f"{lockspace.name} was not written")
        if self._host_ids.get(lockspace.name, host_id) != host_id:
            raise HostIdHeld("this host has another id already")
        before = hosts.get(host_id)
        key = (lockspace.name, host_id)
        is_mine = self._storage.machines.get(key) == self._machine
        if before is not None and before.liveness is Liveness.LIVE and not is_mine:
            raise HostIdHeld("another host has this id")
        if lockspace.name not in self._host_ids:
            generation = before.generation + 1 if before is not None else 1
            hosts[host_id] = Host(host_id, generation, Liveness.LIVE, 1)
            self._storage.machines[key] = self._machine
            self._host_ids[lockspace.name] = host_id
            self._lockspaces[lockspace.name] = lockspace
            if not self._reads_at_once:
                self.unread.add(lockspace.name)

    def remove_lockspace(self, lockspace: Lockspace, host_id: int) -> None:
        if self._host_ids.get(lockspace.name) != host_id:
            raise NotHeld("this host is not in the lockspace")
        if any(space == lockspace.name for space, _ in self._held):
            raise LeaseInUse("a lease in it is held here")
        del self._host_ids[lockspace.name]
        hosts = self._storage.lockspaces[lockspace.name]
        hosts[host_id] = replace(hosts[host_id], liveness=Liveness.FREE, timestamp=0)

    def is_joined(self, lockspace: Lockspace, host_id: int) -> bool:
        return self._host_ids.get(lockspace.name) == host_id

    def joined(self) -> tuple[Joined, ...]:
        return tuple(
            Joined(name, host_id, space.path, space.offset)
            for name, host_id in self._host_ids.items()
            for space in (self._lockspaces[name],)
        )

    def write_resource(self, resource: Resource) -> None:
        self._storage.leases[resource.lockspace, resource.name] = _Lease()

    def acquire(self, resource: Resource, version: int | None = None) -> int:
        host_id = self._host_ids.get(resource.lockspace)
        if host_id is None or resource.lockspace in self._lost:
            raise NotHeld("this host is not in the lockspace")
        if any(space == resource.lockspace for space, _ in self._severed):
            raise LeasesDown("leases went with the daemon")
        lease = self._lease(resource)
        host = self._storage.lockspaces[resource.lockspace][host_id]
        if lease.owner is not None:
            owner = (lease.owner.host_id, lease.owner.generation)
            if owner == (host_id, host.generation):
                return lease.version
            hosts = self._storage.lockspaces[resource.lockspace]
            is_live = hosts[lease.owner.host_id].liveness is Liveness.LIVE
            if is_live and lease.owner.host_id != host_id:
                raise LeaseHeld("another host holds the lease")
        if version not in (None, lease.version):
            raise LeaseMoved(f"the lease has version {lease.version}")
        lease.version += 1
        lease.owner = Owner(host_id, host.generation, lease.version)
        self._held[resource.lockspace, resource.name] = lease.version
        return lease.version

    def release(self, resource: Resource) -> None:
        if self.release_fails:
            raise LeaseFailed("the storage does not answer")
        key = (resource.lockspace, resource.name)
        if key in self._severed:
            self._severed.discard(key)
            raise LeasesDown("it went with the daemon")
        lease = self._lease(resource)
        host_id = self._host_ids.get(resource.lockspace)
        if lease.owner is not None and lease.owner.host_id == host_id:
            lease.owner = None
        self._held.pop((resource.lockspace, resource.name), None)
        self._drop(resource.lockspace)

    def is_lost(self, resource: Resource) -> bool:
        is_held = (resource.lockspace, resource.name) in self._held
        return not is_held or resource.lockspace in self._lost

    def lifeline(self, lockspace: str) -> int | None:
        return None  # nothing here outlives the process

    def read_owner(self, resource: Resource) -> Owner | None:
        return self._lease(resource).owner

    def hosts(self, lockspace: str) -> tuple[Host, ...]:
        if lockspace not in self._host_ids:
            raise NotHeld("this host is not in the lockspace")
        if lockspace in self.unread:
            self.unread.discard(lockspace)
            raise HostsUnknown("nothing was read yet")
        return tuple(self._storage.lockspaces[lockspace].values())

    def _drop(self, lockspace: str) -> None:
        """Leave a lost lockspace once nothing in it is held."""
        if lockspace not in self._lost:
            return
        if not any(space == lockspace for space, _ in self._held):
            self._lost.discard(lockspace)
            self._host_ids.pop(lockspace, None)

    def _lease(self, resource: Resource) -> _Lease:
        lease = self._storage.leases.get((resource.lockspace, resource.name))
        if lease is None:
            raise NotALease(f"{resource.name} was not written")
        return lease


_typed: type[Leases] = FakeLeases
