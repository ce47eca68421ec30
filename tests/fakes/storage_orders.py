"""Orders for storage that end at once and change the View, as nodes would.

`asked` lists what was ordered. What nodes refuse is set with `refusal`.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any, Final, Protocol

from aggregator.control import routes
from aggregator.control.orders import Order, Origin
from aggregator.federation import apply
from aggregator.federation.view import View
from node import wire
from node.errors import Error
from node.model import register_verbs, snapshot_verbs
from node.model import storage_requests as bodies
from node.model import storage_verbs as verbs
from node.model.ids import DiskId, NodeId, PoolId, StorageDomainId, VmId
from node.model.storage import (
    DiskDocument,
    DiskState,
    DomainClass,
    DomainState,
    PoolDocument,
    PoolMark,
    SpmState,
    StorageDomain,
    StorageDomainDocument,
)
from node.model.unregistered import RegisterVm, Unregistered
from node.model.verb import Verb
from node.model.vm import Vm, VmRun, VmSpec, VmState
from node.units import GiB
from tests.fakes import fleet, snapshots, templates
from tests.fakes.transfers import FakeTransfers


class Shown(Protocol):
    """A mirror whose View can be changed."""

    @property
    def view(self) -> View: ...

    def change(self, **changes: Any) -> None: ...


Take = Callable[[str, str, NodeId, str, Origin, Callable[[], None]], Order]


def say(mirror: Shown, node_id: NodeId, *documents: object) -> None:
    """Let a node push documents."""
    view, troubles = apply.set_documents(mirror.view, node_id, fleet.said(*documents))
    assert not troubles, troubles
    show(mirror, view)


def forget(mirror: Shown, node_id: NodeId, document: object) -> None:
    """Let a node push that a document is gone."""
    gone = (fleet.gone(document),)
    view, _ = apply.set_documents(mirror.view, node_id, gone)
    show(mirror, view)


def resize(mirror: Shown, disk_id: DiskId, size_bytes: int) -> None:
    """Let a disk have another size."""
    row = mirror.view.disks[disk_id]
    document = wire.decode(DiskDocument, row.document)
    say(mirror, row.node_id, replace(document, size_bytes=size_bytes))


class FakeStorageNode:
    """A node's own API, as far as it only looks: `found` lies everywhere."""

    def __init__(self) -> None:
        self.found: tuple[StorageDomain, ...] = ()
        self.lying = Unregistered()  # on each storage domain
        self.transfers = FakeTransfers()

    def call(
        self,
        verb: Verb,
        kind: type[Any],
        request: Any = None,
        *,
        query: Mapping[str, object] | None = None,
        wait_s: float = 0.0,
        **path: str,
    ) -> Any:
        """Answer what is asked of transfers."""
        return self.transfers.answer(verb, request, path.get("transfer_id", ""))

    def storage_domain_look(
        self, request: bodies.LookForStorageDomains
    ) -> bodies.FoundStorageDomains:
        there = tuple(
            replace(each, connection=request.connection) for each in self.found
        )
        return bodies.FoundStorageDomains(there)

    def storage_domain_unregistered(self, _id: StorageDomainId) -> Unregistered:
        return self.lying

    def storage_domain_check(self, _id: StorageDomainId) -> bodies.StorageProblems:
        return bodies.StorageProblems((), disks_read=3)


