"""Keep what this node knows: documents, events, settings, the job journal.

One SQLite file with a write-ahead log, the only one of the node. A change is
one transaction, and when it returns it is on disk. Writers take turns; readers
have connections of their own and wait for nobody.

    document   kind, id, revision, body     what the feed carries
    tombstone  kind, id, revision           what was a document; bounded
    retired    VM id                        VMs that were deleted; bounded
    event      boot, number, body           bounded; a mark for each aggregator
    setting    name, body                   what is ours alone
    journal    job, verb, arguments         jobs that have not ended

Its schema, step by step, is in `node.store_schema`.
"""

import contextlib
import json
import logging
import os
import sqlite3
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from node import store_schema, wire
from node.clock import Clock, rfc3339
from node.errors import Failed, NotFound, Unavailable, Unsupported
from node.model.event import Event
from node.model.feed import Document, Tombstone
from node.model.ids import CorrelationId, JobId, NodeId, VmId
from node.model.reason import Scalar
from node.model.requests import Changes, EventList
from node.units import MiB
from node.wire import Json

log = logging.getLogger(__name__)

# A peer that missed more deletions than this is told everything anew.
TOMBSTONES_MAX: Final = 10_000
# About 3 MB: a week of a busy node, or a month with no aggregator in reach.
EVENTS_MAX: Final = 10_000
# 6 MB. An order to create is asked again within seconds, not 100,000 deletions later.
RETIRED_MAX: Final = 100_000
# Only a backup or a person with a shell ever holds the file locked.
_LOCK_WAIT_S: Final = 10.0
# The log is cut back to this after a checkpoint.
_LOG_MAX: Final = 4 * MiB


class StorageFull(Unavailable):
    """The disk is full: the change was undone, the old state is intact."""

    code = "storage_full"
    remedy = "Free space on the disk that the message names, then try again."


class StoreFailed(Failed):
    """The file of the store cannot be read or written."""

    code = "store_failed"
    remedy = "Check the disk and the kernel's log, then start the agent again."


class StoreTooNew(Unsupported):
    """A newer agent has written the file, or documents in it; nothing is changed."""

    code = "store_too_new"
    remedy = "Start the newer agent again."


class RevisionUnknown(NotFound):
    """What changed since that revision can no longer be told."""

    code = "revision_unknown"
    remedy = "Read everything: ask for the changes since 0."


@dataclass(frozen=True, slots=True)
class JournalEntry:
    job_id: JobId
    verb: str
    arguments: Json


