"""Say what a template is made of, what VMs take from it, and who needs it.

Pure. A template is a definition with a mark, and with copies of a VM's disks that
never change. Both siblings use this: `node.vm` decides, `node.storage` keeps what was
decided, in one step with the disks.
"""

import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from node.errors import Conflict, Invalid, NotFound
from node.model.ids import DiskId, NicId, StorageDomainId, TemplateId, VmId
from node.model.templates import ChangeTemplate, CreateTemplate, Template
from node.model.vm import Disk, TemplateMark, Vm, VmSpec


class TemplateUnknown(NotFound):
    """No storage domain within reach has the template."""

    code = "template_unknown"
    remedy = "Check the id against the list of templates."


class TemplateNameTaken(Conflict):
    code = "template_name_taken"
    remedy = "Choose another name, or make a version of the template that has it."


class TemplateDiffers(Conflict):
    """The id belongs to another template, or to a VM."""

    code = "template_differs"
    remedy = "Choose a new random UUID for each template."


class TemplateUsed(Conflict):
    """VMs, disks or versions are built on the template."""

    code = "template_used"
    remedy = "Delete what the message names first; full clones need no template."


class NotABase(Conflict):
    """Versions are made of the first one."""

    code = "template_not_a_base"
    remedy = "Name the template whose version number is 1."


class NotOfTemplate(Invalid):
    """A VM names disks that the template does not have."""

    code = "vm_not_of_template"
    remedy = "Look at the template again: each disk starts as one of its disks."


class BadTemplate(Invalid):
    code = "bad_template"
    remedy = "Correct the field named in the message and send it again."


@dataclass(frozen=True, slots=True)
class Source:
    """What a copy of a disk is made of."""

    disk_id: str
    volume_id: str | None = None  # None: the newest, or a template's only one


def of(vm: Vm) -> Template:
    """Return a template as it is told, from its definition."""
    assert vm.template is not None, "a template's definition bears its mark"
    mark = vm.template
    return Template(
        TemplateId(vm.spec.vm_id),
        vm.spec,
        vm.generation,
        vm.created_at,
        vm.home,
        mark.base_id,
        mark.version,
        mark.version_name,
    )


def copied(vm: Vm) -> tuple[Disk, ...]:
    """Return the disks of a VM that its template gets copies of.

    What several VMs share, or only read, is not the VM's own.
    """
    return tuple(
        disk for disk in vm.spec.disks if not disk.is_shared and not disk.is_read_only
    )


def define(
    request: CreateTemplate, vm: Vm, known: Iterable[Template], created_at: str
) -> Vm:
    """Return the definition of a template that is made of a VM; without its home.

    `known` are the templates of the pool. Raises NotABase, TemplateUnknown,
    TemplateNameTaken.
    """
    known = tuple(known)
    base = _base(request, known)
    name = request.name if base is None else base.name
    if base is None and any(each.name == name for each in known):
        raise TemplateNameTaken(f"there is a template {name} already", name=name)
    version = 1
    if base is not None:
        of_base = [each.version for each in known if each.base_id == base.template_id]
        version = max(of_base, default=base.version) + 1
    spec = replace(
        vm.spec,
        vm_id=VmId(request.template_id),
        name=name,
        description=request.description,
        disks=tuple(_disk(request, disk) for disk in copied(vm)),
        nics=tuple(
            replace(nic, nic_id=NicId(derived(request.template_id, nic.nic_id)), mac="")
            for nic in vm.spec.nics
        ),
        lease_domain_id=None,
        template_id=None,
        is_clone=False,
    )
    mark = TemplateMark(request.base_id, version, request.version_name)
    return Vm(spec, 1, created_at, template=mark)


def check_name_free(vm: Vm, others: Iterable[Vm]) -> None:
    """Refuse the name of another template; a version has its base's. A VM passes."""
    if vm.template is None or vm.template.base_id is not None:
        return
    for other in others:
        is_base = other.template is not None and other.template.base_id is None
        is_other = other.spec.vm_id != vm.spec.vm_id
        if is_base and is_other and other.spec.name == vm.spec.name:
            raise TemplateNameTaken(
                f"there is a template {vm.spec.name} already", name=vm.spec.name
            )


def check_id(value: str) -> None:
    """Refuse all but lower-case UUIDs: ids are names of folders. BadTemplate."""
    try:
        is_good = str(uuid.UUID(value)) == value
    except ValueError:
        is_good = False
    if not is_good:
        raise BadTemplate("template_id must be a lower-case UUID", field="template_id")


def is_same(request: CreateTemplate, vm: Vm) -> bool:
    """Tell whether what is there is what is asked for."""
    mark = vm.template
    return mark is not None and (mark.base_id, mark.version_name) == (
        request.base_id,
        request.version_name,
    )


