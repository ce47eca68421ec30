"""Let a guest's file systems stand still for a moment, and see that they go on.

A guest whose disk fails answers nothing until it goes on, and obeys only then: what it
was asked is never known to be undone. So each freeze is followed by a thaw, also one
that seems to have failed; and whoever says nothing later on is asked whether it stands
still, and thawed, unless a snapshot is being made of it: also after the agent was
killed. Source: qga/qapi-schema.json of QEMU.
"""

import logging
from collections.abc import Callable
from typing import Final

from node.errors import Error
from node.model.ids import VmId
from node.system.hypervisor import (
    DomainMissing,
    Hypervisor,
    HypervisorDown,
)

log = logging.getLogger(__name__)

# One of the few questions that the agent of a frozen guest answers.
_STATUS: Final = "guest-fsfreeze-status"
_FROZEN: Final = "frozen"


class Freezer:
    """Freezes guests and thaws them. Any thread may call."""

    def __init__(self, hypervisor: Hypervisor) -> None:
        self._hypervisor = hypervisor
        self._held: set[VmId] = set()  # which stand still because we want it

    def is_whole_during(self, vm_id: VmId, act: Callable[[], None]) -> bool:
        """Do what is quick; tell whether the guest stood still all the time.

        Its errors are raised when the guest was thawed.
        """
        self._held.add(vm_id)
        try:
            frozen = self._freeze(vm_id)
            try:
                act()
            finally:
                thawed = self._thaw(vm_id)
        finally:
            self._held.discard(vm_id)
        # Fewer than before: some went on of their own, as Windows' do after seconds.
        return frozen is not None and frozen == thawed

    def mend(self, vm_id: VmId) -> None:
        """Thaw a guest that says nothing because a freeze was never undone."""
        try:
            is_frozen = self._hypervisor.ask_guest(vm_id, _STATUS) == _FROZEN
            if not is_frozen or vm_id in self._held:
                return
            self._hypervisor.thaw(vm_id)
        except Error as error:
            log.debug("VM %s: it is not known to be thawed: %s", vm_id, error)
        else:
            log.warning("VM %s: its file systems were still frozen: thawed", vm_id)

    def _freeze(self, vm_id: VmId) -> int | None:
        """Return how many file systems stand still; None: nobody can tell."""
        try:
            return self._hypervisor.freeze(vm_id)
        except (DomainMissing, HypervisorDown):
            raise
        except Error as error:
            log.info("VM %s: not frozen: %s", vm_id, error)
            return None

    def _thaw(self, vm_id: VmId) -> int | None:
        try:
            return self._hypervisor.thaw(vm_id)
        except Error as error:
            log.info("VM %s: not thawed yet: %s", vm_id, error)
            return None
