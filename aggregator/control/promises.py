"""Count what orders under way will take, before the nodes report it.

Pure. Two creations at once see each other through this. The entries are those
under way: not ended, or ended so lately that the View may not show it.
"""

from collections.abc import Iterable, Mapping

from aggregator.control import actions
from aggregator.control.order import Entry
from aggregator.federation import view as views
from aggregator.federation.view import View
from aggregator.scheduling.filters import Promise
from node.model.ids import NodeId
from node.model.vm import VmState, Wanted


def promised(entries: Iterable[Entry], view: View) -> Mapping[NodeId, Promise]:
    """Return what each node was promised that its own figures do not show yet."""
    found: dict[NodeId, Promise] = {}
    for entry in entries:
        added = _promise_of(entry, view)
        if added is not None:
            node_id = entry.action.node_id
            known = found.get(node_id, Promise())
            found[node_id] = Promise(
                known.vms + added.vms, known.memory_bytes + added.memory_bytes
            )
    return found


def is_name_free(name: str, entries: Iterable[Entry], view: View) -> bool:
    """Say whether a VM may be called so: names are unique in the fleet."""
    if any(True for _ in views.vms_named(view, name)):
        return False
    return not any(
        views.normal(entry.order.name) == views.normal(name)
        for entry in entries
        if _is_coming(entry, view)
    )


def _promise_of(entry: Entry, view: View) -> Promise | None:
    action = entry.action
    if isinstance(action, actions.CreateVm) and _is_coming(entry, view):
        return Promise(1, action.spec.memory_bytes)
    if isinstance(action, actions.StartVm) and not entry.is_ended:
        vm = view.vms.get(action.vm_id)
        if vm and vm.wanted is Wanted.DOWN and vm.last_state is VmState.DOWN:
            return Promise(1, vm.memory_bytes)
    return None


def _is_coming(entry: Entry, view: View) -> bool:
    """Say whether an order makes a VM that the View does not show yet."""
    return (
        isinstance(entry.action, actions.CreateVm)
        and entry.action.vm_id not in view.vms
    )
