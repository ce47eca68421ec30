"""Say what a VM is that is made of a template or of another VM's snapshot.

Pure; a node's command line and the aggregator both make VMs this way. Ids of disks
and cards follow from the VM's own, so that the same VM asked for again is the same.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from node.model.ids import DiskId, NicId, StorageDomainId, VmId
from node.model.templates import SnapshotCopied, Template
from node.model.vm import Disk, Nic, Snapshot, Vm, VmSpec


def spec(
    template: Template,
    vm_id: VmId,
    name: str,
    macs: Sequence[str],
    *,
    is_clone: bool = False,
    places: Mapping[DiskId, StorageDomainId] | None = None,
) -> VmSpec:
    """Return the definition; `macs` are for its cards, who has none gets no card.

    `places` say for disks of the template where the VM's disk lies: for a thin clone
    a storage domain that has a copy of the template's. None: where the template has it.
    """
    chosen = places or {}
    return replace(
        template.spec,
        vm_id=vm_id,
        name=name,
        disks=tuple(
            _disk(vm_id, disk, chosen, is_clone=is_clone)
            for disk in template.spec.disks
        ),
        nics=tuple(
            _nic(vm_id, nic, mac)
            for nic, mac in zip(template.spec.nics, macs, strict=False)
        ),
        template_id=template.template_id,
        is_clone=is_clone,
    )


def of_snapshot(
    original: Vm,
    snapshot: Snapshot,
    vm_id: VmId,
    name: str,
    mac_of: Callable[[NicId], str],
) -> tuple[VmSpec, SnapshotCopied]:
    """Return a VM that is what another was, and what its disks are copies of.

    They lie where those lie now; one that the VM has no more is left out. `mac_of`
    gives each of its cards, by their own ids, an address.
    """
    was, now = snapshot.spec or original.spec, original.spec
    places = {each.disk_id: each.storage_domain_id for each in now.disks}
    kept = {each.disk_id for each in snapshot.disks} & places.keys()
    disks = tuple(
        replace(
            each,
            disk_id=DiskId(_derived(vm_id, each.disk_id)),
            storage_domain_id=places[each.disk_id],
            volume_id=None,
            disk_format=None,
            from_disk_id=None,
        )
        for each in was.disks
        if each.disk_id in kept
    )
    cards = (NicId(_derived(vm_id, nic.nic_id)) for nic in was.nics)
    made = replace(
        was,
        vm_id=vm_id,
        name=name,
        disks=disks,
        nics=tuple(
            replace(nic, nic_id=nic_id, mac=mac_of(nic_id))
            for nic, nic_id in zip(was.nics, cards, strict=True)
        ),
        pool_id=now.pool_id,
        lease_domain_id=None,
        template_id=None,
        is_clone=False,
    )
    pairs = tuple((DiskId(_derived(vm_id, each)), each) for each in sorted(kept))
    return made, SnapshotCopied(now.vm_id, snapshot.snapshot_id, pairs)


def _disk(
    vm_id: VmId,
    disk: Disk,
    places: Mapping[DiskId, StorageDomainId],
    *,
    is_clone: bool,
) -> Disk:
    """Return a disk of the VM: what is built on another is a qcow2 file."""
    return replace(
        disk,
        disk_id=DiskId(_derived(vm_id, disk.disk_id)),
        storage_domain_id=places.get(disk.disk_id, disk.storage_domain_id),
        disk_format=disk.disk_format if is_clone else None,
        from_disk_id=disk.disk_id,
    )


def _nic(vm_id: VmId, nic: Nic, mac: str) -> Nic:
    return replace(nic, nic_id=NicId(_derived(vm_id, nic.nic_id)), mac=mac)


def _derived(vm_id: VmId, part: str) -> str:
    return str(uuid.uuid5(uuid.UUID(vm_id), part))
