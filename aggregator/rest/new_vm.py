"""Understand what oVirt's clients send to make a VM, as the definition it means.

Pure but for fresh ids. Required as in oVirt: a cluster, a name, a template.
"""

import re
import unicodedata
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from aggregator import macs
from aggregator.control import templating
from aggregator.federation.view import DiskRow
from aggregator.rest import (
    networks,
    new_disk,
    parents,
    storage,
    templates,
    vm_properties,
)
from aggregator.rest.body import BadValue, Body, Incomplete
from aggregator.rest.fleet import Cluster
from aggregator.rest.resource import Context
from aggregator.rest.templates import Template
from node.model.ids import DiskId, NicId, PoolId, StorageDomainId, VmId
from node.model.storage import DiskFormat
from node.model.templates import Template as Kept
from node.model.vm import (
    Cpu,
    CpuMode,
    Disk,
    DiskInterface,
    Firmware,
    Nic,
    ResumeBehavior,
    VmSpec,
)

_NAME_BYTES_MAX: Final = 255
_MAC: Final = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_FIRMWARE: Final = {"q35_ovmf": Firmware.UEFI, "q35_secure_boot": Firmware.UEFI}


def random_id() -> str:
    """Return a new UUID."""
    return str(uuid.uuid4())


def spec(
    context: Context,
    body: Body,
    new_id: Callable[[], str] = random_id,
    *,
    is_clone: bool = False,
) -> VmSpec:
    """Return the definition; Incomplete or BadValue if the request is not one.

    `is_clone`: with full copies of the template's disks.
    """
    cluster = _cluster(context, body)
    name = unicodedata.normalize("NFC", (body.string("name") or "").strip())
    if not name:
        raise Incomplete("Vm [name] required for add")
    if len(name.encode("utf-8")) > _NAME_BYTES_MAX:
        raise BadValue(f"name is longer than {_NAME_BYTES_MAX} bytes", field="name")
    template = _template(context, body)
    vm_id = VmId(new_id())
    memory = body.integer("memory")
    if memory is not None and memory <= 0:
        raise BadValue("memory must be greater than 0", field="memory")
    given = vm_properties.wanted(body)
    if template.kept is not None:
        made = _made_of(context, body, template.kept, vm_id, name, is_clone=is_clone)
        nics = tuple(_nics(context, body, template, new_id))
        more = tuple(_disks(context, body, template, new_id))
        return replace(
            made,
            disks=(*made.disks, *more),
            memory_bytes=memory if memory is not None else made.memory_bytes,
            cpu=_cpu(body) if body.child("cpu").is_present else made.cpu,
            nics=nics or made.nics,
            description=body.string("description") or made.description,
            lease_domain_id=_lease(context, body),
            resume_behavior=_resume_behavior(body),
            custom_properties=made.custom_properties if given is None else given,
        )
    disks = tuple(_disks(context, body, template, new_id))
    return VmSpec(
        vm_id,
        name,
        memory if memory is not None else templates.MEMORY_BYTES,
        _cpu(body),
        _FIRMWARE.get(body.string("bios/type") or "", Firmware.BIOS),
        disks,
        tuple(_nics(context, body, template, new_id)),
        body.string("description") or "",
        body.string("custom_emulated_machine") or None,
        pool_id=_pool(context, cluster, disks),
        lease_domain_id=_lease(context, body),
        resume_behavior=_resume_behavior(body),
        custom_properties=given or (),
    )


def _made_of(
    context: Context,
    body: Body,
    template: Kept,
    vm_id: VmId,
    name: str,
    *,
    is_clone: bool,
) -> VmSpec:
    """Return a VM of a template; attachments say where the disks go, and as what."""
    places: dict[DiskId, StorageDomainId] = {}
    formats: dict[DiskId, DiskFormat] = {}
    for attachment in body.all("disk_attachments/disk_attachment"):
        wanted = attachment.child("disk")
        disk_id = _named_disk(wanted)
        row = new_disk.storage_domain_row(context, wanted)
        chosen = new_disk.disk_format(wanted)
        if row is not None:
            places[disk_id] = row.storage_domain_id
        if chosen is not None:
            formats[disk_id] = chosen
    made = templating.spec(
        context.view,
        template.template_id,
        vm_id,
        name,
        is_clone=is_clone,
        places=places,
    )
    if not is_clone:
        return made
    copies = (
        replace(disk, disk_format=formats.get(disk.from_disk_id, disk.disk_format))
        for disk in made.disks
        if disk.from_disk_id is not None
    )
    return replace(made, disks=tuple(copies))


