"""Create what every fleet has: a data center, a cluster, an administrator.

Ids are chosen once and kept in the fleet's documents, so that they survive a
rebuild of the aggregator.
"""

import uuid
from collections.abc import Callable, Iterator

from aggregator import db
from aggregator.access import identity, permissions
from node.wire import Json


def random_id() -> str:
    """Return a new UUID."""
    return str(uuid.uuid4())


def ensure_defaults(
    database: db.Database, new_id: Callable[[], str] = random_id
) -> None:
    """Create what is missing of the defaults; what is there stays as it is."""
    records = database.records("fleet")
    present = {record.id for record in records.list()}
    for record_id, body in _missing(present, new_id):
        records.put(record_id, body, expected_version=0)


def _missing(
    present: set[str], new_id: Callable[[], str]
) -> Iterator[tuple[str, Json]]:
    data_center_id = _first(present, "data_center")
    if data_center_id is None:
        data_center_id = new_id()
        yield f"data_center/{data_center_id}", {"name": "Default", "description": ""}
    if _first(present, "cluster") is None:
        body = {
            "name": "Default",
            "description": "",
            "data_center_id": data_center_id,
            "is_default": True,
        }
        yield f"cluster/{new_id()}", body
    user = identity.ADMINISTRATOR
    user_id = identity.user_id_of(user)
    if f"user/{user_id}" not in present:
        yield f"user/{user_id}", {"user": user, "is_enabled": True}
        permission = {
            "user_id": user_id,
            "role_id": permissions.SUPER_USER.role_id,
            "object": permissions.FLEET.object.value,
        }
        yield f"permission/{new_id()}", permission


def _first(present: set[str], kind: str) -> str | None:
    prefix = kind + "/"
    return min(
        (item.removeprefix(prefix) for item in present if item.startswith(prefix)),
        default=None,
    )
