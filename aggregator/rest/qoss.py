"""Show and change the storage QoS of data centers: limits for the disks of profiles.

oVirt tells throughput in MiB a second; what is not a multiple is shown rounded. Its
QoS of other kinds (CPU, networks, hosts) are none of ours.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from aggregator.policies.profiles import StorageQos
from aggregator.rest import replies
from aggregator.rest.body import Body, Incomplete
from aggregator.rest.call import PARAMETER, Call, Deed, NoSuchObject, Reply
from aggregator.rest.fleet import DataCenter
from aggregator.rest.resource import Below, Context, Entity, Field, Reference, Resource
from node.errors import Unsupported
from node.model.storage import DiskQos
from node.model.verbs import ActionGroup
from node.units import MiB

_REL: Final = "qoss"
_ONE: Final = (_REL, PARAMETER)
# oVirt's names, ours, and how many of ours one of oVirt's is.
_LIMITS: Final[Mapping[str, tuple[str, int]]] = {
    "max_iops": ("total_iops", 1),
    "max_read_iops": ("read_iops", 1),
    "max_write_iops": ("write_iops", 1),
    "max_throughput": ("total_bytes_s", MiB),
    "max_read_throughput": ("read_bytes_s", MiB),
    "max_write_throughput": ("write_bytes_s", MiB),
}
_NONE: Final = (0, -1)  # how oVirt's clients say that there is no limit


class QosKindNotSupported(Unsupported):
    code = "qos_kind_not_supported"
    remedy = "Use storage QoS: it limits disks."


def _limit(name: str) -> Field[StorageQos]:
    field, unit = _LIMITS[name]

    def read(_context: Context, row: StorageQos) -> int | None:
        value: int = getattr(row.limits, field)
        return max(round(value / unit), 1) if value else None

    return Field(name, read)


RESOURCE: Final[Resource[StorageQos]] = Resource(
    "qos",
    "qoss",
    lambda row: row.qos_id,
    (
        Field("name", lambda context, row: row.name),
        Field("description", lambda context, row: row.description),
        Field("type", lambda context, row: "storage"),
        *map(_limit, _LIMITS),
    ),
    (
        Reference(
            "data_center", lambda context, row: f"datacenters/{row.data_center_id}"
        ),
    ),
)


def path(qos: StorageQos) -> str:
    """Return where a QoS is found, from the base."""
    return f"datacenters/{qos.data_center_id}/{_REL}/{qos.qos_id}"


def _rows(context: Context, row: DataCenter) -> Iterator[StorageQos]:
    found = context.fleet.profiles.qoss.values()
    for each in sorted(found, key=lambda each: each.name.casefold()):
        if each.data_center_id == row.data_center_id:
            yield each


def _add(call: Call, row: DataCenter, ids: tuple[str, ...]) -> Reply:
    body = call.body
    _check_kind(body)
    name = body.string("name")
    if not name:
        raise Incomplete("Qos [name] required for add")
    description = body.string("description") or ""
    limits = _merged(body, DiskQos())
    profiles = call.services.orders.profiles
    made = profiles.make_qos(name, row.data_center_id, description, limits)
    return Reply(Entity(RESOURCE, made, path(made)), 201)


def _update(call: Call, row: DataCenter, ids: tuple[str, ...]) -> Reply:
    known, body = _existing(call, row, ids[0]), call.body
    _check_kind(body)
    changed = call.services.orders.profiles.change_qos(
        known.qos_id,
        name=body.string("name"),
        description=body.string("description"),
        limits=_merged(body, known.limits),
    )
    return Reply(Entity(RESOURCE, changed, path(changed)))


def _remove(call: Call, row: DataCenter, ids: tuple[str, ...]) -> Reply:
    known = _existing(call, row, ids[0])
    call.services.orders.profiles.remove_qos(known.qos_id)
    return Reply(replies.action(call, None))


def _existing(call: Call, row: DataCenter, qos_id: str) -> StorageQos:
    for each in _rows(call.context, row):
        if each.qos_id == qos_id:
            return each
    raise NoSuchObject(f"there is no qos {qos_id}", id=qos_id)


def _check_kind(body: Body) -> None:
    kind = body.string("type")
    if kind not in (None, "storage"):
        raise QosKindNotSupported(f"QoS of type {kind} is not supported", kind=kind)


def _merged(body: Body, known: DiskQos) -> DiskQos:
    """Return limits with those that a body names in place of what they were."""
    said: dict[str, Any] = {}
    for name, (field, unit) in _LIMITS.items():
        value = body.integer(name)
        if value is not None:
            said[field] = 0 if value in _NONE else value * unit
    return replace(known, **said)


BELOW: Final[Below[DataCenter]] = Below(_REL, RESOURCE, _rows)
DEEDS: Final[tuple[Deed[DataCenter], ...]] = (
    Deed("POST", (_REL,), ActionGroup.EDIT_POOL, _add),
    Deed("PUT", _ONE, ActionGroup.EDIT_POOL, _update),
    Deed("DELETE", _ONE, ActionGroup.EDIT_POOL, _remove),
)
