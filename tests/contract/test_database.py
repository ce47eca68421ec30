"""The database, on SQLite and on PostgreSQL: one suite.

PostgreSQL is Debian's; a server of its own runs for this module only, in a
folder of pytest, reached by a unix socket.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.engine.interfaces import CacheStats

from aggregator import db
from aggregator.db import DocumentRow, FeedChange, FeedRow, NewEvent, Record

pytestmark = pytest.mark.filterwarnings("error")
START_S = 60.0


def _programs() -> Path | None:
    """Return the folder of the newest PostgreSQL on this machine."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    return found[-1].parent if found else None


def _why_no_postgresql() -> str:
    if _programs() is None:
        return "the package postgresql is not installed"
    if os.geteuid() == 0:
        try:
            pwd.getpwnam("postgres")
        except KeyError:
            return "there is no user postgres"
    return ""


class Server:
    """One server, and a new database in it for each test."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self._folder = folder
        self._programs = programs
        self._made = 0
        # Nobody but root can become postgres, and postgres refuses to be root.
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user is not None:
            shutil.chown(folder, self._user)
        self._run(
            "initdb", "-D", self._data, "-A", "trust", "-U", "skerry", "-E", "UTF8"
        )
        options = f"-k {folder} -c listen_addresses='' -c fsync=off"
        log = str(folder / "log")
        self._run("pg_ctl", "-D", self._data, "-l", log, "-w", "-o", options, "start")

    def new_url(self) -> str:
        self._made += 1
        name = f"test{self._made}"
        self._run("createdb", "-h", str(self._folder), "-U", "skerry", name)
        return f"postgresql+psycopg://skerry@/{name}?host={self._folder}"

    def stop(self) -> None:
        self._run("pg_ctl", "-D", self._data, "-m", "immediate", "-w", "stop")

    @property
    def _data(self) -> str:
        return str(self._folder / "data")

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._programs / program, *arguments],
            user=self._user,
            cwd=self._folder,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            timeout=START_S,
        )


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    why = _why_no_postgresql()
    programs = _programs()
    if why or programs is None:
        pytest.skip(why)
    # A socket's path is short, and another user must be able to enter.
    folder = Path(tempfile.mkdtemp(prefix="skerry-pg-"))
    started = Server(folder, programs)
    yield started
    started.stop()
    shutil.rmtree(folder)


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("postgresql", marks=pytest.mark.database),
    ]
)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return db.sqlite_url(tmp_path / "aggregator.db")
    server: Server = request.getfixturevalue("server")
    return server.new_url()


@pytest.fixture
def database(url: str) -> Iterator[db.Database]:
    opened = db.Database(url)
    yield opened
    opened.close()


def feed(node_id: str = "n1", rev: int = 1, events: int = 0) -> FeedRow:
    return FeedRow(node_id, "epoch-1", rev, "boot-1", events)


def document(identity: str, node_id: str = "n1", body: str = "{}") -> DocumentRow:
    return DocumentRow(node_id, "vm", identity, 1, body)


def node_event(number: int, boot_id: str = "boot-1") -> NewEvent:
    return NewEvent("t", "vm_created", {}, "n1", boot_id=boot_id, number=number)


def test_migrations_make_the_tables_that_the_code_uses(url: str) -> None:
    db.Database(url).close()
    engine = sqlalchemy.create_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "include_object": _is_ours}
        )
        assert compare_metadata(context, db.METADATA) == []
    engine.dispose()


def _is_ours(
    _item: object, name: str | None, kind: str, _reflected: bool, _other: object
) -> bool:
    return not (kind == "table" and name == "alembic_version")


def test_open_keeps_what_was_written(url: str) -> None:
    first = db.Database(url)
    first.records("member").put("a", {"n": 1})
    first.close()
    second = db.Database(url)
    assert second.records("member").get("a") == Record("a", 1, {"n": 1})
    second.close()


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"text": "Zoë 漢字 \0 \ud800", "n": 2**62}, id="object"),
        pytest.param([1, None, True, 0.1], id="list"),
        pytest.param(None, id="null"),
        pytest.param(False, id="false"),
    ],
)
def test_put_returns_what_get_returns(database: db.Database, body: object) -> None:
    records = database.records("setting")
    assert records.put("a", body) == records.get("a") == Record("a", 1, body)


def test_put_raises_the_version_by_one(database: db.Database) -> None:
    records = database.records("setting")
    records.put("a", 1)
    assert records.put("a", 2).version == 2
    assert records.put("a", 3, expected_version=2).version == 3


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        pytest.param(2, 1, id="changed-meanwhile"),
        pytest.param(1, 0, id="exists"),
        pytest.param(0, 1, id="is-gone"),
    ],
)
def test_put_refuses_a_stale_version(
    database: db.Database, written: int, expected: int
) -> None:
    records = database.records("setting")
    for number in range(written):
        records.put("a", number)
    before = records.get("a")
    with pytest.raises(db.StaleRecord) as caught:
        records.put("a", "new", expected_version=expected)
    assert caught.value.fields["version"] == written
    assert records.get("a") == before


def test_put_lets_one_of_many_win(database: db.Database) -> None:
    records = database.records("setting")
    records.put("a", "first")
    won: list[int] = []

    def change(number: int) -> None:
        try:
            records.put("a", number, expected_version=1)
            won.append(number)
        except db.StaleRecord:
            pass

    threads = [threading.Thread(target=change, args=(each,)) for each in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30.0)
    assert len(won) == 1
    assert records.get("a") == Record("a", 2, won[0])


def test_list_sorts_by_code_point_and_keeps_collections_apart(
    database: db.Database,
) -> None:
    for name in ("b", "a", "Z", "é"):
        database.records("member").put(name, name)
    database.records("token").put("t", 1)
    listed = [record.id for record in database.records("member").list()]
    assert listed == ["Z", "a", "b", "é"]


def test_delete_says_whether_there_was_one(database: db.Database) -> None:
    records = database.records("member")
    records.put("a", 1)
    assert records.delete("a")
    assert not records.delete("a")
    assert records.get("a") is None


def test_save_feeds_keeps_several_nodes_apart(database: db.Database) -> None:
    database.save_feeds(
        [
            FeedChange(feed("n1"), documents=(document("a"), document("b"))),
            FeedChange(feed("n2"), documents=(document("a", "n2"),)),
        ]
    )
    assert {each.node_id for each in database.feeds()} == {"n1", "n2"}
    assert {each.id for each in database.documents("n1")} == {"a", "b"}
    assert len(list(database.documents())) == 3


def test_save_feeds_changes_and_deletes(database: db.Database) -> None:
    database.save_feeds([FeedChange(feed(), documents=(document("a"), document("b")))])
    change = FeedChange(
        feed(rev=2), documents=(document("a", body='{"n":2}'),), gone=(("vm", "b"),)
    )
    database.save_feeds([change])
    (row,) = database.documents()
    assert (row.id, row.body) == ("a", '{"n":2}')
    assert database.feeds() == (feed(rev=2),)


def test_save_feeds_replaces_everything_of_that_node(database: db.Database) -> None:
    database.save_feeds([FeedChange(feed("n2"), documents=(document("x", "n2"),))])
    database.save_feeds([FeedChange(feed(), documents=(document("a"),))])
    database.save_feeds([FeedChange(feed(), True, (document("b"),))])
    assert {each.id for each in database.documents()} == {"b", "x"}


def test_save_feeds_writes_all_or_nothing(database: db.Database) -> None:
    bad = NewEvent("t", "c", {}, None)
    object.__setattr__(bad, "at", None)
    with pytest.raises(sqlalchemy.exc.IntegrityError):
        database.save_feeds(
            [FeedChange(feed(), documents=(document("a"),), events=(bad,))]
        )
    assert not database.feeds()
    assert not list(database.documents())


def test_save_feeds_stores_an_event_once(database: db.Database) -> None:
    events = (node_event(1), node_event(2), node_event(1))
    assert database.save_feeds([FeedChange(feed(), events=events)]) == 2
    assert database.save_feeds([FeedChange(feed(), events=events)]) == 0
    again = (node_event(1, "boot-2"), replace(node_event(1), at="later"))
    assert database.save_feeds([FeedChange(feed(), events=again)]) == 2


def test_save_feeds_compiles_each_statement_once(database: db.Database) -> None:
    change = FeedChange(
        feed(), True, (document("a"),), (("vm", "b"),), (node_event(1),)
    )
    database.save_feeds([change])
    database.records("member").put("a", 1)
    database.records("member").get("a")
    compiled: list[str] = []

    def note(*call: Any) -> None:
        statement, context = call[2], call[4]
        if (
            context.compiled is not None
            and context.cache_hit is not CacheStats.CACHE_HIT
        ):
            compiled.append(statement)

    sqlalchemy.event.listen(database._engine, "after_cursor_execute", note)
    database.save_feeds([replace(change, events=(node_event(2),))])
    database.records("member").put("a", 2)
    database.records("member").get("a")
    assert compiled == []
    assert database.last_event() == 2


def test_forget_node_keeps_its_events(database: db.Database) -> None:
    change = FeedChange(feed(), documents=(document("a"),), events=(node_event(1),))
    database.save_feeds([change])
    database.forget_node("n1")
    assert not database.feeds()
    assert not list(database.documents())
    assert len(database.events()) == 1


def test_add_events_numbers_them_in_order(database: db.Database) -> None:
    first = database.add_events([NewEvent("t", "a", {}), NewEvent("t", "b", {"n": 1})])
    second = database.add_events([NewEvent("t", "c", {})])
    assert list(first + second) == sorted(first + second)
    assert database.last_event() == second[0]
    assert [each.code for each in database.events()] == ["c", "b", "a"]
    assert database.events()[1].fields == {"n": 1}


def test_events_gives_a_page(database: db.Database) -> None:
    numbers = database.add_events(
        NewEvent("t", "c", {}, node_id=f"n{i % 2}", vm_id=f"v{i % 3}")
        for i in range(12)
    )
    page = database.events(before=numbers[10], after=numbers[1], maximum=3)
    assert [each.seq for each in page] == [numbers[9], numbers[8], numbers[7]]
    oldest = database.events(after=numbers[1], maximum=1, is_newest_first=False)
    assert [each.seq for each in oldest] == [numbers[2]]
    assert len(database.events(node_id="n0")) == 6
    assert len(database.events(vm_id="v2")) == 4
    assert database.events(maximum=-1) == ()


def test_last_event_is_zero_when_there_is_none(database: db.Database) -> None:
    assert database.last_event() == 0


def test_documents_can_be_read_while_others_write(database: db.Database) -> None:
    database.save_feeds([FeedChange(feed(), documents=(document("a"), document("b")))])
    rows = database.documents()
    next(rows)
    database.records("member").put("a", 1)
    assert len(list(rows)) == 1


def test_events_takes_numbers_that_no_integer_of_a_database_holds(
    database: db.Database,
) -> None:
    (number,) = database.add_events([NewEvent("t", "a", {})])
    assert [each.seq for each in database.events(before=10**30)] == [number]
    assert database.events(after=10**30) == ()
