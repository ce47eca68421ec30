"""Let limits of disks that were changed hold for the guests that run here.

What a disk is limited to lies beside it on its storage domain, and that counts: a
change is done when it is written there, by whichever manager. Each node looks there for
its own guests, so no order goes to them, and none is lost.
"""

import logging
from collections.abc import Iterator

from node.contract.volumes import Volumes
from node.errors import Error
from node.model.ids import DiskId, StorageDomainId, VmId
from node.model.storage import DiskQos
from node.model.vm import Disk, VmEntry
from node.system.hypervisor import DeviceMissing, DomainMissing, Hypervisor
from node.vm import domxml, states
from node.vm.devices import disk as disk_device
from node.vm.register import VmRegister

log = logging.getLogger(__name__)

# A disk of one run of a VM.
_Key = tuple[VmId, str, DiskId]


class Limiter:
    """Knows which limits the guests here have; one thread for each storage domain."""

    def __init__(
        self, hypervisor: Hypervisor, register: VmRegister, volumes: Volumes
    ) -> None:
        self._hypervisor = hypervisor
        self._register = register
        self._volumes = volumes
        self._known: dict[StorageDomainId, dict[_Key, DiskQos]] = {}

    def places(self) -> frozenset[StorageDomainId]:
        """Return the storage domains that guests here have disks on."""
        return frozenset(place for _, place, _ in self._disks())

    def tend(self, storage_domain_id: StorageDomainId) -> None:
        """Let all guests here have the limits of their disks on a storage domain.

        What goes wrong with one keeps no other from it, and is raised in the end.
        """
        before = self._known.get(storage_domain_id, {})
        known: dict[_Key, DiskQos] = {}
        failure: Error | None = None
        for entry, place, disk in self._disks():
            if place != storage_domain_id:
                continue
            key = (entry.run.vm_id, entry.run.started_at or "", disk.disk_id)
            try:
                known[key] = self._limit(entry, disk, before.get(key))
            except (DomainMissing, DeviceMissing):
                continue  # it has ended, or let the disk go
            except Error as error:
                failure = failure or error
        self._known[storage_domain_id] = known
        if failure is not None:
            raise failure

    def _limit(self, entry: VmEntry, disk: Disk, known: DiskQos | None) -> DiskQos:
        """Return the limits of a disk, which its guest has now, if it has the disk."""
        wanted = self._volumes.limits(disk)
        if wanted == known:
            return wanted
        vm_id, alias = entry.run.vm_id, disk_device.alias(disk.disk_id)
        now = domxml.disk_limits(self._hypervisor.observe(vm_id).xml, alias)
        if now is not None and now != wanted:
            tuning = disk_device.tuning(wanted)
            self._hypervisor.limit_disk(vm_id, f"ua-{alias}", tuning)
            log.info("VM %s: disk %s has other limits", vm_id, disk.disk_id)
        return wanted

    def _disks(self) -> Iterator[tuple[VmEntry, StorageDomainId, Disk]]:
        for entry in self._register.list():
            if states.is_active(entry.run.state):
                for disk in entry.vm.spec.disks:
                    if disk.storage_domain_id is not None:
                        yield entry, disk.storage_domain_id, disk
