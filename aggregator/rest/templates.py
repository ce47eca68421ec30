"""Show templates: those on pools, the base images of the nodes, and Blank.

A VM made from a base image has a disk that starts from it, and a card on the first
network that a node with the image offers.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aggregator.control import templating
from aggregator.federation.view import TemplateRow
from aggregator.rest import (
    compatibility,
    element,
    fleet,
    networks,
    permissions,
    select,
    vm_properties,
)
from aggregator.rest.call import Call
from aggregator.rest.element import Content, Element
from aggregator.rest.resource import (
    Below,
    Context,
    Field,
    Reference,
    Resource,
    empty,
)
from aggregator.rest.search import Kind, Query, SearchField
from aggregator.services import Services
from node import wire
from node.model.templates import Template as Kept
from node.model.verbs import Object
from node.model.vm import Cpu, Disk, DiskInterface, Vm, VmSpec
from node.units import GiB

BLANK_NAME: Final = "Blank"
_MAKING: Final = "template_create"
# What a VM gets whose creation does not say: as oVirt's Blank template has it.
MEMORY_BYTES: Final = 1 * GiB
CPU: Final = Cpu()


@dataclass(frozen=True, slots=True)
class Template:
    template_id: str
    name: str
    image: str | None = None  # the base image that it is
    kept: Kept | None = None  # as it lies on its pool; neither: Blank, or to come
    is_locked: bool = False  # its disks are being copied

    @property
    def spec(self) -> VmSpec | None:
        return self.kept.spec if self.kept is not None else None

    @property
    def is_blank(self) -> bool:
        return self.template_id == compatibility.BLANK_ID


BLANK: Final = Template(compatibility.BLANK_ID, BLANK_NAME)


def of_image(image: str | None) -> Template:
    """Return the template that an image is; Blank for none."""
    if image is None:
        return BLANK
    return Template(fleet.derived_id("template", image), image, image)


def of_row(row: TemplateRow) -> Template:
    """Return a template that lies on a pool."""
    return Template(row.template_id, row.name, kept=templating.template_of(row))


def of_vm(context: Context, spec: VmSpec | None) -> tuple[Template, Template]:
    """Return what a VM was made of: the template that it needs, and the original.

    A full clone needs none; the original of both may be gone.
    """
    if spec is None or spec.template_id is None:
        found = of_image(first_image(spec) if spec is not None else None)
        return found, found
    row = context.view.templates.get(spec.template_id)
    original = of_row(row) if row is not None else BLANK
    return (BLANK if spec.is_clone else original), original


def in_use(context: Context) -> tuple[Template, ...]:
    """Return Blank, one template for each image of a node, and those on pools."""
    view = context.view
    images = {image for node in view.nodes.values() for image in node.images}
    kept = sorted(view.templates.values(), key=lambda row: (row.name, row.version))
    return (
        BLANK,
        *(of_image(image) for image in sorted(images)),
        *map(of_row, kept),
    )


def default_network(context: Context, image: str | None) -> str | None:
    """Return the first network of the first node that has the image."""
    nodes = sorted(context.view.nodes.values(), key=lambda node: node.name)
    for node in nodes:
        has_image = image is None or image in node.images
        if has_image and node.facts is not None and node.facts.networks:
            return node.facts.networks[0]
    return None


@dataclass(frozen=True, slots=True)
class TemplateNic:
    nic_id: str
    name: str
    network: str


@dataclass(frozen=True, slots=True)
class TemplateDisk:
    disk_id: str
    template: Template
    disk: Disk | None = None  # None: it is a base image


def _nics(context: Context, template: Template) -> Iterable[TemplateNic]:
    if template.spec is not None:
        for nic in template.spec.nics:
            yield TemplateNic(nic.nic_id, nic.name, nic.network)
        return
    network = default_network(context, template.image)
    if template.image is not None and network is not None:
        nic_id = fleet.derived_id(template.template_id, "nic1")
        yield TemplateNic(nic_id, "nic1", network)


def _disks(context: Context, template: Template) -> Iterable[TemplateDisk]:
    if template.spec is not None:
        for disk in template.spec.disks:
            yield TemplateDisk(disk.disk_id, template, disk)
    elif template.image is not None:
        yield TemplateDisk(fleet.derived_id(template.template_id, "disk1"), template)


_NIC: Final[Resource[TemplateNic]] = Resource(
    "nic",
    "nics",
    lambda nic: nic.nic_id,
    (
        Field("name", lambda context, row: row.name),
        Field("interface", lambda context, row: "virtio"),
        Field("linked", lambda context, row: True),
        Field("plugged", lambda context, row: True),
    ),
    (
        Reference(
            "vnic_profile",
            lambda context, row: f"vnicprofiles/{networks.profile_id(row.network)}",
        ),
    ),
)

_DISK: Final[Resource[TemplateDisk]] = Resource(
    "disk_attachment",
    "disk_attachments",
    lambda disk: disk.disk_id,
    (
        Field("active", lambda context, row: True),
        Field(
            "bootable",
            lambda context, row: row.disk is None or row.disk.is_bootable,
        ),
        Field(
            "interface",
            lambda context, row: (
                (row.disk.interface if row.disk else DiskInterface.VIRTIO).value
            ),
        ),
        Field("read_only", lambda context, row: False),
        Field("pass_discard", lambda context, row: False),
        Field("uses_scsi_reservation", lambda context, row: False),
    ),
    (
        Reference(
            "template", lambda context, row: f"templates/{row.template.template_id}"
        ),
        Reference(
            "disk",
            lambda context, row: f"disks/{row.disk_id}" if row.disk else None,
        ),
    ),
)


def _description(context: Context, row: Template) -> str:
    return row.spec.description if row.spec is not None else ""


def _memory(row: Template) -> int:
    return row.spec.memory_bytes if row.spec is not None else MEMORY_BYTES


def _cpu(row: Template) -> Cpu:
    return row.spec.cpu if row.spec is not None else CPU


def version_of(row: Template) -> int:
    """Return its number among the versions of one name."""
    return row.kept.version if row.kept is not None else 1


def _version_name(context: Context, row: Template) -> str:
    named = row.kept.version_name if row.kept is not None else ""
    is_base = row.kept is None or row.kept.base_id is None
    return named or ("base version" if is_base else "")


def _base(context: Context, row: Template) -> Element:
    base_id = row.kept.base_id if row.kept is not None else None
    found = base_id or row.template_id
    href = f"{context.base}/templates/{found}"
    return element.reference("base_template", href, found)


def _status(context: Context, row: Template) -> str:
    return "locked" if row.is_locked else "ok"


def _made_at(context: Context, row: Template) -> Content:
    return element.moment(row.kept.created_at) if row.kept is not None else None


def _bios(context: Context, row: Template) -> str | None:
    if row.spec is None:
        return None
    return compatibility.bios_type(row.spec)


def machine_fields(
    memory: Callable[[Any], int], cpu: Callable[[Any], Cpu]
) -> tuple[Field[Any], ...]:
    """Return what VMs and templates show alike; the product has one way of each."""
    fields: tuple[tuple[str, Callable[[Any], Content]], ...] = (
        ("memory", memory),
        ("memory_policy/guaranteed", memory),
        ("memory_policy/max", memory),
        ("memory_policy/ballooning", lambda row: False),
        ("cpu/architecture", lambda row: "x86_64"),
        ("cpu/topology/sockets", lambda row: cpu(row).sockets),
        ("cpu/topology/cores", lambda row: cpu(row).cores),
        ("cpu/topology/threads", lambda row: cpu(row).threads),
        ("custom_cpu_model", lambda row: cpu(row).model),
        ("os/type", lambda row: "other"),
        (
            "os/boot/devices",
            lambda row: element.texts("devices", "device", ("hd",)),
        ),
        ("bios/boot_menu/enabled", lambda row: False),
        ("type", lambda row: "server"),
        ("display/type", lambda row: "vnc"),
        ("display/monitors", lambda row: 1),
        ("display/smartcard_enabled", lambda row: False),
        ("high_availability/enabled", lambda row: False),
        ("high_availability/priority", lambda row: 0),
        ("io/threads", lambda row: 0),
        ("usb/enabled", lambda row: False),
        ("sso/methods", lambda row: element.listed("methods", ())),
        ("stateless", lambda row: False),
        ("delete_protected", lambda row: False),
        ("start_paused", lambda row: False),
        ("multi_queues_enabled", lambda row: False),
        ("storage_error_resume_behaviour", lambda row: "leave_paused"),
        ("placement_policy/affinity", lambda row: "pinned"),
        ("migration/auto_converge", lambda row: "inherit"),
        ("migration/compressed", lambda row: "inherit"),
        ("time_zone/name", lambda row: "Etc/GMT"),
        ("origin", lambda row: "ovirt"),
    )
    return (
        *(Field(path, _of_row(read)) for path, read in fields),
        Field(
            "custom_properties",
            lambda context, row: vm_properties.shown(context, row.spec),
        ),
    )


def all_content_fields() -> tuple[Field[Any], ...]:
    """Return what `all_content` adds: the devices that every VM has."""
    fields: tuple[tuple[str, Content], ...] = (
        ("console/enabled", True),
        ("rng_device/source", "urandom"),
        ("soundcard_enabled", False),
        ("virtio_scsi/enabled", False),
    )
    return tuple(Field(path, _if_all(value)) for path, value in fields)


def _of_row(read: Callable[[Any], Content]) -> Callable[[Context, Any], Content]:
    return lambda context, row: read(row)


def _if_all(value: Content) -> Callable[[Context, Any], Content]:
    return lambda context, row: value if context.is_all_content else None


RESOURCE: Final[Resource[Template]] = Resource(
    "template",
    "templates",
    lambda template: template.template_id,
    (
        Field("name", lambda context, row: row.name),
        Field("description", _description),
        Field("comment", lambda context, row: ""),
        Field("status", _status),
        Field("creation_time", _made_at),
        Field("bios/type", _bios),
        Field("version/version_number", lambda context, row: version_of(row)),
        Field("version/version_name", _version_name),
        Field("version/base_template", _base),
        *machine_fields(_memory, _cpu),
        *all_content_fields(),
    ),
    (
        Reference(
            "cluster",
            lambda context, row: f"clusters/{context.fleet.cluster_of('').cluster_id}",
        ),
    ),
    (
        Below("diskattachments", _DISK, _disks),
        Below("nics", _NIC, _nics),
        empty("cdroms", "cdroms", "cdrom"),
        empty("graphicsconsoles", "graphics_consoles", "graphics_console"),
        empty("tags", "tags", "tag"),
        empty("watchdogs", "watchdogs", "watchdog"),
        Below(
            "permissions",
            permissions.RESOURCE,
            lambda context, row: permissions.on(context, Object.FLEET, None),
        ),
    ),
)


def find(services: Services, context: Context, object_id: str) -> Template | None:
    """Return the object of an id, or None; one that is being made is locked."""
    for each in in_use(context):
        if each.template_id == object_id:
            return each
    making = services.orders.making(_MAKING, object_id)
    if making is None:
        return None
    return Template(object_id, making.order.name, is_locked=True)


def first_image(spec: VmSpec) -> str | None:
    """Return the image that a VM's first disk with one starts from."""
    return next((disk.image for disk in spec.disks if disk.image is not None), None)