class FakeStorageOrders:
    def __init__(self, mirror: Shown, take: Take) -> None:
        self.asked: list[tuple[str, str, Any, NodeId | None]] = []
        self.refusal: Error | None = None
        self._mirror = mirror
        self._take = take

    def act(
        self,
        verb: Verb,
        object_id: str,
        request: Any,
        origin: Origin,
        node_id: NodeId | None = None,
    ) -> Order:
        self.asked.append((verb.name, object_id, request, node_id))
        if self.refusal is not None:
            raise self.refusal
        asked = self._route(verb, object_id, request, node_id)
        name = str(getattr(request, "name", "") or self._name(object_id))
        effect = _EFFECTS.get(verb)
        return self._take(
            verb.name,
            object_id,
            asked,
            name,
            origin,
            lambda: effect and effect(self._mirror, asked, object_id, request),
        )

    def _name(self, object_id: str) -> str:
        view = self._mirror.view
        row = (
            view.pools.get(PoolId(object_id))
            or view.storage_domains.get(StorageDomainId(object_id))
            or view.disks.get(DiskId(object_id))
            or view.vms.get(VmId(object_id))
        )
        return row.name if row is not None else object_id

    def _route(
        self, verb: Verb, object_id: str, request: Any, node_id: NodeId | None
    ) -> NodeId:
        """Return whom the real ones would ask; raise what they raise."""
        view = self._mirror.view
        return routes.route(view, verb.name, object_id, request, node_id).node_id

    def restore(
        self, vm_id: VmId, request: bodies.PreviewSnapshot, origin: Origin
    ) -> Order:
        """Preview a snapshot, and commit."""
        self.act(snapshot_verbs.VM_SNAPSHOT_PREVIEW, vm_id, request, origin)
        commit = bodies.ActOnSnapshot()
        return self.act(snapshot_verbs.VM_SNAPSHOT_COMMIT, vm_id, commit, origin)

    def attach_domain(
        self,
        storage_domain_id: StorageDomainId,
        origin: Origin,
        *,
        data_center_id: str | None = None,
    ) -> Order:
        """Attach to the one shared pool, and activate."""
        row = routes.domain(self._mirror.view, storage_domain_id)
        pool_id = next(
            each.pool_id
            for each in self._mirror.view.pools.values()
            if not each.is_local
        )
        request = bodies.AttachStorageDomain(pool_id)
        self.asked.append(
            (verbs.STORAGE_DOMAIN_ATTACH.name, storage_domain_id, request, None)
        )
        if self.refusal is not None:
            raise self.refusal
        return self._take(
            verbs.STORAGE_DOMAIN_ATTACH.name,
            storage_domain_id,
            min(self._mirror.view.nodes),
            row.name,
            origin,
            lambda: _turn(DomainState.ACTIVE)(
                self._mirror, NodeId(""), storage_domain_id, request
            ),
        )

    def change_domain(
        self,
        storage_domain_id: StorageDomainId,
        request: bodies.ChangeStorageDomain,
        origin: Origin,
    ) -> Order:
        """Change it; names are not compared."""
        return self.act(verbs.STORAGE_DOMAIN_CHANGE, storage_domain_id, request, origin)

    def create_domain(
        self,
        request: bodies.CreateStorageDomain,
        origin: Origin,
        *,
        data_center_id: str | None = None,
        node_id: NodeId | None = None,
    ) -> Order:
        """Make it; whoever wants it attached says so."""
        verb, domain_id = verbs.STORAGE_DOMAIN_CREATE, request.storage_domain_id
        return self.act(verb, domain_id, request, origin, node_id)

    def import_domain(
        self,
        request: bodies.ImportStorageDomain,
        found: StorageDomain,
        origin: Origin,
        *,
        data_center_id: str | None = None,
        node_id: NodeId | None = None,
    ) -> Order:
        """Take what was found."""
        verb, domain_id = verbs.STORAGE_DOMAIN_IMPORT, found.storage_domain_id
        return self.act(verb, domain_id, request, origin, node_id)

    def elect(
        self, pool_id: PoolId, node_id: NodeId, origin: Origin, *, asks: bool = False
    ) -> Order:
        routes.pool(self._mirror.view, pool_id)
        request = bodies.BecomeSpm(ask_holder=asks)
        return self.act(verbs.SPM_BECOME, pool_id, request, origin, node_id)


Effect = Callable[[Shown, NodeId, str, Any], None]


def _create_domain(
    mirror: Shown, node_id: NodeId, object_id: str, request: Any
) -> None:
    is_new = isinstance(request, bodies.CreateStorageDomain)
    named = StorageDomain(
        StorageDomainId(object_id),
        request.name if is_new else "imported",
        request.domain_class if is_new else DomainClass.DATA,
        request.connection,
        description=request.description if is_new else "",
        wipe_after_delete=is_new and request.wipe_after_delete,
    )
    state = DomainState.UNATTACHED
    document = StorageDomainDocument(named, node_id, state, fleet.AT)
    say(mirror, node_id, document)


