"""Keep what the aggregator remembers: records, the nodes' documents, events.

The only user of SQLAlchemy. SQLite (write-ahead log, full synchronisation) or
PostgreSQL, by URL: a return means it is on disk. All writes of the process
queue for one lock: SQLite allows one writer, and events must commit in the
order of their numbers. The schema is made by Alembic (`aggregator.migrations`).
"""

import contextlib
import json
import logging
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import alembic.command
import alembic.config
import sqlalchemy
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    TextClause,
    UniqueConstraint,
    bindparam,
)

from node.errors import Conflict, Unavailable
from node.wire import Json

log = logging.getLogger(__name__)

# A page of the event list; whoever wants more asks again.
EVENTS_PAGE_MAX: Final = 1000
# Some weeks of a busy fleet, some 100 MB; the oldest go first.
EVENTS_KEPT: Final = 200_000
_PRUNE_EVERY: Final = 1000
# A commit takes milliseconds; who waits longer than this waits for a dead disk.
_WAIT_S: Final = 10
# Faces, ingest and workers together: each thread uses one at a time.
_CONNECTIONS: Final = 8
_CONNECTIONS_MORE: Final = 56

METADATA: Final = MetaData()

_RECORDS: Final = Table(
    "records",
    METADATA,
    Column("collection", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
    PrimaryKeyConstraint("collection", "id"),
)
_FEEDS: Final = Table(
    "feeds",
    METADATA,
    Column("node_id", Text, primary_key=True),
    Column("epoch", Text, nullable=False),
    Column("rev", BigInteger, nullable=False),
    Column("boot_id", Text, nullable=False),
    Column("events_acknowledged", BigInteger, nullable=False),
)
_DOCUMENTS: Final = Table(
    "documents",
    METADATA,
    Column("node_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("rev", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
    PrimaryKeyConstraint("node_id", "kind", "id"),
)
_EVENTS: Final = Table(
    "events",
    METADATA,
    Column(
        "seq",
        BigInteger().with_variant(Integer, "sqlite"),
        primary_key=True,
        autoincrement=True,
    ),
    Column("at", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("fields", Text, nullable=False),
    Column("node_id", Text),
    Column("vm_id", Text),
    Column("user_name", Text),
    Column("correlation_id", Text),
    Column("boot_id", Text),
    Column("number", BigInteger),
    # The time, too: a store that is made anew within a boot counts anew.
    UniqueConstraint("node_id", "boot_id", "number", "at", name="events_origin"),
    Index("events_of_vm", "vm_id", "seq"),
    Index("events_of_node", "node_id", "seq"),
    sqlite_autoincrement=True,
)

NUMBER_MAX: Final = 2**63 - 1  # what a database's integer holds


def _insert(table: Table, names: Iterable[str]) -> str:
    """Return an INSERT of these columns, whose values have the columns' names."""
    columns = tuple(names)
    values = ", ".join(f":{name}" for name in columns)
    return f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({values})"


def _upsert(table: Table) -> TextClause:
    """Return a statement that writes a row over the one with the same key."""
    names = [column.name for column in table.columns]
    keys = [column.name for column in table.primary_key]
    others = ", ".join(
        f"{name} = excluded.{name}" for name in names if name not in keys
    )
    return sqlalchemy.text(
        f"{_insert(table, names)} "
        f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {others}"
    )


# Both databases spell these alike. As texts, since SQLAlchemy compiles its own
# INSERT ... ON CONFLICT anew each time; made once, since their keys are kept.
_PUT_RECORD: Final = _upsert(_RECORDS)
_PUT_FEED: Final = _upsert(_FEEDS)
_PUT_DOCUMENT: Final = _upsert(_DOCUMENTS)
_ADD_EVENT: Final = sqlalchemy.text(
    _insert(
        _EVENTS, (column.name for column in _EVENTS.columns if column.name != "seq")
    )
    + " ON CONFLICT DO NOTHING RETURNING seq"
)
_DELETE_DOCUMENTS: Final = sqlalchemy.delete(_DOCUMENTS).where(
    _DOCUMENTS.c.node_id == bindparam("of_node")
)
_DELETE_DOCUMENT: Final = _DELETE_DOCUMENTS.where(
    _DOCUMENTS.c.kind == bindparam("of_kind"), _DOCUMENTS.c.id == bindparam("of_id")
)
_SELECT_RECORDS: Final = (
    sqlalchemy.select(_RECORDS.c.id, _RECORDS.c.version, _RECORDS.c.body)
    .where(_RECORDS.c.collection == bindparam("of_collection"))
    .order_by(_RECORDS.c.id)
)
_SELECT_RECORD: Final = _SELECT_RECORDS.where(_RECORDS.c.id == bindparam("of_id"))
_LOCK_RECORD: Final = _SELECT_RECORD.with_for_update()
_LAST_EVENT: Final = sqlalchemy.select(sqlalchemy.func.max(_EVENTS.c.seq))


class DatabaseDown(Unavailable):
    code = "database_down"
    remedy = "Check the database and the disk it is on, then try again."


class StaleRecord(Conflict):
    """Somebody else changed the record since it was read."""

    code = "stale_record"
    remedy = "Read it again, and repeat the change on what it is now."


@dataclass(frozen=True, slots=True)
class Record:
    id: str
    version: int  # 1 when it is made, one more with each change
    body: Json


@dataclass(frozen=True, slots=True)
class FeedRow:
    """How far a node has been heard."""

    node_id: str
    epoch: str
    rev: int
    boot_id: str
    events_acknowledged: int  # number of the newest stored event of that boot


@dataclass(frozen=True, slots=True)
class DocumentRow:
    node_id: str
    kind: str
    id: str
    rev: int
    body: str  # JSON, as it came


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event before it has its number here; a node's has boot id and number."""

    at: str
    code: str
    fields: Mapping[str, Any]
    node_id: str | None = None
    vm_id: str | None = None
    user: str | None = None
    correlation_id: str | None = None
    boot_id: str | None = None
    number: int | None = None


@dataclass(frozen=True, slots=True)
class EventRow:
    seq: int
    at: str
    code: str
    fields: Mapping[str, Any]
    node_id: str | None
    vm_id: str | None
    user: str | None
    correlation_id: str | None


@dataclass(frozen=True, slots=True)
class FeedChange:
    """What one push changes. Complete: all older documents of the node go."""

    feed: FeedRow
    is_complete: bool = False
    documents: tuple[DocumentRow, ...] = ()
    gone: tuple[tuple[str, str], ...] = ()  # (kind, id)
    events: tuple[NewEvent, ...] = ()


class Database:
    def __init__(self, url: str) -> None:
        """Open the database and bring its schema up to date."""
        self._engine = _open(url)
        self._writer = self._engine.execution_options(is_writer=True)
        self._writing = threading.Lock()
        self._events_until_prune = 0
        with self._write() as connection:
            _migrate(connection)

    def close(self) -> None:
        self._engine.dispose()

    def records(self, collection: str) -> "Records":
        return Records(self, collection)

    def feeds(self) -> tuple[FeedRow, ...]:
        with self._read() as connection:
            rows = connection.execute(sqlalchemy.select(_FEEDS)).all()
        return tuple(FeedRow(*row) for row in rows)

    def documents(self, node_id: str | None = None) -> Iterator[DocumentRow]:
        """Yield the documents of a node, or of all nodes, node by node."""
        query = sqlalchemy.select(_DOCUMENTS).order_by(_DOCUMENTS.c.node_id)
        if node_id is not None:
            query = query.where(_DOCUMENTS.c.node_id == node_id)
        with self._read() as connection:
            for row in connection.execution_options(yield_per=1000).execute(query):
                yield DocumentRow(*row)

    def save_feeds(self, changes: Sequence[FeedChange]) -> int:
        """Commit what several nodes pushed at once.

        Return how many of their events are new: known ones are passed over.
        """
        with self._write() as connection:
            for change in changes:
                self._save_feed(connection, change)
            events = [event for change in changes for event in change.events]
            return len(self._add_events(connection, events))

    def forget_node(self, node_id: str) -> None:
        """Delete a node's documents and position; its events stay."""
        with self._write() as connection:
            for table in (_FEEDS, _DOCUMENTS):
                connection.execute(
                    sqlalchemy.delete(table).where(table.c.node_id == node_id)
                )

    def add_events(self, events: Iterable[NewEvent]) -> tuple[int, ...]:
        """Commit events and return the numbers of those that are new."""
        with self._write() as connection:
            return self._add_events(connection, events)

    def events(
        self,
        *,
        before: int | None = None,
        after: int | None = None,
        maximum: int = 100,
        node_id: str | None = None,
        vm_id: str | None = None,
        is_newest_first: bool = True,
    ) -> tuple[EventRow, ...]:
        column = _EVENTS.c
        query = sqlalchemy.select(
            column.seq,
            column.at,
            column.code,
            column.fields,
            column.node_id,
            column.vm_id,
            column.user_name,
            column.correlation_id,
        )
        if before is not None:
            query = query.where(column.seq < min(before, NUMBER_MAX))
        if after is not None:
            query = query.where(column.seq > min(after, NUMBER_MAX))
        if node_id is not None:
            query = query.where(column.node_id == node_id)
        if vm_id is not None:
            query = query.where(column.vm_id == vm_id)
        order = column.seq.desc() if is_newest_first else column.seq.asc()
        query = query.order_by(order).limit(max(0, min(maximum, EVENTS_PAGE_MAX)))
        with self._read() as connection:
            rows = connection.execute(query).all()
        return tuple(
            EventRow(row.seq, row.at, row.code, json.loads(row.fields), *row[4:])
            for row in rows
        )

    def last_event(self) -> int:
        """Return the number of the newest event; 0 if there is none."""
        with self._read() as connection:
            return connection.execute(_LAST_EVENT).scalar() or 0

    @contextlib.contextmanager
    def _read(self) -> Iterator[Connection]:
        with _explained(), self._engine.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def _write(self) -> Iterator[Connection]:
        """Give out the writer's transaction: it commits at the end of the block."""
        with self._writing, _explained(), self._writer.begin() as connection:
            yield connection

    def _save_feed(self, connection: Connection, change: FeedChange) -> None:
        node = {"of_node": change.feed.node_id}
        if change.is_complete:
            connection.execute(_DELETE_DOCUMENTS, node)
        if change.gone:
            connection.execute(
                _DELETE_DOCUMENT,
                [
                    {**node, "of_kind": kind, "of_id": each}
                    for kind, each in change.gone
                ],
            )
        if change.documents:
            rows = [
                {
                    "node_id": row.node_id,
                    "kind": row.kind,
                    "id": row.id,
                    "rev": row.rev,
                    "body": row.body,
                }
                for row in change.documents
            ]
            connection.execute(_PUT_DOCUMENT, rows)
        connection.execute(_PUT_FEED, asdict(change.feed))

    def _add_events(
        self, connection: Connection, events: Iterable[NewEvent]
    ) -> tuple[int, ...]:
        numbers = []
        for event in events:
            row = {
                "at": event.at,
                "code": event.code,
                "fields": json.dumps(dict(event.fields)),
                "node_id": event.node_id,
                "vm_id": event.vm_id,
                "user_name": event.user,
                "correlation_id": event.correlation_id,
                "boot_id": event.boot_id,
                "number": event.number,
            }
            number = connection.execute(_ADD_EVENT, row).scalar()
            if number is not None:
                numbers.append(number)
        self._prune_events(connection, numbers)
        return tuple(numbers)

    def _prune_events(self, connection: Connection, numbers: Sequence[int]) -> None:
        self._events_until_prune -= len(numbers)
        if numbers and self._events_until_prune <= 0:
            self._events_until_prune = _PRUNE_EVERY
            oldest = max(numbers) - EVENTS_KEPT
            connection.execute(
                sqlalchemy.delete(_EVENTS).where(_EVENTS.c.seq <= oldest)
            )


class Records:
    """Versioned JSON bodies of one collection."""

    def __init__(self, database: Database, collection: str) -> None:
        self._database = database
        self._collection = collection

    def get(self, record_id: str) -> Record | None:
        with self._database._read() as connection:
            row = connection.execute(_SELECT_RECORD, self._key(record_id)).first()
        return None if row is None else _record(row)

    def list(self) -> tuple[Record, ...]:
        """Return all records of the collection, by id."""
        collection = {"of_collection": self._collection}
        with self._database._read() as connection:
            rows = connection.execute(_SELECT_RECORDS, collection).all()
        # by code point, whatever the database's locale sorts by
        return tuple(sorted(map(_record, rows), key=lambda record: record.id))

    def put(
        self, record_id: str, body: Json, expected_version: int | None = None
    ) -> Record:
        """Write a record; StaleRecord if it is not the version expected.

        None expects nothing; 0 expects that it does not exist.
        """
        text = json.dumps(body)
        with self._database._write() as connection:
            locked = connection.execute(_LOCK_RECORD, self._key(record_id)).first()
            found = 0 if locked is None else locked.version
            if expected_version is not None and expected_version != found:
                raise StaleRecord(
                    f"{self._collection} {record_id} is at version {found}, "
                    f"not {expected_version}",
                    collection=self._collection,
                    record_id=record_id,
                    version=found,
                )
            row = {
                "collection": self._collection,
                "id": record_id,
                "version": found + 1,
                "body": text,
            }
            connection.execute(_PUT_RECORD, row)
        return Record(record_id, found + 1, json.loads(text))

    def delete(self, record_id: str) -> bool:
        """Delete a record; False if there was none."""
        column = _RECORDS.c
        with self._database._write() as connection:
            result = connection.execute(
                sqlalchemy.delete(_RECORDS).where(
                    column.collection == self._collection, column.id == record_id
                )
            )
        return bool(result.rowcount)

    def _key(self, record_id: str) -> Mapping[str, str]:
        return {"of_collection": self._collection, "of_id": record_id}


def sqlite_url(path: str | os.PathLike[str]) -> str:
    """Return the URL of a database in a file."""
    return sqlalchemy.URL.create(
        "sqlite", database=os.path.abspath(path)
    ).render_as_string()


def _record(row: Sequence[Any]) -> Record:
    return Record(row[0], row[1], json.loads(row[2]))


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Turn what the database's outside did into an error of ours."""
    try:
        yield
    except (
        sqlalchemy.exc.OperationalError,
        sqlalchemy.exc.InterfaceError,
        sqlalchemy.exc.TimeoutError,
    ) as error:
        detail = str(getattr(error, "orig", None) or error)
        raise DatabaseDown(f"the database failed: {detail}") from error


def _open(url: str) -> Engine:
    parsed = sqlalchemy.make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return sqlalchemy.create_engine(
            parsed,
            pool_size=_CONNECTIONS,
            max_overflow=_CONNECTIONS_MORE,
            pool_timeout=_WAIT_S,
            pool_pre_ping=True,
        )
    assert parsed.database, "the file of the database has no name"
    _make_private(parsed.database)
    engine = sqlalchemy.create_engine(
        parsed,
        pool_size=_CONNECTIONS,
        max_overflow=_CONNECTIONS_MORE,
        pool_timeout=_WAIT_S,
        connect_args={"timeout": _WAIT_S},
    )
    sqlalchemy.event.listen(engine, "connect", _prepare_sqlite)
    sqlalchemy.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _make_private(path: str) -> None:
    """Make the file, readable by its owner only: it holds sessions and keys."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise DatabaseDown(f"{path} cannot be opened: {error.strerror}") from error


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # Transactions are begun by _begin_sqlite, not by the driver.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")


def _begin_sqlite(connection: Connection) -> None:
    """Take the write lock at once: an upgrade half-way could not wait for it."""
    is_writer = connection.get_execution_options().get("is_writer", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writer else "BEGIN")


def _migrate(connection: Connection) -> None:
    config = alembic.config.Config()
    config.set_main_option("script_location", "aggregator:migrations")
    config.attributes["connection"] = connection
    alembic.command.upgrade(config, "head")