def changed(vm: Vm, request: ChangeTemplate, known: Iterable[Template]) -> Vm:
    """Return the next generation of a template, or the same; TemplateNameTaken.

    A version's name is that of its base.
    """
    assert vm.template is not None, "a template's definition bears its mark"
    spec, mark = vm.spec, vm.template
    if request.name is not None and request.name != spec.name:
        if mark.base_id is not None:
            raise NotABase(f"{spec.name} is version {mark.version}", name=spec.name)
        if any(each.name == request.name for each in known):
            raise TemplateNameTaken(
                f"there is a template {request.name} already", name=request.name
            )
        spec = replace(spec, name=request.name)
    if request.description is not None:
        spec = replace(spec, description=request.description)
    if request.memory_bytes is not None:
        spec = replace(spec, memory_bytes=request.memory_bytes)
    if request.version_name is not None:
        mark = replace(mark, version_name=request.version_name)
    after = replace(vm, spec=spec, template=mark)
    return vm if after == vm else replace(after, generation=vm.generation + 1)


def named(vms: Iterable[Vm]) -> tuple[Vm, ...]:
    """Return definitions, in which each version has the name of its base.

    A version keeps the name that its base had when it was made: that stands where the
    base is not among them.
    """
    vms = tuple(vms)
    names = {str(vm.spec.vm_id): vm.spec.name for vm in vms if vm.template is not None}
    return tuple(_named(vm, names) for vm in vms)


def check_made_of(spec: VmSpec, template: Vm | None) -> None:
    """Refuse a VM that is not of its template: TemplateUnknown, NotOfTemplate."""
    named = {disk.from_disk_id for disk in spec.disks} - {None}
    if spec.template_id is None and not named:
        return
    if template is None or template.template is None:
        raise TemplateUnknown(
            f"template {spec.template_id} is on no active storage domain",
            template_id=spec.template_id,
        )
    strange = named - {disk.disk_id for disk in template.spec.disks}
    if strange:
        raise NotOfTemplate(
            f"template {template.spec.name} has no disk {min(map(str, strange))}",
            template_id=spec.template_id,
        )


def check_clone(spec: VmSpec, template: Vm | None) -> None:
    """Refuse what is no full clone of a template; NotOfTemplate."""
    sizes = (
        {disk.disk_id: disk.size_bytes for disk in template.spec.disks}
        if template is not None
        else {}
    )
    if template is None or not spec.is_clone:
        raise NotOfTemplate(f"VM {spec.name} is no full clone of a template")
    for disk in spec.disks:
        size_bytes = sizes.get(disk.from_disk_id or DiskId(""))
        if size_bytes is None or disk.size_bytes not in (0, size_bytes):
            raise NotOfTemplate(
                f"disk {disk.disk_id} is no copy of one of template "
                f"{template.spec.name}: it needs its id and its size",
                disk_id=disk.disk_id,
            )


def copy_id(template_id: str, disk_id: str) -> DiskId:
    """Return the id of the copy of a VM's disk that a template has."""
    return DiskId(derived(template_id, disk_id))


def check_unused(template: Vm, stored: Iterable[Vm], disks: Mapping[str, str]) -> None:
    """Refuse to delete what others need, and name them; TemplateUsed.

    `stored` are the definitions of the pool, `disks` those that are built on the
    template's: their names by their ids.
    """
    users = tuple(dict.fromkeys(_users(template, tuple(stored), disks)))
    if users:
        name = template.spec.name
        raise TemplateUsed(
            f"template {name} is needed by {', '.join(users)}",
            template_id=template.spec.vm_id,
            users=", ".join(users),
        )


def derived(owner_id: str, part: str) -> str:
    """Return an id that is the same whenever the same thing is made."""
    return str(uuid.uuid5(uuid.UUID(owner_id), part))


def _named(vm: Vm, names: Mapping[str, str]) -> Vm:
    name = names.get(str(vm.template.base_id)) if vm.template is not None else None
    if name is None or name == vm.spec.name:
        return vm
    return replace(vm, spec=replace(vm.spec, name=name))


def _base(request: CreateTemplate, known: Iterable[Template]) -> Template | None:
    if request.base_id is None:
        return None
    for each in known:
        if each.template_id == request.base_id and each.base_id is None:
            return each
        if each.template_id == request.base_id:
            raise NotABase(
                f"{each.name} is version {each.version}", template_id=request.base_id
            )
    raise TemplateUnknown(
        f"template {request.base_id} is on no active storage domain",
        template_id=request.base_id,
    )


def _disk(request: CreateTemplate, disk: Disk) -> Disk:
    where: StorageDomainId | None = request.storage_domain_id or disk.storage_domain_id
    return replace(
        disk,
        disk_id=copy_id(request.template_id, disk.disk_id),
        storage_domain_id=where,
        volume_id=None,
        from_disk_id=None,
        image=None,
    )


def _users(
    template: Vm, stored: tuple[Vm, ...], disks: Mapping[str, str]
) -> Iterator[str]:
    template_id = TemplateId(template.spec.vm_id)
    owned: set[str] = set()
    for vm in stored:
        ids = {str(disk.disk_id) for disk in vm.spec.disks}
        is_version = vm.template is not None and vm.template.base_id == template_id
        is_thin = vm.spec.template_id == template_id and not vm.spec.is_clone
        if is_version and vm.template is not None:
            yield f"its version {vm.template.version}"
        elif vm.template is None and (is_thin or ids & set(disks)):
            yield f"VM {vm.spec.name}"
        owned |= ids
    for disk_id, name in sorted(disks.items()):
        if disk_id not in owned:
            yield f"disk {name or disk_id}"
