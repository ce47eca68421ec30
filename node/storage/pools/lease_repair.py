"""Mend the index of VMs' leases on a storage domain, if it cannot be used."""

import logging
from collections.abc import Callable

from node.model.ids import VmId
from node.storage.domains.access import Access
from node.storage.formats.xlease_index import IndexDamaged
from node.storage.guard import Guard
from node.storage.spm import vm_leases
from node.storage.spm.term import Term
from node.storage.spm.vm_store import VmStore

log = logging.getLogger(__name__)


# Returns the VMs of which OVF_STOREs tell; None: one of those cannot be read.
Documents = Callable[[], frozenset[VmId] | None]


def mend(
    guard: Guard,
    access: Access,
    term: Term,
    vms: VmStore,
    now_s: int,
    *,
    documents: Documents,
) -> bool:
    """Rebuild the index from the leases themselves; tell whether that was needed.

    Leases of VMs that nobody knows are left out, unless what tells of them is away, at
    rest or damaged. Those of VMs that wait to be registered are kept, also if only an
    OVF_STORE tells of one: a guest may run with it. Held ones stay held. What
    `rebuild` raises.
    """
    try:
        vm_leases.check(guard, access)
    except IndexDamaged as error:
        log.warning("%s: %s", access.storage_domain_id, error)
    else:
        return False
    stored, waiting, told = vms.list(), vms.waiting(), documents()
    known = waiting.union(each.vm.spec.vm_id for each in stored.vms).union(told or ())
    is_complete = vms.is_complete(stored) and told is not None
    vm_leases.rebuild(
        guard, access, term, now_s, lambda name: name in known or not is_complete
    )
    return True
