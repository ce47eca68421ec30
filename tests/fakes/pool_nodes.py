"""Nodes with a pool on real folders; their storage process and sanlock are fakes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from node.model.ids import NodeId
from node.storage.domains import formatting
from node.storage.domains.access import Access, LocalFolders
from node.storage.formats.domain_meta import DomainClass, DomainMeta, DomainType
from node.storage.formats.layout import Layout
from node.storage.formats.pool_map import PoolMap
from node.storage.spm.pool import Options, Pool
from node.storage.spm.term import Term
from tests.fakes.clock import FakeClock
from tests.fakes.leases import FakeLeaseStorage
from tests.fakes.mounts import FakeMounts
from tests.fakes.pool_guard import PoolGuard

NOW_S = 1_700_000_000
LOCAL_FOLDERS = LocalFolders(FakeMounts().find)


@dataclass(slots=True)
class PoolNode:
    node_id: NodeId
    guard: PoolGuard
    clock: FakeClock
    pool: Pool
    recovered: list[Term]
    remembered: list[PoolMap]

    @property
    def host_id(self) -> int:
        (joined, *_) = self.guard.lockspaces()
        return joined.host_id


@dataclass(slots=True)
class PoolWorld:
    """One shared storage; domains are folders of it."""

    folder: Path
    pool_id: str
    storage: FakeLeaseStorage = field(default_factory=FakeLeaseStorage)
    clock: FakeClock = field(default_factory=FakeClock)
    has_watchdog: bool = True

    def node(
        self,
        node_id: str,
        recover: Callable[[Term], None] | None = None,
        guard: PoolGuard | None = None,
        known: PoolMap | None = None,
        local_folders: LocalFolders = LOCAL_FOLDERS,
    ) -> PoolNode:
        """`guard` is the storage process that runs there already, `known` its map."""
        guard = guard or PoolGuard(storage=self.storage, machine=node_id)
        recovered: list[Term] = []
        remembered: list[PoolMap] = []
        pool = Pool(
            self.pool_id,
            NodeId(node_id),
            guard,
            self.clock,
            local_folders=local_folders,
            recover=recover or recovered.append,
            remember=remembered.append,
            has_watchdog=lambda: self.has_watchdog,
            known=known,
            options=Options(io_timeout_s=1, images=self.folder / "images"),
        )
        made = PoolNode(NodeId(node_id), guard, self.clock, pool, recovered, remembered)
        return made

    def access(self, storage_domain_id: str, is_local: bool = False) -> Access:
        mount = self.folder / f"mount-{storage_domain_id[:4]}"
        mount.mkdir(exist_ok=True)
        layout = Layout(PurePosixPath(mount) / storage_domain_id)
        return Access(layout, f"nas:/{storage_domain_id[:4]}", is_local)

    def make(
        self,
        node: PoolNode,
        storage_domain_id: str,
        domain_class: DomainClass = DomainClass.DATA,
        is_local: bool = False,
    ) -> Access:
        """Format a storage domain and connect a node to it."""
        access = self.access(storage_domain_id, is_local)
        meta = DomainMeta(
            storage_domain_id, DomainType.POSIXFS, domain_class, "one", access.source
        )
        formatting.make(node.guard, access, meta, NOW_S, LOCAL_FOLDERS)
        node.pool.connect(access)
        return access
