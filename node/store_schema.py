"""Say what the store's file looks like, and which documents we can read. Pure.

The statements of each step bring a file to the next schema; `:epoch` is a new
random id. Every document and event carries the schema of its own form: one
from a newer agent is neither read nor written over, so that the newer agent
finds it as it left it.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Final

from node.model.event import Event
from node.model.feed import Kind
from node.model.host import Device, Image, NodeFacts
from node.model.job import Job
from node.model.storage import DiskDocument, PoolDocument, StorageDomainDocument
from node.model.templates import Template
from node.model.vm import Vm, VmRun

_CREATE: Final = (
    "CREATE TABLE meta (epoch TEXT NOT NULL, rev INTEGER NOT NULL,"
    "  horizon INTEGER NOT NULL)",
    "CREATE TABLE document (kind TEXT NOT NULL, id TEXT NOT NULL,"
    "  rev INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (kind, id))"
    "  WITHOUT ROWID",
    "CREATE INDEX document_rev ON document (rev)",
    "CREATE TABLE tombstone (kind TEXT NOT NULL, id TEXT NOT NULL,"
    "  rev INTEGER NOT NULL, PRIMARY KEY (kind, id)) WITHOUT ROWID",
    "CREATE INDEX tombstone_rev ON tombstone (rev)",
    "CREATE TABLE event (seq INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  boot_id TEXT NOT NULL, number INTEGER NOT NULL, body TEXT NOT NULL,"
    "  UNIQUE (boot_id, number))",
    "CREATE TABLE acknowledged (aggregator TEXT PRIMARY KEY,  seq INTEGER NOT NULL)",
    "CREATE TABLE setting (name TEXT PRIMARY KEY, body TEXT NOT NULL)",
    "CREATE TABLE journal (seq INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  job_id TEXT NOT NULL UNIQUE, verb TEXT NOT NULL,"
    "  arguments TEXT NOT NULL)",
    "INSERT INTO meta VALUES (:epoch, 0, 0)",
)
_ADD_RETIRED: Final = (
    "CREATE TABLE retired (seq INTEGER PRIMARY KEY, vm_id TEXT NOT NULL UNIQUE)",
)

# From an empty file to the newest schema: a step that was released is never edited.
STEPS: Final = (_CREATE, _ADD_RETIRED)

# The rows (kind, newest schema) that `too_new` judges.
NEWEST: Final = (
    "SELECT kind, max(json_extract(body, '$.schema')) FROM document GROUP BY kind"
    " UNION ALL SELECT 'event', max(json_extract(body, '$.schema')) FROM event"
)

_FORMS: Final[Mapping[str, type]] = {
    Kind.NODE: NodeFacts,
    Kind.VM: Vm,
    Kind.VM_RUN: VmRun,
    Kind.DEVICE: Device,
    Kind.IMAGE: Image,
    Kind.JOB: Job,
    Kind.DISK: DiskDocument,
    Kind.STORAGE_DOMAIN: StorageDomainDocument,
    Kind.POOL: PoolDocument,
    Kind.TEMPLATE: Template,
    "event": Event,
}


def known(kind: str) -> int | None:
    """Return the schema that we write of a kind; None: we do not write it."""
    form = _FORMS.get(kind)
    if form is None:
        return None
    fields = {field.name: field for field in dataclasses.fields(form)}
    schema = fields["schema"].default
    assert isinstance(schema, int), f"{form} has no schema"
    return schema


def too_new(rows: Iterable[tuple[str, int | None]]) -> str:
    """Return what a newer agent has written, for a person; empty if nothing.

    None stands for documents from before there was a schema: they are of the first.
    """
    found = (
        f"{kind} documents of schema {schema}, this agent knows {ours}"
        for kind, schema in rows
        if (ours := known(kind)) is not None and schema is not None and schema > ours
    )
    return "; ".join(found)
