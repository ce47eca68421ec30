"""Say what a VM is that is made of a snapshot: a full copy of what another was. Pure.

Its disks are copies under new ids, its network cards have new addresses. Asked again
with the same id it is the same VM.
"""

from aggregator import macs
from aggregator.control import pool_vms, routes
from aggregator.federation.view import View
from node.errors import NotFound
from node.model.ids import NicId, SnapshotId, VmId
from node.model.templates import SnapshotCopied
from node.model.vm import Snapshot, Vm, VmSpec
from node.policy import made_of


class SnapshotNotFound(NotFound):
    code = "snapshot_not_found"
    remedy = "See `skerry vm snapshot list` for those that the VM has."


def of_snapshot(
    view: View, vm_id: VmId, snapshot_id: SnapshotId, new_id: VmId, name: str
) -> tuple[VmSpec, SnapshotCopied]:
    """Return the new VM and what it is a copy of.

    VmNotFound, VmPoolUnknown, SnapshotNotFound.
    """
    original = pool_vms.definition(routes.defined_vm(view, vm_id))
    snapshot, known = _find(original, snapshot_id), view.vms.get(new_id)
    cards = pool_vms.definition(known).spec.nics if known and known.vm_document else ()

    def mac_of(nic_id: NicId) -> str:
        given = (each.mac for each in cards if each.nic_id == nic_id)
        return next(given, None) or macs.free_mac(view, nic_id)

    return made_of.of_snapshot(original, snapshot, new_id, name, mac_of)


def _find(vm: Vm, snapshot_id: SnapshotId) -> Snapshot:
    for each in vm.snapshots:
        if each.snapshot_id == snapshot_id:
            return each
    raise SnapshotNotFound(
        f"VM {vm.spec.name} has no snapshot {snapshot_id}", snapshot_id=snapshot_id
    )
