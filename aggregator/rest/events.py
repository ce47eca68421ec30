"""Show what happened, newest first, with oVirt's numbers."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from aggregator.access import identity
from aggregator.federation.events import LoggedEvent
from aggregator.rest import compatibility, element, search
from aggregator.rest.call import Call, Collection
from aggregator.rest.resource import Context, Field, Reference, Resource
from aggregator.rest.search import Kind, Query, SearchField
from aggregator.services import Services
from node import translate
from node.model import messages
from node.model.verbs import Object

# How many events one database query returns, and how many a search looks at:
# some days of a busy fleet.
_BATCH: Final = 1000
_SEARCHED_MAX: Final = 50_000


def code_of(event: LoggedEvent) -> int:
    """Return oVirt's number of what happened; 0 if it has none."""
    message = messages.MESSAGES.get(event.code)
    return message.ovirt_code if message is not None else 0


def description(event: LoggedEvent) -> str:
    """Return what happened, for a person."""
    fields = dict(event.fields)
    if event.user is not None:
        fields.setdefault("user", event.user)
    return translate.text(event.code, fields)


RESOURCE: Final[Resource[LoggedEvent]] = Resource(
    "event",
    "events",
    lambda event: str(event.seq),
    (
        Field("index", lambda context, row: row.seq),
        Field("code", lambda context, row: code_of(row)),
        Field("severity", lambda context, row: messages.severity(row.code).value),
        Field("time", lambda context, row: element.moment(row.at)),
        Field("description", lambda context, row: description(row)),
        Field("correlation_id", lambda context, row: row.correlation_id or None),
        Field("origin", lambda context, row: compatibility.EVENT_ORIGIN),
        Field("custom_id", lambda context, row: -1),
        Field("flood_rate", lambda context, row: 0),
    ),
    (
        Reference("vm", lambda context, row: f"vms/{row.vm_id}" if row.vm_id else None),
        Reference(
            "host",
            lambda context, row: f"hosts/{row.node_id}" if row.node_id else None,
        ),
        Reference(
            "user",
            lambda context, row: (
                f"users/{identity.user_id_of(row.user)}" if row.user else None
            ),
        ),
    ),
)


def find(services: Services, context: Context, object_id: str) -> LoggedEvent | None:
    """Return the object of an id, or None if there is none."""
    if not (object_id.isascii() and object_id.isdigit() and len(object_id) <= 18):
        return None
    number = int(object_id)
    found = services.events.list(after=number - 1, before=number + 1, maximum=1)
    return found[0] if found else None


def _fields(context: Context) -> Mapping[str, SearchField[LoggedEvent]]:
    view = context.view

    def vm_name(row: LoggedEvent) -> str | None:
        vm = view.vms.get(row.vm_id) if row.vm_id else None
        return vm.name if vm is not None else None

    def node_name(row: LoggedEvent) -> str | None:
        node = view.nodes.get(row.node_id) if row.node_id else None
        return node.name if node is not None else None

    def storage_name(row: LoggedEvent) -> str | None:
        is_meant = row.code.startswith("storage_domain_")
        return str(row.fields.get("name", "")) if is_meant else None

    return {
        "id": SearchField(lambda row: row.seq, Kind.NUMBER),
        "type": SearchField(code_of, Kind.NUMBER),
        "severity": SearchField(
            lambda row: messages.severity(row.code).value, Kind.STATUS
        ),
        "message": SearchField(description),
        "time": SearchField(lambda row: element.moment(row.at), Kind.TIME),
        "usrname": SearchField(lambda row: row.user),
        "correlation_id": SearchField(lambda row: row.correlation_id),
        "origin": SearchField(lambda row: compatibility.EVENT_ORIGIN),
        "custom_event_id": SearchField(lambda row: -1, Kind.NUMBER),
        "event_vm": SearchField(vm_name),
        "vm.name": SearchField(vm_name),
        "vm.id": SearchField(lambda row: row.vm_id),
        "event_storage": SearchField(storage_name, is_free=False),
        "storage.name": SearchField(storage_name),
        "event_host": SearchField(node_name),
        "host.name": SearchField(node_name),
        "host.id": SearchField(lambda row: row.node_id),
    }


def _select(call: Call, query: Query, maximum: int | None) -> Iterable[LoggedEvent]:
    fields = _fields(call.context)
    search.sort_key(query, fields)  # events have one order; the field must exist
    matches = search.matcher(
        query, fields, is_case_sensitive=call.parameters.flag("case_sensitive")
    )
    skipped = 0 if maximum is None else (query.page - 1) * maximum
    last = None if maximum is None else skipped + maximum
    if maximum is None and query.page > 1:
        return ()
    found = filter(matches, _newest_first(call, query, last))
    return itertools.islice(found, skipped, last)


def _newest_first(call: Call, query: Query, last: int | None) -> Iterator[LoggedEvent]:
    """Yield events after `from`, in batches no larger than what can be used."""
    batch = _BATCH if query.alternatives or last is None else min(last, _BATCH)
    before = None
    looked_at = 0
    while looked_at < _SEARCHED_MAX and batch:
        events = call.services.events.list(
            after=call.parameters.number("from"), before=before, maximum=batch
        )
        yield from events
        if len(events) < batch:
            return
        looked_at += len(events)
        before = events[-1].seq


COLLECTION: Final = Collection("events", RESOURCE, Object.FLEET, find, _select)
