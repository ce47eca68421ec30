"""Show users, domains, roles and permissions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from aggregator.access.permissions import Place, Role, Tree
from aggregator.rest import fleet, select
from aggregator.rest.call import Call, Collection
from aggregator.rest.element import Element
from aggregator.rest.fleet import Permission, User
from aggregator.rest.resource import (
    Below,
    Context,
    Field,
    Reference,
    Resource,
    empty,
)
from aggregator.rest.search import Query, SearchField
from aggregator.services import Services
from node.model.verbs import ActionGroup, Object

DOMAIN_ID: Final = fleet.derived_id("domain", fleet.AUTHORIZATION)
_PATHS: Final[Mapping[str, tuple[str, str]]] = {
    Object.VM: ("vm", "vms"),
    Object.NODE: ("host", "hosts"),
    Object.DISK: ("disk", "disks"),
    Object.STORAGE_DOMAIN: ("storage_domain", "storagedomains"),
    Object.CLUSTER: ("cluster", "clusters"),
    Object.DATA_CENTER: ("data_center", "datacenters"),
}


@dataclass(frozen=True, slots=True)
class Domain:
    name: str


def on(context: Context, kind: Object, object_id: str | None) -> tuple[Permission, ...]:
    """Return the permissions that hold for an object, inherited ones too."""
    clusters = context.fleet.clusters
    tree = Tree(
        default_cluster_id=context.fleet.cluster_of("").cluster_id,
        clusters={},
        data_centers={each.cluster_id: each.data_center_id for each in clusters},
    )
    path = tree.upwards(Place(kind, object_id))
    return tuple(
        permission
        for permission in context.fleet.permissions
        if Place(Object(permission.object), permission.object_id) in path
    )


def _of_user(context: Context, user_id: str) -> tuple[Permission, ...]:
    return tuple(each for each in context.fleet.permissions if each.user_id == user_id)


def _target(kind: Object) -> Reference[Permission]:
    tag, rel = _PATHS[kind]
    return Reference(
        tag,
        lambda context, row: f"{rel}/{row.object_id}" if row.object == kind else None,
    )


RESOURCE: Final[Resource[Permission]] = Resource(
    "permission",
    "permissions",
    lambda permission: permission.permission_id,
    (),
    (
        Reference("role", lambda context, row: f"roles/{row.role_id}"),
        Reference("user", lambda context, row: f"users/{row.user_id}"),
        *(_target(Object(kind)) for kind in _PATHS),
    ),
)


def _user_domain(context: Context, user: User) -> Element:
    return Element(
        "domain",
        attributes=(("href", f"{context.base}/domains/{DOMAIN_ID}"), ("id", DOMAIN_ID)),
        children=(Element("name", fleet.AUTHORIZATION),),
    )


USER: Final[Resource[User]] = Resource(
    "user",
    "users",
    lambda user: user.user_id,
    (
        Field("name", lambda context, row: row.name),
        Field("principal", lambda context, row: row.name),
        Field("user_name", lambda context, row: f"{row.name}@{fleet.AUTHORIZATION}"),
        Field("namespace", lambda context, row: "*"),
        Field("domain", _user_domain),
    ),
    below=(
        Below(
            "permissions",
            RESOURCE,
            lambda context, row: _of_user(context, row.user_id),
        ),
        empty("tags", "tags", "tag"),
        empty("sshpublickeys", "ssh_public_keys", "ssh_public_key"),
    ),
)

_DOMAIN: Final[Resource[Domain]] = Resource(
    "domain",
    "domains",
    lambda domain: DOMAIN_ID,
    (Field("name", lambda context, row: row.name),),
    below=(
        Below("users", USER, lambda context, row: context.fleet.users),
        empty("groups", "groups", "group"),
    ),
)

_PERMIT: Final[Resource[ActionGroup]] = Resource(
    "permit",
    "permits",
    lambda group: fleet.derived_id("permit", group.value),
    (
        Field("name", lambda context, row: row.value),
        Field("administrative", lambda context, row: row is ActionGroup.EDIT_FLEET),
    ),
)

_ROLE: Final[Resource[Role]] = Resource(
    "role",
    "roles",
    lambda role: role.role_id,
    (
        Field("name", lambda context, row: row.name),
        Field("administrative", lambda context, row: True),
        Field("mutable", lambda context, row: False),
    ),
    below=(Below("permits", _PERMIT, lambda context, row: sorted(row.groups)),),
)


def _find_user(services: Services, context: Context, object_id: str) -> User | None:
    return next(
        (each for each in context.fleet.users if each.user_id == object_id), None
    )


def _find_domain(services: Services, context: Context, object_id: str) -> Domain | None:
    return Domain(fleet.AUTHORIZATION) if object_id == DOMAIN_ID else None


def _find_role(services: Services, context: Context, object_id: str) -> Role | None:
    return next(
        (each for each in context.fleet.roles if each.role_id == object_id), None
    )


def _find_permission(
    services: Services, context: Context, object_id: str
) -> Permission | None:
    return next(
        (each for each in context.fleet.permissions if each.permission_id == object_id),
        None,
    )


_USER_FIELDS: Final[Mapping[str, SearchField[User]]] = {
    "id": SearchField(lambda row: row.user_id),
    "name": SearchField(lambda row: row.name),
    "login": SearchField(lambda row: row.name),
    "usrname": SearchField(lambda row: f"{row.name}@{fleet.AUTHORIZATION}"),
    "directory": SearchField(lambda row: fleet.AUTHORIZATION),
}


def _select_users(call: Call, query: Query, maximum: int | None) -> Iterable[User]:
    return select.rows(call.context.fleet.users, query, maximum, _USER_FIELDS)


def _select_domains(call: Call, query: Query, maximum: int | None) -> Iterable[Domain]:
    return select.rows((Domain(fleet.AUTHORIZATION),), query, maximum, {})


def _select_roles(call: Call, query: Query, maximum: int | None) -> Iterable[Role]:
    return select.rows(call.context.fleet.roles, query, maximum, {})


def _select_permissions(
    call: Call, query: Query, maximum: int | None
) -> Iterable[Permission]:
    return select.rows(on(call.context, Object.FLEET, None), query, maximum, {})


USERS: Final = Collection("users", USER, Object.FLEET, _find_user, _select_users)
DOMAINS: Final = Collection(
    "domains", _DOMAIN, Object.FLEET, _find_domain, _select_domains, is_searchable=False
)
ROLES: Final = Collection(
    "roles", _ROLE, Object.FLEET, _find_role, _select_roles, is_searchable=False
)
PERMISSIONS: Final = Collection(
    "permissions",
    RESOURCE,
    Object.FLEET,
    _find_permission,
    _select_permissions,
    is_searchable=False,
)