def _fields(context: Context) -> Mapping[str, SearchField[Template]]:
    def data_center(row: Template) -> tuple[str, ...]:
        # Blank belongs to none, and is found whichever is asked for.
        if row.is_blank:
            return tuple(each.name for each in context.fleet.data_centers)
        return (context.fleet.data_center_of(context.fleet.cluster_of("")).name,)

    def cluster(row: Template) -> tuple[str, ...]:
        if row.is_blank:
            return tuple(each.name for each in context.fleet.clusters)
        return (context.fleet.cluster_of("").name,)

    return {
        "id": SearchField(lambda row: row.template_id),
        "name": SearchField(lambda row: row.name),
        "description": SearchField(lambda row: _description(context, row)),
        "comment": SearchField(lambda row: ""),
        "status": SearchField(lambda row: "ok", Kind.STATUS),
        "version_name": SearchField(lambda row: _version_name(context, row)),
        "mem": SearchField(_memory, Kind.NUMBER),
        "datacenter": SearchField(data_center),
        "datacenter.name": SearchField(data_center),
        "cluster": SearchField(cluster),
        "cluster.name": SearchField(cluster),
        "vm.name": SearchField(lambda row: tuple(_vm_names(context, row))),
    }


def _vm_names(context: Context, template: Template) -> Iterable[str]:
    """Yield the names of the VMs that were made from a template."""
    if template.kept is not None:
        template_id = template.kept.template_id
        yield from (vm.name for vm in templating.users(context.view, template_id))
        return
    needle = template.image.encode() if template.image is not None else b""
    for vm in context.view.vms.values():
        if vm.vm_document and needle in vm.vm_document:
            spec = wire.decode(Vm, vm.vm_document, strict=False).spec
            is_of = spec.template_id is None or spec.is_clone
            if is_of and first_image(spec) == template.image:
                yield vm.name


def select_rows(call: Call, query: Query, maximum: int | None) -> Iterable[Template]:
    """Return the templates that a search asks for."""
    return select.rows(
        in_use(call.context),
        query,
        maximum,
        _fields(call.context),
        is_case_sensitive=call.parameters.flag("case_sensitive"),
    )
