"""Export storage domains that take whatever comes, and keep its id."""

from collections.abc import Callable, Mapping

from node.contract.exports import Exports, NotExported, VmExported
from node.jobs import Progress
from node.model.ids import DiskId, PoolId, StorageDomainId, VmId
from node.model.vm import Vm


class FakeExports:
    def __init__(self) -> None:
        self.kept: set[tuple[VmId, StorageDomainId]] = set()

    def check(
        self, vm: Vm, target: StorageDomainId, *, is_replacing: bool = False
    ) -> None:
        if not is_replacing and (vm.spec.vm_id, target) in self.kept:
            raise VmExported(f"VM {vm.spec.name} lies there")

    def is_done(self, vm: Vm, target: StorageDomainId, at: str) -> bool:
        return False

    def make_way(self, vm: Vm, target: StorageDomainId, progress: Progress) -> None:
        self.kept.discard((vm.spec.vm_id, target))

    def write(
        self,
        vm: Vm,
        target: StorageDomainId,
        at: str,
        progress: Progress,
        check_idle: Callable[[], None],
    ) -> None:
        check_idle()
        self.kept.add((vm.spec.vm_id, target))

    def check_removal(self, vm_id: VmId, origin: StorageDomainId) -> PoolId:
        if not self.lies(vm_id, origin):
            raise NotExported(f"VM {vm_id} does not lie there")
        return PoolId(origin)

    def lies(self, vm_id: VmId, origin: StorageDomainId) -> bool:
        return (vm_id, origin) in self.kept

    def remove(self, vm_id: VmId, origin: StorageDomainId, progress: Progress) -> None:
        self.kept.discard((vm_id, origin))

    def check_import(self, vm: Vm) -> None:
        """Have room for any."""

    def bring(
        self,
        vm: Vm,
        origin: StorageDomainId,
        sources: Mapping[DiskId, DiskId],
        progress: Progress,
    ) -> None:
        """Copy nothing."""

    def go_on(self, pool_id: PoolId | None, progress: Progress) -> None:
        """Have nothing to end."""


_typed: type[Exports] = FakeExports
