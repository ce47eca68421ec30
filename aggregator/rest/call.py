"""Carry one request to whoever handles it, and the reply back."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from aggregator.access import Identity
from aggregator.control.orders import Origin
from aggregator.rest.body import Body
from aggregator.rest.element import Element
from aggregator.rest.parameters import Parameters
from aggregator.rest.resource import Context, Entity, Resource
from aggregator.rest.search import Query
from aggregator.services import Services
from node.errors import NotFound
from node.model.verbs import ActionGroup, Object

R = TypeVar("R")

PARAMETER: Final = "{}"  # a segment of a path that is an id


class NoSuchObject(NotFound):
    code = "no_such_object"
    remedy = "List the collection to see what there is."


@dataclass(frozen=True, slots=True)
class Call:
    services: Services
    context: Context
    parameters: Parameters
    identity: Identity
    origin: Origin
    body: Body
    is_async: bool = False  # the caller does not want to wait


@dataclass(frozen=True, slots=True)
class Many:
    """The objects of a collection, rendered while they are sent."""

    resource: Resource[Any]
    entities: Iterable[Entity]


@dataclass(frozen=True, slots=True)
class Reply:
    content: Entity | Many | Element
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[Call, tuple[str, ...]], Reply]


@dataclass(frozen=True, slots=True)
class Act(Generic[R]):
    """What can be done to an object: POST {object}/{name}."""

    name: str
    group: ActionGroup
    run: Callable[[Call, R], Reply]


@dataclass(frozen=True, slots=True)
class Deed(Generic[R]):
    """What changes a list below an object: its method, and its path from there."""

    method: str
    path: tuple[str, ...]
    group: ActionGroup
    # the object, and the ids in the path
    run: Callable[[Call, R, tuple[str, ...]], Reply]


@dataclass(frozen=True, slots=True)
class Write:
    """Adding to a collection, changing one of it, or removing it."""

    group: ActionGroup
    run: Handler


@dataclass(frozen=True, slots=True)
class Collection(Generic[R]):
    """A list at the top of the API."""

    rel: str
    resource: Resource[R]
    object: Object  # what permissions of one of its objects are looked up on
    find: Callable[[Services, Context, str], R | None]
    # the rows that are asked for, in order, at most so many
    select: Callable[[Call, Query, int | None], Iterable[R]]
    acts: tuple[Act[R], ...] = ()
    deeds: tuple[Deed[R], ...] = ()
    add: Write | None = None
    update: Write | None = None
    remove: Write | None = None
    is_searchable: bool = True
    read: ActionGroup = ActionGroup.READ  # what lets one see them
