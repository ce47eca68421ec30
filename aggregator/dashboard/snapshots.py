"""Serve the snapshots of VMs: questions, and what is ordered then.

They are shown on the page of their VM.
"""

import functools
import uuid
from typing import Final

import flask

from aggregator.control import cloning
from aggregator.dashboard import (
    data_nodes,
    drafts,
    questions,
    snapshot_rows,
    storage,
    vms,
)
from aggregator.dashboard.pages import Pages
from aggregator.dashboard.questions import Field, Question
from aggregator.dashboard.routes import Route
from aggregator.dashboard.snapshot_rows import SnapshotAction
from aggregator.dashboard.visits import Visit, form
from aggregator.federation.view import View, VmView
from node.errors import NotFound
from node.model import snapshot_verbs as verbs
from node.model.ids import SnapshotId, VmId
from node.model.storage_requests import (
    ActOnSnapshot,
    CreateSnapshot,
    DeleteSnapshot,
    PreviewSnapshot,
)
from node.model.verbs import Object
from node.model.vm import Snapshot, Vm, VmState


class NoSuchSnapshot(NotFound):
    code = "no_such_snapshot"
    remedy = "It may have been deleted: look at the VM again."


def ask(
    action: SnapshotAction,
    pages: Pages,
    visit: Visit,
    vm_id: str,
    snapshot_id: str = "",
) -> flask.Response:
    """Return the page that asks what exactly is meant."""
    view = pages.services.mirror.view
    vm = vms.find(view, vm_id)
    name, known = vm.name, None
    if snapshot_id:
        known = _snapshot(vms.definition(vm), snapshot_id)
        name = known.description or snapshot_id
    path = f"snapshots/{snapshot_id}/" if snapshot_id else "snapshots/"
    question = Question(
        f"{pages.translate(action.label)}: {name}",
        action.label,
        f"{_page(vm_id)}/{path}{action.name}",
        _page(vm_id),
        action.meaning,
        _fields(action, view, vm, known),
        action.is_dangerous,
    )
    return pages.show(visit, "question.html", question=question)


def do(
    action: SnapshotAction,
    pages: Pages,
    visit: Visit,
    vm_id: str,
    snapshot_id: str = "",
) -> flask.Response:
    """Order an action."""
    vm, chosen = vms.find(pages.services.mirror.view, vm_id), SnapshotId(snapshot_id)
    page = _page(vm_id)
    known = _snapshot(vms.definition(vm), snapshot_id) if snapshot_id else None
    if action is snapshot_rows.RESTORE:
        restore = pages.services.orders.storage.restore
        request = PreviewSnapshot(chosen, _has_memory())
        return storage.answered(pages, restore(vm.vm_id, request, visit.origin), page)
    if action is snapshot_rows.CLONE:
        return _clone(pages, visit, vm.vm_id, chosen)
    if action is snapshot_rows.CREATE:
        return _order(pages, visit, vm.vm_id, _creation())
    if action is snapshot_rows.FINISH and known is not None:
        again = CreateSnapshot(chosen, known.description)
        return _order(pages, visit, vm.vm_id, again)
    orders = {
        snapshot_rows.PREVIEW: (
            verbs.VM_SNAPSHOT_PREVIEW,
            PreviewSnapshot(chosen, _has_memory()),
        ),
        snapshot_rows.DELETE: (
            verbs.VM_SNAPSHOT_DELETE,
            DeleteSnapshot(chosen, data_node_id=data_nodes.chosen(form())),
        ),
        snapshot_rows.COMMIT: (verbs.VM_SNAPSHOT_COMMIT, ActOnSnapshot()),
        snapshot_rows.UNDO: (verbs.VM_SNAPSHOT_UNDO, ActOnSnapshot()),
    }
    verb, asked = orders[action]
    return storage.order(pages, visit, verb, vm.vm_id, asked, page)


def _order(
    pages: Pages, visit: Visit, vm_id: VmId, request: CreateSnapshot
) -> flask.Response:
    verb, page = verbs.VM_SNAPSHOT_CREATE, _page(vm_id)
    return storage.order(pages, visit, verb, vm_id, request, page)


def _clone(
    pages: Pages, visit: Visit, vm_id: VmId, snapshot_id: SnapshotId
) -> flask.Response:
    said, view = form(), pages.services.mirror.view
    new_id, name = VmId(drafts.given_id(said.get("new_id", ""))), said.get("name", "")
    if not name:
        raise drafts.BadDraft("the new VM needs a name", field="name")
    spec, copied = cloning.of_snapshot(view, vm_id, snapshot_id, new_id, name)
    words = (spec, visit.origin, copied, data_nodes.chosen(said))
    order = pages.services.orders.clone_vm(*words)
    return storage.answered(pages, order, _page(vm_id))


def _creation() -> CreateSnapshot:
    said = form()
    chosen = drafts.given_id(said.get("snapshot_id", ""))
    said_of_it = said.get("description", "")
    return CreateSnapshot(SnapshotId(chosen), said_of_it, _has_memory())


def _has_memory() -> bool:
    return "has_memory" in form()


def _fields(
    action: SnapshotAction, view: View, vm: VmView, snapshot: Snapshot | None
) -> tuple[Field, ...]:
    movers = data_nodes.fields(view, vm.pool_id)
    if action is snapshot_rows.CLONE:
        # sent twice, it is one VM
        new_id = questions.hidden("new_id", str(uuid.uuid4()))
        return (Field("name", "Name of the new VM"), *movers, new_id)
    if action is snapshot_rows.DELETE and vm.state is VmState.DOWN:
        return movers  # while the VM runs, its QEMU merges
    if action in (snapshot_rows.PREVIEW, snapshot_rows.RESTORE):
        has_memory = snapshot is not None and snapshot_rows.has_memory(snapshot)
        return (questions.tick("has_memory", _GOES_ON),) if has_memory else ()
    if action is not snapshot_rows.CREATE:
        return ()
    is_active = vm.state not in (VmState.DOWN, VmState.UNKNOWN)
    return (
        Field("description", "What it is for", is_optional=True),
        *((questions.tick("has_memory", _KEEPS),) if is_active else ()),
        # sent twice, it is one snapshot
        questions.hidden("snapshot_id", str(uuid.uuid4())),
    )


def _snapshot(definition: Vm | None, snapshot_id: str) -> Snapshot:
    for each in definition.snapshots if definition is not None else ():
        if each.snapshot_id == snapshot_id:
            return each
    raise NoSuchSnapshot(f"there is no snapshot {snapshot_id}")


def _page(vm_id: str) -> str:
    return f"/ui/vms/{vm_id}"


_KEEPS: Final = "Keep its memory, too"
_GOES_ON: Final = "Let the next start go on with the memory of then"
_ALL: Final = "/ui/vms/<vm_id>/snapshots"
ROUTES: Final = tuple(
    Route(
        method,
        f"{path}/{each.name}",
        functools.partial(handler, each),
        each.group,
        Object.VM,
    )
    for method, handler in (("GET", ask), ("POST", do))
    for path, actions in (
        (_ALL, (snapshot_rows.CREATE, *snapshot_rows.OF_PREVIEW)),
        (f"{_ALL}/<snapshot_id>", snapshot_rows.OF_ONE),
    )
    for each in actions
)
