"""Templates in memory, and no storage that hangs: what `node.vm.templates` asks for."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from node.contract import templates
from node.contract.templates import Source, TemplateUnknown
from node.jobs import Progress
from node.model.ids import DiskId, JobId, NodeId, PoolId, TemplateId, VmId
from node.model.templates import Template
from node.model.vm import Disk, TemplateMark, Vm, VmSpec
from node.units import GiB, MiB
from node.vm.templates import Keeper
from tests.fakes.storage_service import LAN, NAS

DEBIAN: Final = TemplateId("7e400000-0000-4000-8000-0000000000aa")
ROOT: Final = DiskId("7e400000-0000-4000-8000-0000000000bb")
VM: Final = Vm(
    VmSpec(
        VmId(DEBIAN),
        "debian-12",
        512 * MiB,
        disks=(Disk(ROOT, "root", GiB, storage_domain_id=NAS),),
        pool_id=LAN,
    ),
    1,
    "2026-11-22T08:00:00.000Z",
    home=NAS,
    template=TemplateMark(),
)


class FakeTemplates:
    """One template from the start, `debian-12`."""

    def __init__(self) -> None:
        self.kept: dict[str, Vm] = {}
        self.restore()

    def restore(self) -> None:
        """Have the one template, and nothing else."""
        self.kept = {DEBIAN: VM}

    def list(self) -> tuple[Template, ...]:
        named = templates.named(self.kept.values())
        return tuple(templates.of(each) for each in named if each.template)

    def of_pool(self, pool_id: PoolId | None) -> tuple[Template, ...]:
        return self.list()

    def get(self, template_id: TemplateId) -> Vm:
        found = self.kept.get(template_id)
        if found is None:
            raise TemplateUnknown(f"there is no template {template_id}")
        return found

    def find(self, vm_id: VmId, pool_id: PoolId | None) -> Vm | None:
        return self.kept.get(vm_id)

    def homed(self, vm: Vm) -> Vm:
        return replace(vm, home=NAS)

    def make(
        self,
        vm: Vm,
        sources: Mapping[DiskId, Source],
        progress: Progress,
        check_idle: Callable[[], None],
        data_node_id: NodeId | None,
    ) -> None:
        check_idle()
        self.kept[vm.spec.vm_id] = vm

    def change(self, vm: Vm, based_on: int) -> None:
        self.kept[vm.spec.vm_id] = vm

    def delete(self, vm: Vm, progress: Progress) -> None:
        self.kept.pop(vm.spec.vm_id, None)

    def check_unused(self, vm: Vm) -> None:
        templates.check_unused(vm, self.kept.values(), {})

    def go_on(self, pool_id: PoolId | None, progress: Progress) -> None:
        """Have nothing to end."""

    def is_left(self, pool_id: PoolId | None, job_id: JobId) -> bool:
        return False


_typed: type[Keeper] = FakeTemplates
