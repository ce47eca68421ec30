"""What the aggregator's own API says of templates. Sizes are bytes."""

from dataclasses import dataclass

from node.model.ids import NodeId, StorageDomainId, VmId
from node.model.templates import Template


@dataclass(frozen=True, slots=True)
class TemplateLine:
    template: Template
    pool_name: str = ""
    vm_names: tuple[str, ...] = ()  # the VMs that need it


@dataclass(frozen=True, slots=True)
class TemplateLines:
    templates: tuple[TemplateLine, ...]


@dataclass(frozen=True, slots=True)
class NewVmOfTemplate:
    """None: as the template has it."""

    name: str
    vm_id: VmId | None = None  # chosen by the caller: asked twice, it is one VM
    is_clone: bool = False
    storage_domain_id: StorageDomainId | None = None  # of all its disks
    memory_bytes: int | None = None
    description: str | None = None
    data_node_id: NodeId | None = None  # copies the disks of a clone
