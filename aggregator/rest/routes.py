"""List every route of the API: method, path, who may, and what it does.

Made from the tables of collections; each route has an action group and an
object from the start. Source: DESIGN section 9, permissions.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aggregator.rest import (
    clusters,
    datacenters,
    disk_orders,
    disk_profiles,
    entry_point,
    events,
    hosts,
    image_transfers,
    jobs,
    networks,
    permissions,
    resource,
    search,
    storage_connections,
    storage_orders,
    template_orders,
    vms,
)
from aggregator.rest.call import (
    PARAMETER,
    Act,
    Call,
    Collection,
    Deed,
    Handler,
    Many,
    NoSuchObject,
    Reply,
)
from aggregator.rest.resource import Below, Context, Entity, Resource, empty
from aggregator.services import Services
from node.model.verbs import ActionGroup, Object

COLLECTIONS: Final[tuple[Collection[Any], ...]] = (
    datacenters.COLLECTION,
    clusters.COLLECTION,
    hosts.COLLECTION,
    vms.COLLECTION,
    template_orders.COLLECTION,
    storage_orders.COLLECTION,
    storage_connections.COLLECTION,
    disk_orders.COLLECTION,
    disk_profiles.COLLECTION,
    image_transfers.COLLECTION,
    networks.COLLECTION,
    networks.PROFILES,
    networks.MAC_POOLS,
    events.COLLECTION,
    jobs.COLLECTION,
    permissions.USERS,
    permissions.DOMAINS,
    permissions.ROLES,
    permissions.PERMISSIONS,
)
_BY_REL: Final = {collection.rel: collection for collection in COLLECTIONS}

# What the product has none of, so that clients who list find none.
EMPTY: Final[tuple[Below[Any], ...]] = (
    empty("affinitylabels", "affinity_labels", "affinity_label"),
    empty("bookmarks", "bookmarks", "bookmark"),
    empty("groups", "groups", "group"),
    empty("instancetypes", "instance_types", "instance_type"),
    empty("tags", "tags", "tag"),
    empty("vmpools", "vm_pools", "vm_pool"),
)


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    path: tuple[str, ...]
    group: ActionGroup
    object: Object
    run: Handler

    @property
    def rule(self) -> str:
        return "/" + "/".join(self.path)


@dataclass(frozen=True, slots=True)
class Match:
    """The routes of a path by method, and the ids in it."""

    routes: Mapping[str, Route]
    object_ids: tuple[str, ...]


def resolver(services: Services, context: Context) -> Callable[[str], Entity | None]:
    """Return what finds an object by its path, to follow references."""

    def resolve(path: str) -> Entity | None:
        rel, _, object_id = path.partition("/")
        collection = _BY_REL.get(rel)
        if collection is None:
            return None
        row = collection.find(services, context, object_id)
        return None if row is None else Entity(collection.resource, row, path)

    return resolve


def match(path: tuple[str, ...]) -> Match | None:
    """Return what answers to a path; None if nothing does."""
    for candidate, routes in _BY_LENGTH.get(len(path), ()):
        pairs = list(zip(candidate, path, strict=True))
        if all(want in (PARAMETER, have) for want, have in pairs):
            found = tuple(have for want, have in pairs if want == PARAMETER)
            return Match(routes, found)
    return None


def _of_collection(collection: Collection[Any]) -> Iterator[Route]:
    rel, kind = collection.rel, collection.object
    one = (rel, PARAMETER)
    yield Route("GET", (rel,), collection.read, Object.FLEET, _lister(collection))
    yield Route("GET", one, collection.read, kind, _getter(collection))
    if collection.add is not None:
        add = collection.add
        yield Route("POST", (rel,), add.group, Object.FLEET, add.run)
    if collection.update is not None:
        yield Route("PUT", one, collection.update.group, kind, collection.update.run)
    if collection.remove is not None:
        yield Route("DELETE", one, collection.remove.group, kind, collection.remove.run)
    for act in collection.acts:
        yield Route("POST", (*one, act.name), act.group, kind, _actor(collection, act))
    for deed in collection.deeds:
        path = (*one, *deed.path)
        yield Route(deed.method, path, deed.group, kind, _doer(collection, deed))
    for path in _below(collection.resource):
        yield Route(
            "GET",
            (*one, *path),
            ActionGroup.READ,
            kind,
            _walker(collection, tuple(name for name in path if name != PARAMETER)),
        )


def _below(of: Resource[Any]) -> Iterator[tuple[str, ...]]:
    for below in of.below:
        yield (below.rel,)
        yield (below.rel, PARAMETER)
        for path in _below(below.resource):
            yield (below.rel, PARAMETER, *path)


def _lister(collection: Collection[Any]) -> Handler:
    def run(call: Call, object_ids: tuple[str, ...]) -> Reply:
        text = call.parameters.text("search") if collection.is_searchable else ""
        query = search.parse(text)
        rows = collection.select(call, query, call.parameters.number("max"))
        entities = (
            Entity(
                collection.resource,
                row,
                f"{collection.rel}/{collection.resource.object_id(row)}",
            )
            for row in rows
        )
        return Reply(Many(collection.resource, entities))

    return run


def _getter(collection: Collection[Any]) -> Handler:
    def run(call: Call, object_ids: tuple[str, ...]) -> Reply:
        return Reply(_top(call, collection, object_ids[0]))

    return run


def _actor(collection: Collection[Any], act: Act[Any]) -> Handler:
    def run(call: Call, object_ids: tuple[str, ...]) -> Reply:
        return act.run(call, _top(call, collection, object_ids[0]).row)

    return run


def _doer(collection: Collection[Any], deed: Deed[Any]) -> Handler:
    def run(call: Call, object_ids: tuple[str, ...]) -> Reply:
        entity = _top(call, collection, object_ids[0])
        return deed.run(call, entity.row, object_ids[1:])

    return run


def _walker(collection: Collection[Any], rels: tuple[str, ...]) -> Handler:
    """Return what goes down from an object: nics, then one, then its statistics."""

    def run(call: Call, object_ids: tuple[str, ...]) -> Reply:
        entity = _top(call, collection, object_ids[0])
        ids = object_ids[1:]
        for depth, rel in enumerate(rels):
            below = next(each for each in entity.resource.below if each.rel == rel)
            entities = resource.entities_below(call.context, entity, below)
            if depth == len(ids):
                maximum = call.parameters.number("max")
                kept = itertools.islice(entities, maximum)
                return Reply(Many(below.resource, kept))
            entity = _pick(entities, ids[depth], below.resource.tag)
        return Reply(entity)

    return run


def _pick(entities: Iterable[Entity], object_id: str, tag: str) -> Entity:
    for entity in entities:
        if entity.resource.object_id(entity.row) == object_id:
            return entity
    raise NoSuchObject(f"there is no {tag} {object_id}", id=object_id)


def _top(call: Call, collection: Collection[Any], object_id: str) -> Entity:
    row = collection.find(call.services, call.context, object_id)
    tag = collection.resource.tag
    if row is None:
        raise NoSuchObject(f"there is no {tag} {object_id}", id=object_id)
    return Entity(collection.resource, row, f"{collection.rel}/{object_id}")


def _of_nothing(below: Below[Any]) -> Iterator[Route]:
    def run(call: Call, object_ids: tuple[str, ...]) -> Reply:
        return Reply(Many(below.resource, ()))

    yield Route("GET", (below.rel,), ActionGroup.READ, Object.FLEET, run)


def _enter(call: Call, object_ids: tuple[str, ...]) -> Reply:
    rels = [collection.rel for collection in COLLECTIONS]
    searchable = [each.rel for each in COLLECTIONS if each.is_searchable]
    rels.extend(below.rel for below in EMPTY)
    return Reply(entry_point.element(call, sorted(rels), sorted(searchable)))


ROUTES: Final[tuple[Route, ...]] = (
    Route("GET", (), ActionGroup.READ, Object.FLEET, _enter),
    *(route for each in COLLECTIONS for route in _of_collection(each)),
    *(route for each in EMPTY for route in _of_nothing(each)),
)


def _index() -> dict[int, list[tuple[tuple[str, ...], dict[str, Route]]]]:
    """Return the routes by the length of their paths; words before ids."""
    by_path: dict[tuple[str, ...], dict[str, Route]] = {}
    for route in ROUTES:
        by_path.setdefault(route.path, {})[route.method] = route
    index: dict[int, list[tuple[tuple[str, ...], dict[str, Route]]]] = {}
    for path in sorted(by_path, key=lambda path: [name == PARAMETER for name in path]):
        index.setdefault(len(path), []).append((path, by_path[path]))
    return index


_BY_LENGTH: Final = _index()
