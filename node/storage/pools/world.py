"""What all pools of a node are handed: who we are, and whom we ask."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from node.clock import Clock
from node.jobs import Jobs
from node.model.ids import NodeId, StorageDomainId, VmId
from node.model.vm import Vm
from node.policy.spm import Timing
from node.storage.disks.work import Holding, holding_nobody
from node.storage.guard import Guard
from node.storage.pools.reach import Reach
from node.storage.pools.visits import Visits
from node.storage.pools.wanted import Memory
from node.storage.spm.pool import Options


@dataclass(frozen=True, slots=True)
class Use:
    """A guest of this node runs with a disk of a pool."""

    vm_id: VmId
    storage_domain_id: StorageDomainId


def _nothing() -> None:
    """Hear news."""


def _nobody(_disk_id: str) -> str | None:
    """Know of no VM."""
    return None


def _nothing_defined(_vm: Vm) -> None:
    """Hear of a definition."""


def _nothing_of(_code: str, _fields: Mapping[str, str]) -> None:
    """Hear of an event."""


@dataclass(frozen=True, slots=True)
class World:
    node_id: NodeId
    node_name: str
    guard: Guard
    clock: Clock
    jobs: Jobs
    memory: Memory
    reach: Reach
    has_watchdog: Callable[[], bool]
    hears_leader: Callable[[], bool]
    uses: Callable[[], Mapping[str, Use]]  # the disks that guests here run with
    # Which VM of the pool runs with a disk on another node; leases tell.
    user_elsewhere: Callable[[str], str | None] = _nobody
    # Lets no node start a VM that has one of these disks; yields how to let it go.
    holding: Holding = holding_nobody
    on_defined: Callable[[Vm], object] = _nothing_defined  # a job has changed it
    # Something is to be told; it must not wait. An event, with its fields.
    on_news: Callable[[], None] = _nothing
    tell: Callable[[str, Mapping[str, str]], None] = _nothing_of
    on_problems: Callable[[], None] = _nothing  # what cannot be used is another
    options: Options = field(default_factory=Options)
    timing: Timing = field(default_factory=Timing)
    visits: Visits = field(default_factory=Visits)

    def vm_of(self, disk_id: str) -> str | None:
        """Return which VM runs with a disk, here or elsewhere; None: none does."""
        use = self.uses().get(disk_id)
        return use.vm_id if use is not None else self.user_elsewhere(disk_id)

    @property
    def node(self) -> tuple[NodeId, str]:
        return self.node_id, self.node_name
