"""Read the form of a new VM, and say what is wrong with it.

Pure. A draft keeps what was typed, so that a refused form comes back filled in.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from aggregator.api.model import NewVm
from aggregator.dashboard import disk_signs, property_rows
from aggregator.federation.view import View
from node.errors import Invalid
from node.model.ids import NodeId, TemplateId, VmId
from node.model.vm import Cpu, DiskInterface, Firmware
from node.units import GiB

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NUMBER = re.compile(r"\d{1,6}(?:[.,]\d{1,3})?", re.ASCII)
_COUNT = re.compile(r"\d{1,4}", re.ASCII)
_NAME_BYTES_MAX = 255
_APART = frozenset({"start", "properties"})  # not texts of fields of those names
TEMPLATE = "template/"  # what an id follows that is chosen in the place of an image


class BadDraft(Invalid):
    """A field of the form cannot be read: `field` names it."""

    code = "bad_draft"
    remedy = "Correct the field and send the form again."


@dataclass(frozen=True, slots=True)
class Draft:
    """The form as text."""

    vm_id: str
    name: str = ""
    description: str = ""
    image: str = ""  # empty: an empty disk
    memory_gib: str = "1"
    vcpus: str = "1"
    disk_gib: str = ""  # empty: as large as the image
    firmware: str = Firmware.BIOS.value
    interface: str = DiskInterface.VIRTIO.value
    network: str = ""
    node_id: str = ""  # empty: the aggregator chooses
    start: str = "yes"  # empty: it stays down
    properties: property_rows.Values = field(default_factory=dict)  # by name


@dataclass(frozen=True, slots=True)
class Choices:
    """What the form offers."""

    images: tuple[str, ...]
    networks: tuple[str, ...]
    nodes: tuple[tuple[str, str], ...]  # (id, name)
    templates: tuple[tuple[str, str], ...] = ()  # (what stands for it, name)
    buses: tuple[tuple[str, str], ...] = tuple(
        (each.value, name) for each, name in disk_signs.BUSES.items()
    )


def choices(view: View) -> Choices:
    """Return what the nodes of a View offer to a new VM."""
    nodes = sorted(view.nodes.values(), key=lambda node: node.name.casefold())
    return Choices(
        tuple(sorted({image for node in nodes for image in node.images})),
        tuple(
            sorted(
                {
                    network
                    for node in nodes
                    if node.facts
                    for network in node.facts.networks
                }
            )
        ),
        tuple((node.node_id, node.name) for node in nodes),
        tuple(
            (f"{TEMPLATE}{row.template_id}", f"{row.name}, {row.version}")
            for row in sorted(
                view.templates.values(), key=lambda row: (row.name, row.version)
            )
        ),
    )


def from_form(form: Mapping[str, str]) -> Draft:
    """Return the draft that a form holds; a box that is not ticked is absent."""
    names = Draft.__dataclass_fields__.keys()
    given = {name: form[name] for name in names - _APART if name in form}
    return Draft(
        **{"vm_id": "", **given},
        start=form.get("start", ""),
        properties=property_rows.read(form),
    )


def to_request(draft: Draft) -> NewVm:
    """Return what is asked for; BadDraft names the first field that is wrong."""
    vm_id = given_id(draft.vm_id)
    if not draft.name or len(draft.name.encode()) > _NAME_BYTES_MAX:
        raise BadDraft("the VM needs a name of 1 to 255 bytes", field="name")
    memory = gib(draft.memory_gib, "memory_gib", "memory")
    if memory is None:
        raise BadDraft("the VM needs memory", field="memory_gib")
    if not _COUNT.fullmatch(draft.vcpus) or int(draft.vcpus) == 0:
        raise BadDraft("the CPUs must be a number from 1 on", field="vcpus")
    if not draft.image and not draft.disk_gib:
        raise BadDraft("an empty disk needs a size", field="disk_gib")
    if draft.firmware not in list(Firmware):
        raise BadDraft("the firmware must be BIOS or UEFI", field="firmware")
    if draft.interface not in list(DiskInterface):
        raise BadDraft("the disk needs a bus of those offered", field="interface")
    if not draft.network:
        raise BadDraft("the VM needs a network", field="network")
    return NewVm(
        draft.name,
        draft.image or None,
        VmId(vm_id),
        memory,
        Cpu(cores=int(draft.vcpus)),
        gib(draft.disk_gib, "disk_gib", "disk") or 0,
        Firmware(draft.firmware),
        draft.network,
        draft.description,
        NodeId(draft.node_id) if draft.node_id else None,
        interface=DiskInterface(draft.interface),
        custom_properties=property_rows.given(draft.properties),
    )


def template_of(draft: Draft) -> TemplateId | None:
    """Return the template that a VM is to start from; None: it is an image."""
    if not draft.image.startswith(TEMPLATE):
        return None
    return TemplateId(given_id(draft.image.removeprefix(TEMPLATE)))


def given_id(text: str) -> str:
    """Return the id that a form brought along; BadDraft if it is none."""
    if not _UUID.fullmatch(text):
        raise BadDraft("the form has no id: open it anew", field="name")
    return text


def gib(text: str, field: str, meaning: str) -> int | None:
    """Return the bytes of a number of GiB; None if there is no number."""
    if not text:
        return None
    if not _NUMBER.fullmatch(text):
        raise BadDraft(f"the {meaning} must be a number of GiB", field=field)
    size_bytes = round(float(text.replace(",", ".")) * GiB)
    if size_bytes == 0:
        raise BadDraft(f"the {meaning} must be more than nothing", field=field)
    return size_bytes
