"""Complete what a person asks for into the definition that a node needs.

Pure but for the ids and the MAC address, which come from the caller.
"""

import uuid

from aggregator.api.model import AttachVmDisk, NewVm
from aggregator.control import routes
from aggregator.federation.view import View
from aggregator.macs import free_mac
from node import wire
from node.errors import Invalid
from node.model.ids import DiskId, NicId, PoolId, StorageDomainId, VmId
from node.model.storage import DiskDocument
from node.model.vm import Disk, Nic, Vm, VmSpec
from node.policy import properties
from node.units import GiB

BLANK_DISK_BYTES = 8 * GiB  # when neither an image nor a size is given


class NoImage(Invalid):
    code = "no_such_image"
    remedy = "See `skerry node list` for the images that nodes have."


class DomainOfNoPool(Invalid):
    code = "storage_domain_of_no_pool"
    remedy = "Attach the storage domain to a data center first."


def spec(view: View, request: NewVm) -> VmSpec:
    """Return the whole definition.

    Raises NoImage, DomainOfNoPool, NoManager, StorageDomainNotFound.
    """
    vm_id = request.vm_id or VmId(str(uuid.uuid4()))
    return VmSpec(
        vm_id,
        request.name,
        request.memory_bytes,
        request.cpu,
        request.firmware,
        (_disk(view, vm_id, request),),
        (
            Nic(
                NicId(_derived(vm_id, "nic1")),
                "nic1",
                _mac(view, vm_id),
                request.network,
            ),
        ),
        request.description,
        pool_id=_pool(view, request.storage_domain_id),
        custom_properties=properties.edited((), request.custom_properties),
    )


def existing_disk(view: View, request: AttachVmDisk) -> Disk:
    """Return a pool's disk as a VM's definition names it; DiskNotFound."""
    row = routes.disk(view, request.disk_id)
    document = wire.decode(DiskDocument, row.document, strict=False)
    return Disk(
        row.disk_id,
        row.name,
        row.size_bytes,
        is_bootable=request.is_bootable,
        storage_domain_id=next(iter(row.storage_domain_ids), None),
        disk_format=document.disk_format,
        is_read_only=request.is_read_only,
        is_shared=document.is_shared,
        qos=document.qos,
        interface=request.interface,
    )


def _pool(view: View, storage_domain_id: StorageDomainId | None) -> PoolId | None:
    """Return the pool that a VM belongs to by where its disk lies."""
    if storage_domain_id is None:
        return None
    row = routes.domain(view, storage_domain_id)
    if row.pool_id is None:
        raise DomainOfNoPool(f"{row.name} is in no pool", field="storage_domain_id")
    return row.pool_id


def _disk(view: View, vm_id: VmId, request: NewVm) -> Disk:
    _check_image(view, request)
    size = request.disk_bytes or (0 if request.image else BLANK_DISK_BYTES)
    disk_id = DiskId(_derived(vm_id, "disk1"))
    return Disk(
        disk_id,
        "disk1",
        size,
        request.image,
        is_bootable=True,
        storage_domain_id=request.storage_domain_id,
        interface=request.interface,
    )


def _check_image(view: View, request: NewVm) -> None:
    """Refuse an image that nobody has who could make a disk of it; NoImage."""
    if request.image is None:
        return
    pool_id = _pool(view, request.storage_domain_id)
    if pool_id is None:
        nodes = tuple(view.nodes.values())
        complaint = f"no node has an image named {request.image}"
    else:
        manager = view.nodes[routes.manager(view, pool_id)]
        nodes = (manager,)
        complaint = f"{manager.name}, which manages the pool, has no {request.image}"
    if not any(request.image in node.images for node in nodes):
        raise NoImage(complaint, field="image")


def _mac(view: View, vm_id: VmId) -> str:
    """Return the address that the VM has, if it was made before, else a free one."""
    known = view.vms.get(vm_id)
    if known is not None:
        nics = wire.decode(Vm, known.vm_document, strict=False).spec.nics
        if nics:
            return nics[0].mac
    return free_mac(view, vm_id)


def _derived(vm_id: VmId, part: str) -> str:
    """Return an id that is the same whenever the same VM is asked for."""
    return str(uuid.uuid5(uuid.UUID(vm_id), part))