class Change:
    """One transaction; see `Store.change`."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        clock: Clock,
        node_id: NodeId,
        boot_id: str,
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._node_id = node_id
        self._boot_id = boot_id
        self._before = _read_rev(connection)
        self.rev = self._before  # what it will be after this change
        self.has_events = False

    def get(self, kind: str, id: str) -> Document | None:
        """Return a document as this change leaves it."""
        return _read_document(self._connection, kind, id)

    def setting(self, name: str) -> Json | None:
        """Return a setting as this change leaves it."""
        return _read_setting(self._connection, name)

    def put(self, kind: str, id: str, value: object) -> None:
        """Keep a dataclass or JSON object as a document; an equal one is passed by."""
        body = _dump(value)
        row = self._connection.execute(
            "SELECT body FROM document WHERE kind = ? AND id = ?", (kind, id)
        ).fetchone()
        if row is not None and row[0] == body:
            return
        self._connection.execute(
            "INSERT OR REPLACE INTO document (kind, id, rev, body) VALUES (?, ?, ?, ?)",
            (kind, id, self._grow(), body),
        )
        self._connection.execute(
            "DELETE FROM tombstone WHERE kind = ? AND id = ?", (kind, id)
        )

    def delete(self, kind: str, id: str) -> None:
        """Turn a document into a tombstone; one that is not there is passed by."""
        gone = self._connection.execute(
            "DELETE FROM document WHERE kind = ? AND id = ?", (kind, id)
        )
        if gone.rowcount:
            self._connection.execute(
                "INSERT OR REPLACE INTO tombstone (kind, id, rev) VALUES (?, ?, ?)",
                (kind, id, self._grow()),
            )
            self._drop_old_tombstones()

    def retire(self, vm_id: VmId) -> None:
        """Remember for good that this id was a VM's; the oldest are forgotten."""
        execute = self._connection.execute
        execute("INSERT OR IGNORE INTO retired (vm_id) VALUES (?)", (vm_id,))
        (newest,) = execute("SELECT max(seq) FROM retired").fetchone()
        execute("DELETE FROM retired WHERE seq <= ?", (newest - RETIRED_MAX,))

    def event(
        self,
        code: str,
        *,
        vm_id: VmId | None = None,
        correlation_id: CorrelationId | None = None,
        **fields: Scalar,
    ) -> None:
        """Record that something happened now; its number is the next of this boot."""
        number = _last_number(self._connection, self._boot_id) + 1
        event = Event(
            self._node_id,
            self._boot_id,
            number,
            rfc3339(self._clock.now()),
            code,
            fields,
            vm_id,
            correlation_id,
        )
        self._connection.execute(
            "INSERT INTO event (boot_id, number, body) VALUES (?, ?, ?)",
            (self._boot_id, number, _dump(event)),
        )
        self.has_events = True
        self._drop_old_events()

    def set(self, name: str, value: Json) -> None:
        """Keep a setting; None removes it."""
        if value is None:
            self._connection.execute("DELETE FROM setting WHERE name = ?", (name,))
        else:
            self._connection.execute(
                "INSERT OR REPLACE INTO setting (name, body) VALUES (?, ?)",
                (name, _dump(value)),
            )

    def journal(self, job_id: JobId, verb: str, arguments: Json) -> None:
        """Remember a job that has not ended, with all it takes to run it again."""
        self._connection.execute(
            "INSERT OR REPLACE INTO journal (job_id, verb, arguments) VALUES (?, ?, ?)",
            (job_id, verb, _dump(arguments)),
        )

    def forget(self, job_id: JobId) -> None:
        """Take a job that has ended out of the journal."""
        self._connection.execute("DELETE FROM journal WHERE job_id = ?", (job_id,))

    def _grow(self) -> int:
        """Return this change's revision: one for all that it changes."""
        if self.rev == self._before:
            self.rev += 1
            self._connection.execute("UPDATE meta SET rev = ?", (self.rev,))
        return self.rev

    def _drop_old_tombstones(self) -> None:
        row = self._connection.execute(
            "SELECT rev FROM tombstone ORDER BY rev DESC LIMIT 1 OFFSET ?",
            (TOMBSTONES_MAX,),
        ).fetchone()
        if row is not None:
            self._connection.execute("DELETE FROM tombstone WHERE rev <= ?", row)
            self._connection.execute("UPDATE meta SET horizon = ?", row)

    def _drop_old_events(self) -> None:
        """Drop a tenth at once, so that it is seldom done and seldom warned of."""
        first, last = self._connection.execute(
            "SELECT (SELECT min(seq) FROM event), (SELECT max(seq) FROM event)"
        ).fetchone()
        if last - first < EVENTS_MAX:
            return
        dropped = first + EVENTS_MAX // 10
        for (aggregator,) in self._connection.execute(
            "SELECT aggregator FROM acknowledged WHERE seq < ?", (dropped - 1,)
        ):
            log.warning("events that aggregator %s has not seen are lost", aggregator)
        self._connection.execute("DELETE FROM event WHERE seq < ?", (dropped,))


