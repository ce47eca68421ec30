"""Create VMs: on the pool that they name, else on the pool of this node's own disk.

Not a job: that takes milliseconds, and if the disk hangs, it should not hold a worker
that others need to stop their VMs. Who asks again for what is there gets it.
"""

import itertools
import time
from collections.abc import Callable, Mapping
from typing import Final

from node.contract.volumes import DiskBusy, OwnPool, Volumes
from node.errors import Busy, Conflict, Unavailable, Unsupported
from node.model.host import Image
from node.model.ids import CorrelationId
from node.model.requests import CreateVm
from node.model.vm import VmEntry, VmSpec
from node.vm import definition
from node.vm.pool_editing import PoolEditor, PoolVmBusy
from node.vm.register import VmRegister

# After a boot it is managed within a second or two.
OWN_POOL_WAIT_S: Final = 5.0
# After a restart of the agent the disks of a creation are being made, or undone.
DISKS_WAIT_S: Final = 5.0
_LOOK_S: Final = 0.05


class VmGone(Conflict):
    """A VM of that id was deleted: it does not come back."""

    code = "vm_gone"
    remedy = "Choose another id for a new VM."


class LocalPoolNotReady(Unavailable):
    """The pool of the node's own disk cannot be written to yet."""

    code = "local_pool_not_ready"
    remedy = (
        "Try again in a moment. If it lasts, see that the service skerry-storage runs"
        " on the node, and what its storage domain says; or name a storage domain."
    )


class NoLocalPool(Unsupported):
    """The node has no pool of its own disk: a VM has to name its place."""

    code = "no_own_pool"
    remedy = (
        "Name a storage domain for the VM's disks; or give the node local storage"
        " (local_storage, and permits_scratch_storage where its disk is in memory)."
    )


class Creator:
    """Defines the VMs of this node."""

    def __init__(
        self,
        register: VmRegister,
        volumes: Volumes,
        editor: PoolEditor,
        list_images: Callable[[], tuple[Image, ...]],
    ) -> None:
        self._register = register
        self._volumes = volumes
        self._editor = editor
        self._list_images = list_images

    def create(self, request: CreateVm) -> VmEntry:
        """Define a VM and make its disks; the same id and spec again: the same VM.

        Raises BadVm, NameTaken, MacTaken, VmDiffers, VmGone, NoLocalPool,
        LocalPoolNotReady and what making disks raises.
        """
        spec, made = request.spec, self.find_made(request.spec)
        if made is not None:
            return made
        if spec.pool_id is None:
            own = self._own_pool()
            places = itertools.repeat(own.storage_domain_id)
            spec = definition.placed(spec, own.pool_id, places)
        return self._create(spec, request.correlation_id)

    def _create(self, spec: VmSpec, correlation_id: CorrelationId | None) -> VmEntry:
        """Create a VM; wait for a job that was at its disks before a restart."""
        until = time.monotonic() + DISKS_WAIT_S
        while True:
            try:
                return self._editor.create(spec, self._images(), correlation_id)
            except Busy as error:
                has_waited = isinstance(error, (DiskBusy, PoolVmBusy))
                if has_waited or time.monotonic() >= until:
                    raise
            time.sleep(_LOOK_S)

    def find_made(self, spec: VmSpec) -> VmEntry | None:
        """Return the VM if it is here; VmDiffers, VmGone."""
        there = self._register.find(spec.vm_id)
        if there is None and self._register.was_deleted(spec.vm_id):
            raise VmGone(f"VM {spec.vm_id} was deleted", vm_id=spec.vm_id)
        if there is not None and not definition.is_same(spec, there.vm.spec):
            raise definition.VmDiffers(
                f"VM {there.vm.spec.name} has that id and is defined otherwise",
                vm_id=spec.vm_id,
            )
        return there

    def _own_pool(self) -> OwnPool:
        """Return this node's own pool once it is managed.

        NoLocalPool, LocalPoolNotReady.
        """
        until = time.monotonic() + OWN_POOL_WAIT_S
        while True:
            own = self._volumes.own()
            if own is None:
                raise NoLocalPool("this node has no local pool, and the VM names none")
            if own.storage_domain_id is not None:
                return own
            if time.monotonic() >= until:
                raise LocalPoolNotReady(
                    "this node's local pool, where the VM is to lie, is not ready: "
                    f"{own.trouble or 'nobody manages it yet'}",
                    pool_id=own.pool_id,
                )
            time.sleep(_LOOK_S)

    def _images(self) -> Mapping[str, Image]:
        return {each.name: each for each in self._list_images()}