def _named_disk(wanted: Body) -> DiskId:
    return DiskId(wanted.object_id() or wanted.string("image_id") or "")


def _cluster(context: Context, body: Body) -> Cluster:
    cluster = body.child("cluster")
    cluster_id, name = cluster.object_id(), cluster.string("name")
    if not cluster_id and not name:
        raise Incomplete("Vm [cluster.id|name] required for add")
    for each in context.fleet.clusters:
        if each.cluster_id == cluster_id if cluster_id else each.name == name:
            return each
    raise parents.NoSuchParent(f"there is no cluster {cluster_id or name}")


def _template(context: Context, body: Body) -> Template:
    wanted = body.child("template")
    template_id, name = wanted.object_id(), wanted.string("name")
    if not template_id and not name:
        raise Incomplete("Vm [template.id|name] required for add")
    number = wanted.integer("version_number")
    found = [
        each
        for each in templates.in_use(context)
        if template_id == each.template_id or (not template_id and name == each.name)
    ]
    # One name is that of several versions: the newest, unless one is asked for.
    for each in sorted(found, key=templates.version_of, reverse=True):
        if number is None or template_id or templates.version_of(each) == number:
            return each
    raise parents.NoSuchParent(f"there is no template {template_id or name}")


def _cpu(body: Body) -> Cpu:
    counts = {}
    for name in ("sockets", "cores", "threads"):
        count = body.integer(f"cpu/topology/{name}")
        if count is not None and not 0 < count <= 4096:
            raise BadValue(f"cpu.topology.{name} must be 1 to 4096", field=name)
        counts[name] = count or 1
    model = body.string("custom_cpu_model") or None
    passes_host = body.string("cpu/mode") == "host_passthrough"
    mode = CpuMode.HOST_PASSTHROUGH if passes_host else CpuMode.HOST_MODEL
    return Cpu(CpuMode.NAMED if model else mode, model, **counts)


def _disks(
    context: Context, body: Body, template: Template, new_id: Callable[[], str]
) -> Iterator[Disk]:
    """Yield the template's disk, then those that the request names or describes.

    An attachment with the id of a disk that no pool has speaks of the template's: it
    says where that goes. If none does, a base image becomes a disk on the VM's node.
    """
    own = {disk.disk_id for disk in template.spec.disks} if template.spec else set()
    has_boot_disk = template.image is not None or bool(own)
    if template.image is not None:
        disk_id = DiskId(new_id())
        where = _image_place(context, body)
        yield Disk(
            *(disk_id, "disk1", 0, template.image),
            is_bootable=True,
            storage_domain_id=where,
        )
    number = max(len(own), 1) if has_boot_disk else 0
    for attachment in body.all("disk_attachments/disk_attachment"):
        wanted = attachment.child("disk")
        disk_id = DiskId(wanted.object_id() or "")
        if _named_disk(wanted) in own:
            continue
        row = context.view.disks.get(disk_id)
        if row is None and (disk_id or wanted.string("image_id")):
            if template.image is None:
                raise parents.NoSuchParent(f"there is no disk {disk_id}")
            continue
        number += 1
        is_bootable = bool(attachment.boolean("bootable")) and not has_boot_disk
        has_boot_disk = has_boot_disk or is_bootable
        if row is not None:
            yield existing_disk(row, attachment, is_bootable=is_bootable)
        else:
            disk_id = DiskId(new_id())
            name = f"disk{number}"
            made = _new_disk(context, wanted, disk_id, name, is_bootable=is_bootable)
            yield replace(made, interface=interface(attachment))


def _image_place(context: Context, body: Body) -> StorageDomainId | None:
    """Return where the disk of a base image goes; None: the request does not say."""
    for attachment in body.all("disk_attachments/disk_attachment"):
        wanted = attachment.child("disk")
        disk_id = _named_disk(wanted)
        if disk_id and disk_id not in context.view.disks:
            row = new_disk.storage_domain_row(context, wanted)
            return row.storage_domain_id if row is not None else None
    return None