def _turn(state: DomainState) -> Effect:
    def effect(mirror: Shown, node_id: NodeId, object_id: str, request: Any) -> None:
        def change(document: StorageDomainDocument) -> StorageDomainDocument:
            pool_id = document.storage_domain.pool_id
            if state is DomainState.UNATTACHED:
                pool_id = None
            elif isinstance(request, bodies.AttachStorageDomain):
                pool_id = request.pool_id
            named = replace(document.storage_domain, pool_id=pool_id)
            return replace(document, storage_domain=named, state=state)

        row = mirror.view.storage_domains[StorageDomainId(object_id)]
        for sight in row.sights.values():
            document = wire.decode(StorageDomainDocument, sight.document)
            say(mirror, sight.node_id, change(document))

    return effect


def _change_domain(
    mirror: Shown, node_id: NodeId, object_id: str, request: Any
) -> None:
    names = ("name", "description", "wipe_after_delete", "connection")
    given = {name: getattr(request, name) for name in names}
    wanted = {name: value for name, value in given.items() if value is not None}
    row = mirror.view.storage_domains[StorageDomainId(object_id)]
    for sight in row.sights.values():
        document = wire.decode(StorageDomainDocument, sight.document)
        named = replace(document.storage_domain, **wanted)
        say(mirror, sight.node_id, replace(document, storage_domain=named))


def _remove_domain(
    mirror: Shown, node_id: NodeId, object_id: str, request: Any
) -> None:
    row = mirror.view.storage_domains[StorageDomainId(object_id)]
    sight = row.sights.get(node_id)
    if sight is not None:
        document = wire.decode(StorageDomainDocument, sight.document)
        forget(mirror, node_id, document)


def _create_disk(mirror: Shown, node_id: NodeId, object_id: str, request: Any) -> None:
    place = mirror.view.storage_domains[request.storage_domain_id]
    assert place.pool_id is not None, "disks lie on pools"
    pool = mirror.view.pools[place.pool_id]
    document = DiskDocument(
        request.disk_id,
        request.name,
        request.size_bytes,
        0,
        request.disk_format,
        request.allocation,
        (request.storage_domain_id,),
        DiskState.OK,
        fleet.AT,
        description=request.description,
        content=request.content,
        is_shared=request.is_shared,
        wipe_after_delete=bool(request.wipe_after_delete),
        mark=pool.mark,
        pool_id=pool.pool_id,
    )
    say(mirror, pool.node_id, document)


def _change_disk(change: Callable[[DiskDocument, Any], DiskDocument]) -> Effect:
    def effect(mirror: Shown, node_id: NodeId, object_id: str, request: Any) -> None:
        row = mirror.view.disks[DiskId(object_id)]
        document = wire.decode(DiskDocument, row.document)
        say(mirror, row.node_id, change(document, request))

    return effect


def _changed(document: DiskDocument, request: bodies.ChangeDisk) -> DiskDocument:
    wanted = {
        "name": request.name,
        "description": request.description,
        "is_shared": request.is_shared,
        "wipe_after_delete": request.wipe_after_delete,
    }
    said = {name: value for name, value in wanted.items() if value is not None}
    return replace(document, **said)  # type: ignore[arg-type]  # each of its own type


def _copied(document: DiskDocument, request: bodies.CopyDisk) -> DiskDocument:
    return replace(
        document,
        disk_id=request.disk_id,
        name=request.name or document.name,
        storage_domain_ids=(request.storage_domain_id,),
        vm_ids=(),
    )


def _delete_disk(mirror: Shown, node_id: NodeId, object_id: str, request: Any) -> None:
    row = mirror.view.disks[DiskId(object_id)]
    document = wire.decode(DiskDocument, row.document)
    left = tuple(
        each
        for each in document.storage_domain_ids
        if request.storage_domain_id not in (None, each)
    )
    if left:
        say(mirror, row.node_id, replace(document, storage_domain_ids=left))
    else:
        forget(mirror, row.node_id, document)


def _register_vm(
    mirror: Shown, node_id: NodeId, object_id: str, request: RegisterVm
) -> None:
    """Let the VM be there, under the id and name that were asked for."""
    home = mirror.view.storage_domains[StorageDomainId(object_id)]
    vm_id, name = request.as_vm_id or request.vm_id, request.name or "registered"
    spec = VmSpec(vm_id, name, GiB, pool_id=home.pool_id)
    run = VmRun(vm_id, node_id, VmState.DOWN, home.since)
    say(mirror, node_id, Vm(spec, 1, home.since), run)


