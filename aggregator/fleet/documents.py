"""Gather what a fleet cannot do without into one text, and put it back.

What is not here is told by the nodes, or dies with the aggregator: sessions,
tokens, orders, candidates, events.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aggregator import db
from node import wire
from node.errors import Invalid
from node.log import Secret
from node.model.fleet import SealedFleet
from node.model.ids import FleetId

# Members; users, roles and the like; revoked certificates; the fleet's settings.
COLLECTIONS: Final = ("member", "fleet", "certificate", "setting")
# Settings that say how this aggregator stands, not how the fleet is.
LEADERSHIP: Final = "leadership"
SEALED: Final = "sealed"
_SCHEMA: Final = 1


class UnknownSchema(Invalid):
    code = "unknown_schema"
    remedy = "Rebuild with the version of Skerry that the fleet ran last, or newer."


@dataclass(frozen=True, slots=True)
class Keys:
    ca_key: str  # PEM
    ca_certificate: str


@dataclass(frozen=True, slots=True)
class FleetDocuments:
    """All that is sealed; records are {collection: {id: body}}."""

    fleet_id: FleetId
    keys: Keys
    records: Mapping[str, Mapping[str, wire.Json]]
    schema: int = _SCHEMA


def gather(
    database: db.Database, fleet_id: FleetId, ca_key: Secret, ca_certificate: str
) -> FleetDocuments:
    """Return the fleet's documents as they are now."""
    keys = Keys(ca_key.reveal(), ca_certificate)
    return FleetDocuments(fleet_id, keys, records(database))


def records(database: db.Database) -> dict[str, dict[str, wire.Json]]:
    """Return the fleet's records, {collection: {id: body}}."""
    return {
        collection: {
            record.id: record.body
            for record in database.records(collection).list()
            if not _is_own(collection, record.id)
        }
        for collection in COLLECTIONS
    }


def restore(database: db.Database, documents: FleetDocuments) -> None:
    """Put the records back; doing it twice is doing it once."""
    for collection in COLLECTIONS:
        records = database.records(collection)
        for identity, body in documents.records.get(collection, {}).items():
            records.put(identity, body)


def replace(
    database: db.Database, given: Mapping[str, Mapping[str, wire.Json]]
) -> None:
    """Make the fleet's records those that are given; equal ones are not touched."""
    for collection, before in records(database).items():
        kept = database.records(collection)
        after = given.get(collection, {})
        for identity in before.keys() - after.keys():
            kept.delete(identity)
        for identity, body in after.items():
            if before.get(identity) != body:
                kept.put(identity, body)


def dump(documents: FleetDocuments) -> bytes:
    """Return the text of the documents: equal documents, equal text."""
    ordered = {
        collection: dict(sorted(documents.records[collection].items()))
        for collection in sorted(documents.records)
    }
    return wire.encode({**wire.to_json(documents), "records": ordered})


def parse(text: bytes) -> FleetDocuments:
    """Return the documents in a text; Invalid if a newer version wrote it."""
    documents = wire.decode(FleetDocuments, text, strict=False)
    if documents.schema > _SCHEMA:
        raise UnknownSchema(f"the copy has schema {documents.schema}", known=_SCHEMA)
    return documents


def sealed_in(record: db.Record) -> SealedFleet:
    """Return the sealed copy that a record keeps."""
    return wire.from_json(SealedFleet, record.body["copy"], strict=False)


def _is_own(collection: str, identity: str) -> bool:
    return collection == "setting" and identity in (LEADERSHIP, SEALED)