def existing_disk(row: DiskRow, attachment: Body, *, is_bootable: bool) -> Disk:
    """Return a pool's disk as a VM's definition names it."""
    document = storage.disk_document(row)
    return Disk(
        row.disk_id,
        row.name,
        row.size_bytes,
        is_bootable=is_bootable,
        storage_domain_id=row.storage_domain_ids[0],
        disk_format=document.disk_format,
        is_read_only=bool(attachment.boolean("read_only")),
        is_shared=document.is_shared,
        qos=document.qos,
        interface=interface(attachment),
    )


def interface(attachment: Body) -> DiskInterface:
    """Return the bus that an attachment asks for; BadValue if there is none such."""
    wanted = attachment.string("interface") or DiskInterface.VIRTIO.value
    if wanted not in list(DiskInterface):
        raise BadValue(f"a disk cannot be on {wanted!r:.80}", field="interface")
    return DiskInterface(wanted)


def _new_disk(
    context: Context, body: Body, disk_id: DiskId, name: str, *, is_bootable: bool
) -> Disk:
    """Return a disk to be made: on a storage domain if the request names one."""
    size_bytes = new_disk.size(body)
    if size_bytes is None:
        raise Incomplete("Disk [provisioned_size] required for add")
    row = new_disk.storage_domain_row(context, body)
    return Disk(
        disk_id,
        new_disk.name(body) or name,
        size_bytes,
        is_bootable=is_bootable,
        storage_domain_id=row.storage_domain_id if row is not None else None,
        disk_format=new_disk.disk_format(body) if row is not None else None,
    )


def _pool(context: Context, cluster: Cluster, disks: tuple[Disk, ...]) -> PoolId | None:
    """Return the pool that a VM belongs to: that of its disks.

    One without disks belongs to the pool that the data center shares: clients of
    oVirt make a VM first, and give it disks then.
    """
    if not disks:
        pool = storage.shared_pool(context, cluster.data_center_id)
        return pool.pool_id if pool is not None else None
    rows = context.view.storage_domains
    ids = (each.storage_domain_id for each in disks)
    pools = {rows[each].pool_id for each in ids if each is not None and each in rows}
    if len(pools) > 1:
        text = "the disks of a VM must be on storage domains of one pool"
        raise BadValue(text, field="disk_attachments")
    return pools.pop() if pools else None


def _lease(context: Context, body: Body) -> StorageDomainId | None:
    """Return where the VM's lease shall lie; None if the request does not say."""
    row = parents.storage_domain(context, body.child("lease/storage_domain"))
    return row.storage_domain_id if row is not None else None


def _resume_behavior(body: Body) -> ResumeBehavior:
    text = body.string("storage_error_resume_behaviour")
    if text is None:
        return ResumeBehavior.AUTO_RESUME
    try:
        return ResumeBehavior(text)
    except ValueError as error:
        raise BadValue(f"there is no resume behaviour {text!r}", field="vm") from error


def _nics(
    context: Context, body: Body, template: Template, new_id: Callable[[], str]
) -> Iterator[Nic]:
    """Yield the cards that the request describes, else the template's."""
    described = list(body.all("nics/nic"))
    if not described:
        network = templates.default_network(context, template.image)
        if template.image is not None and network is not None:
            nic_id = NicId(new_id())
            yield Nic(nic_id, "nic1", macs.free_mac(context.view, nic_id), network)
        return
    for number, each in enumerate(described, 1):
        nic_id = NicId(new_id())
        mac = (each.string("mac/address") or "").lower()
        if mac and not _MAC.fullmatch(mac):
            raise BadValue(f"{mac!r} is no MAC address", field="mac")
        if mac and macs.is_taken(context.view, mac):
            raise BadValue(f"a VM has the MAC address {mac} already", field="mac")
        name = each.string("name") or f"nic{number}"
        linked = each.boolean("linked")
        yield Nic(
            nic_id,
            name,
            mac or macs.free_mac(context.view, nic_id),
            _network(context, each),
            is_linked=linked is not False,
        )


def _network(context: Context, nic: Body) -> str:
    """Return the network that a card's profile or network names."""
    for element, of_profile in (("vnic_profile", True), ("network", False)):
        wanted = nic.child(element)
        if not wanted.is_present:
            continue
        wanted_id, name = wanted.object_id(), wanted.string("name")
        for network in networks.in_use(context):
            network_id = network.profile_id if of_profile else network.network_id
            if wanted_id == network_id or (not wanted_id and name == network.name):
                return network.name
        raise parents.NoSuchParent(f"there is no {element} {wanted_id or name}")
    raise Incomplete("Nic [vnic_profile.id|name] required for add")