def _change_vm(change: Callable[[Vm, Any], Vm]) -> Effect:
    def effect(mirror: Shown, node_id: NodeId, object_id: str, request: Any) -> None:
        row = mirror.view.vms[VmId(object_id)]
        vm = wire.decode(Vm, row.vm_document)
        say(mirror, node_id, change(vm, request))

    return effect


def _tell(documents: Callable[[View, str, Any], templates.Documents]) -> Effect:
    def effect(mirror: Shown, _node_id: NodeId, object_id: str, request: Any) -> None:
        node_id, said, gone = documents(mirror.view, object_id, request)
        say(mirror, node_id, *said)
        for each in gone:
            forget(mirror, node_id, each)

    return effect


def _change_pool(
    change: Callable[[PoolDocument, NodeId, Any], PoolDocument],
) -> Effect:
    def effect(mirror: Shown, node_id: NodeId, object_id: str, request: Any) -> None:
        row = mirror.view.pools[PoolId(object_id)]
        for sight in row.sights.values():
            document = wire.decode(PoolDocument, sight.document)
            say(mirror, sight.node_id, change(document, node_id, request))

    return effect


def _managed(document: PoolDocument, node_id: NodeId, request: Any) -> PoolDocument:
    """Return a sight of the pool after a node became its manager."""
    version = document.spm.lease_version + 1
    is_manager = document.node_id == node_id
    state = SpmState.MANAGER if is_manager else SpmState.FREE
    spm = replace(document.spm, state=state, holder=node_id, lease_version=version)
    mark = PoolMark(version, document.generation) if is_manager else None
    return replace(document, spm=spm, mark=mark)


def _prioritised(document: PoolDocument, node_id: NodeId, request: Any) -> PoolDocument:
    members = tuple(
        replace(each, priority=request.priority) if each.node_id == node_id else each
        for each in document.members
    )
    return replace(document, members=members)


_EFFECTS: Final[Mapping[Verb, Effect]] = {
    verbs.STORAGE_DOMAIN_CREATE: _create_domain,
    verbs.STORAGE_DOMAIN_IMPORT: _create_domain,
    verbs.STORAGE_DOMAIN_ATTACH: _turn(DomainState.MAINTENANCE),
    verbs.STORAGE_DOMAIN_CHANGE: _change_domain,
    verbs.STORAGE_DOMAIN_ACTIVATE: _turn(DomainState.ACTIVE),
    verbs.STORAGE_DOMAIN_MAINTAIN: _turn(DomainState.MAINTENANCE),
    verbs.STORAGE_DOMAIN_DETACH: _turn(DomainState.UNATTACHED),
    verbs.STORAGE_DOMAIN_REMOVE: _remove_domain,
    register_verbs.STORAGE_DOMAIN_REGISTER_VM: _register_vm,
    verbs.POOL_MOVE_MASTER: _change_pool(
        lambda document, node_id, request: replace(
            document, master=request.storage_domain_id
        )
    ),
    verbs.SPM_BECOME: _change_pool(_managed),
    verbs.SPM_PRIORITY: _change_pool(_prioritised),
    verbs.DISK_CREATE: _create_disk,
    verbs.DISK_DELETE: _delete_disk,
    verbs.DISK_CHANGE: _change_disk(_changed),
    verbs.DISK_RESIZE: lambda mirror, node_id, object_id, request: resize(
        mirror, DiskId(object_id), request.size_bytes
    ),
    verbs.DISK_MOVE: _change_disk(
        lambda document, request: replace(
            document, storage_domain_ids=(request.storage_domain_id,)
        )
    ),
    verbs.DISK_COPY: _change_disk(_copied),
    **{verb: _tell(effect) for verb, effect in templates.EFFECTS.items()},
    **{
        verb: _change_vm(snapshots.DEEDS[verb.name])
        for verb in snapshot_verbs.VERBS
        if verb.name in snapshots.DEEDS
    },
}


def show(mirror: Shown, view: View) -> None:
    """Put a View in place; its revision goes on from the one that is there."""
    names = [each.name for each in fields(view) if each.name != "revision"]
    mirror.change(**{name: getattr(view, name) for name in names})
