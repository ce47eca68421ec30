"""Describe kinds of objects by tables, and render their rows as elements.

Pure. A resource has fields (paths of elements), references to other objects,
and lists below it; `follow` puts the objects in the place of links and
references.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from aggregator.federation.view import View
from aggregator.rest import element
from aggregator.rest.element import Content, Element
from aggregator.rest.fleet import Fleet
from aggregator.rest.parameters import normalise
from node.model.ids import StorageDomainId
from node.model.unregistered import Unregistered

R = TypeVar("R")


def _nothing_lies(_storage_domain_id: StorageDomainId) -> Unregistered:
    """Know of nothing that waits."""
    return Unregistered()


@dataclass(frozen=True, slots=True)
class Context:
    """What rows are rendered from, at one moment."""

    base: str  # what hrefs start with: /ovirt-engine/api
    view: View
    fleet: Fleet
    resolve: Callable[[str], "Entity | None"]  # path of an object → the object
    is_all_content: bool = False
    is_unregistered: bool = False  # what lies on storage and is not known yet
    origin: str = ""  # what comes before the base in an absolute address
    # What waits on a storage domain: its pool's manager reads it.
    lying: Callable[[StorageDomainId], Unregistered] = _nothing_lies


@dataclass(frozen=True, slots=True)
class Field(Generic[R]):
    """A part of a representation; one that reads None stays out."""

    path: str  # cpu/topology/cores
    read: Callable[[Context, R], Content]


@dataclass(frozen=True, slots=True)
class Reference(Generic[R]):
    name: str
    path: Callable[[Context, R], str | None]  # of the object, from the base


@dataclass(frozen=True, slots=True)
class Below(Generic[R]):
    """A list of objects below another."""

    rel: str
    resource: "Resource[Any]"
    rows: Callable[[Context, R], Iterable[Any]]


@dataclass(frozen=True, slots=True)
class Resource(Generic[R]):
    tag: str
    list_tag: str
    object_id: Callable[[R], str]
    fields: tuple[Field[R], ...]
    references: tuple[Reference[R], ...] = ()
    below: tuple[Below[R], ...] = ()
    actions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Entity:
    resource: Resource[Any]
    row: Any
    path: str  # vms/<id>


Tree = Mapping[str, Any]
NOTHING: Tree = {}


def render(
    context: Context, entity: Entity, follow: Tree = NOTHING, tag: str | None = None
) -> Element:
    """Return the representation of an object."""
    resource, row = entity.resource, entity.row
    href = f"{context.base}/{entity.path}"
    children = [
        *element.nested(
            (each.path, each.read(context, row)) for each in resource.fields
        )
    ]
    for reference in resource.references:
        path = reference.path(context, row)
        if path is not None:
            children.append(_refer(context, reference.name, path, follow))
    children.extend(
        element.link(below.rel, f"{href}/{below.rel}") for below in resource.below
    )
    for below in resource.below:
        deeper = follow.get(normalise(below.rel))
        if deeper is not None:
            entities = entities_below(context, entity, below)
            children.append(
                element.listed(
                    below.resource.list_tag,
                    (render(context, each, deeper) for each in entities),
                )
            )
    if resource.actions:
        links = (element.link(name, f"{href}/{name}") for name in resource.actions)
        children.append(element.listed("actions", links))
    attributes = (("href", href), ("id", resource.object_id(row)))
    return Element(tag or resource.tag, None, attributes, tuple(children))


def entities_below(
    context: Context, entity: Entity, below: Below[Any]
) -> Iterable[Entity]:
    """Yield the objects of a list below another."""
    for row in below.rows(context, entity.row):
        object_id = below.resource.object_id(row)
        path = f"{entity.path}/{below.rel}/{object_id}"
        yield Entity(below.resource, row, path)


def _refer(context: Context, name: str, path: str, follow: Tree) -> Element:
    deeper = follow.get(normalise(name))
    if deeper is not None:
        target = context.resolve(path)
        if target is not None:
            return render(context, target, deeper, tag=name)
    return element.reference(name, f"{context.base}/{path}", path.rpartition("/")[2])


def empty(rel: str, list_tag: str, tag: str) -> Below[Any]:
    """Return a list of things that nothing here has yet."""
    return Below(rel, Resource(tag, list_tag, str, ()), lambda context, row: ())