class Store:
    """The memory of a node. Every method may be called from every thread."""

    def __init__(self, path: Path, clock: Clock, node_id: NodeId, boot_id: str) -> None:
        """Open the file, or make it; StoreFailed and StoreTooNew if it cannot be."""
        self._path = path
        self._clock = clock
        self._node_id = node_id
        self._writing = threading.Lock()
        self._writer_thread = 0  # whose change is open
        self._readers: deque[sqlite3.Connection] = deque()
        self._news = threading.Condition()
        self._listeners: tuple[Callable[[], None], ...] = ()
        self._is_closed = False
        with _our_errors(path):
            self._writer = _connect(path)
            try:
                _upgrade(self._writer, path)
                row = self._writer.execute("SELECT epoch, rev FROM meta").fetchone()
                self.epoch: str = row[0]
                self._rev: int = row[1]
                # Numbers of events begin anew with each boot and with each store.
                self.boot_id = str(uuid.uuid5(uuid.UUID(self.epoch), boot_id))
                self._number = _last_number(self._writer, self.boot_id)
            except BaseException:
                self._writer.close()
                raise

    @property
    def rev(self) -> int:
        return self._rev

    @contextlib.contextmanager
    def change(self) -> Iterator[Change]:
        """Hold one transaction: it is on disk at the end, or did not happen.

        Raises StorageFull when the disk is full. Changes do not nest, and no
        other lock may be asked for inside one.
        """
        assert self._writer_thread != threading.get_ident(), "changes do not nest"
        with self._writing, _our_errors(self._path):
            self._writer_thread = threading.get_ident()
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                change = Change(self._writer, self._clock, self._node_id, self.boot_id)
                yield change
                self._writer.execute("COMMIT")
            except BaseException:
                # A full disk may have made SQLite roll back by itself.
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise
            finally:
                self._writer_thread = 0
            has_news = change.has_events or change.rev > self._rev
            if has_news:
                with self._news:
                    self._rev = change.rev
                    self._number = _last_number(self._writer, self.boot_id)
                    self._news.notify_all()
        if has_news:
            for listener in self._listeners:
                listener()

    def listen(self, listener: Callable[[], None]) -> None:
        """Call after each change of documents or events; it must not wait."""
        self._listeners = (*self._listeners, listener)

    def get(self, kind: str, id: str) -> Document | None:
        with self._reader() as connection:
            return _read_document(connection, kind, id)

    def list(self, kind: str) -> tuple[Document, ...]:
        """Return all documents of a kind, in the order of their ids."""
        with self._reader() as connection:
            rows = connection.execute(
                "SELECT kind, id, rev, body FROM document WHERE kind = ? ORDER BY id",
                (kind,),
            )
            return tuple(map(_document, rows))

    def setting(self, name: str) -> Json | None:
        with self._reader() as connection:
            return _read_setting(connection, name)

    def is_retired(self, vm_id: VmId) -> bool:
        with self._reader() as connection:
            sql = "SELECT 1 FROM retired WHERE vm_id = ?"
            return connection.execute(sql, (vm_id,)).fetchone() is not None

    def journal(self) -> tuple[JournalEntry, ...]:
        """Return the jobs that have not ended, in the order they were asked."""
        with self._reader() as connection:
            rows = connection.execute(
                "SELECT job_id, verb, arguments FROM journal ORDER BY seq"
            )
            return tuple(
                JournalEntry(JobId(job_id), verb, json.loads(arguments))
                for job_id, verb, arguments in rows
            )

    def changes(self, since: int) -> Changes:
        """Return what changed after a revision; 0 means everything there is.

        Raises RevisionUnknown for a revision that is too old or yet to come.
        """
        with self._reader() as connection, _snapshot(connection):
            rev, horizon = connection.execute(
                "SELECT rev, horizon FROM meta"
            ).fetchone()
            if since > rev or 0 < since < horizon or since < 0:
                raise RevisionUnknown(
                    f"revision {since} is not between {horizon} and {rev}", rev=rev
                )
            changed = connection.execute(
                "SELECT kind, id, rev, body FROM document WHERE rev > ?"
                " ORDER BY rev, kind, id",
                (since,),
            ).fetchall()
            gone = connection.execute(
                "SELECT kind, id, rev FROM tombstone WHERE rev > ?"
                " ORDER BY rev, kind, id",
                (since if since else rev,),
            ).fetchall()
        return Changes(
            self.epoch,
            rev,
            tuple(map(_document, changed)),
            tuple(Tombstone(*row) for row in gone),
        )

    def wait(self, since_rev: int, timeout_s: float) -> int:
        """Wait until the revision is above one, and return what it is then."""
        with self._news:
            self._news.wait_for(
                lambda: self._rev > since_rev or self._is_closed, timeout_s
            )
            return self._rev

    def events(self, since: int) -> EventList:
        """Return the events of this boot with a number above one."""
        with self._reader() as connection, _snapshot(connection):
            rows = connection.execute(
                "SELECT body FROM event WHERE boot_id = ? AND number > ?"
                " ORDER BY number",
                (self.boot_id, since),
            ).fetchall()
            last = _last_number(connection, self.boot_id)
        return EventList(tuple(_event(body) for (body,) in rows), self.boot_id, last)

    def wait_events(self, since: int, timeout_s: float) -> int:
        """Wait for an event with a number above one; return the newest number."""
        with self._news:
            self._news.wait_for(
                lambda: self._number > since or self._is_closed, timeout_s
            )
            return self._number

    def pending_events(self, aggregator: str, maximum: int) -> tuple[Event, ...]:
        """Return the oldest events an aggregator has not acknowledged, of any boot."""
        with self._reader() as connection:
            rows = connection.execute(
                "SELECT body FROM event WHERE seq > ifnull("
                "  (SELECT seq FROM acknowledged WHERE aggregator = ?), 0)"
                " ORDER BY seq LIMIT ?",
                (aggregator, maximum),
            )
            return tuple(_event(body) for (body,) in rows)

    def acknowledge_events(
        self, aggregator: str, number: int, boot_id: str | None = None
    ) -> None:
        """Mark the events up to a number as committed by an aggregator.

        `boot_id` None means this boot. A mark never moves back.
        """
        with self.change():
            self._writer.execute(
                "INSERT INTO acknowledged (aggregator, seq)"
                " SELECT ?, ifnull(max(seq), 0) FROM event"
                "   WHERE boot_id = ? AND number <= ?"
                " ON CONFLICT (aggregator) DO UPDATE"
                "   SET seq = max(acknowledged.seq, excluded.seq)",
                (aggregator, boot_id or self.boot_id, number),
            )

    def acknowledged(self, aggregator: str) -> int:
        """Return up to which number an aggregator has the events of this boot."""
        with self._reader() as connection:
            row = connection.execute(
                "SELECT ifnull(max(number), 0) FROM event WHERE boot_id = ?"
                " AND seq <= (SELECT seq FROM acknowledged WHERE aggregator = ?)",
                (self.boot_id, aggregator),
            ).fetchone()
            number: int = row[0]
            return number

    def rewind_events(self, aggregator: str) -> None:
        """Take back all acknowledgements: the aggregator lost its memory."""
        with self.change():
            self._writer.execute(
                "INSERT OR REPLACE INTO acknowledged (aggregator, seq) VALUES (?, 0)",
                (aggregator,),
            )

    def forget_aggregator(self, aggregator: str) -> None:
        """No longer count an aggregator among those that must see each event."""
        with self.change():
            self._writer.execute(
                "DELETE FROM acknowledged WHERE aggregator = ?", (aggregator,)
            )

    def close(self) -> None:
        """Wake up who waits, and close the file."""
        with self._news:
            self._is_closed = True
            self._news.notify_all()
        with self._writing:
            while self._readers:
                self._readers.pop().close()
            self._writer.close()

    @contextlib.contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection that nobody else reads from at the moment."""
        with _our_errors(self._path):
            try:
                connection = self._readers.pop()
            except IndexError:
                connection = _connect(self._path)
            try:
                yield connection
            finally:
                if self._is_closed:
                    connection.close()
                else:
                    self._readers.append(connection)


def _dump(value: object) -> str:
    """Return JSON that is the same text for the same value."""
    return json.dumps(
        wire.to_json(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )


def _document(row: tuple[str, str, int, str]) -> Document:
    kind, id, rev, body = row
    return Document(kind, id, rev, json.loads(body))


def _event(body: str) -> Event:
    return wire.from_json(Event, json.loads(body), strict=False)


def _read_document(
    connection: sqlite3.Connection, kind: str, id: str
) -> Document | None:
    row = connection.execute(
        "SELECT kind, id, rev, body FROM document WHERE kind = ? AND id = ?",
        (kind, id),
    ).fetchone()
    return _document(row) if row is not None else None


def _read_setting(connection: sqlite3.Connection, name: str) -> Json | None:
    row = connection.execute(
        "SELECT body FROM setting WHERE name = ?", (name,)
    ).fetchone()
    return json.loads(row[0]) if row is not None else None


def _read_rev(connection: sqlite3.Connection) -> int:
    rev: int = connection.execute("SELECT rev FROM meta").fetchone()[0]
    return rev


def _last_number(connection: sqlite3.Connection, boot_id: str) -> int:
    """Return the number of the newest event of a boot, which is never dropped."""
    row = connection.execute(
        "SELECT ifnull(max(number), 0) FROM event WHERE boot_id = ?", (boot_id,)
    ).fetchone()
    number: int = row[0]
    return number


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        os.fspath(path),
        timeout=_LOCK_WAIT_S,
        isolation_level=None,  # we say BEGIN and COMMIT ourselves
        check_same_thread=False,  # a connection is used by one thread at a time
    )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA journal_size_limit = {_LOG_MAX}")
    return connection


@contextlib.contextmanager
def _snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Read several tables as they were at one moment."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("COMMIT")


@contextlib.contextmanager
def _our_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours."""
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise StorageFull(
                f"the disk that holds {path} is full", path=str(path)
            ) from error
        raise StoreFailed(
            f"{path} cannot be used: {error}", path=str(path), detail=str(error)
        ) from error


def _upgrade(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the file to the newest schema; each step is all or nothing."""
    steps = store_schema.STEPS
    (done,) = connection.execute("PRAGMA user_version").fetchone()
    if done > len(steps):
        raise StoreTooNew(
            f"{path} has schema {done}, this agent knows {len(steps)}", path=str(path)
        )
    for version, statements in enumerate(steps[done:], start=done + 1):
        connection.execute("BEGIN IMMEDIATE")
        for statement in statements:
            connection.execute(statement, {"epoch": str(uuid.uuid4())})
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute("COMMIT")
    if found := store_schema.too_new(connection.execute(store_schema.NEWEST)):
        raise StoreTooNew(f"{path} has {found}", path=str(path))
