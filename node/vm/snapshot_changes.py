"""Say what VMs' snapshots need of the storage: who changes what lies there."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from node.contract.snapshots import Change, Leaf
from node.jobs import Progress
from node.model.ids import NodeId, PoolId
from node.model.vm import Vm


class VmChanges(Protocol):
    """What changes snapshots on the storage; `node.storage.pools.volumes` does."""

    def check_manager(self, vm: Vm) -> None: ...

    def check_data_node(
        self, pool_id: PoolId | None, data_node_id: NodeId | None
    ) -> None: ...

    def holding(self, vm: Vm) -> AbstractContextManager[int | None]: ...

    def go_on(self, vm: Vm, progress: Progress) -> None: ...

    def is_closed(self, vm: Vm, leaf: Leaf) -> bool: ...

    def close(self, vm: Vm, leaf: Leaf, version: int | None) -> None: ...

    def reshape(
        self,
        vm: Vm,
        change: Change,
        progress: Progress,
        check_idle: Callable[[], None],
        *,
        is_running: bool,
        data_node_id: NodeId | None,
    ) -> Vm: ...
