"""What the node's memory promises: versions, durability, honest refusals."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from node import store as stores
from node import wire
from node.clock import SystemClock
from node.model.ids import JobId, NodeId, VmId
from node.model.reason import Reason
from node.model.vm import VmRun
from node.store import RevisionUnknown, StorageFull, Store, StoreFailed, StoreTooNew
from tests.fakes.clock import FakeClock

_NODE = NodeId("11111111-2222-4333-8444-000000000001")
_BOOT = "boot-1"
_ROOT = Path(__file__).parents[3]
_GOLDEN = Path(__file__).parent / "golden"


def open_store(folder: Path, boot_id: str = _BOOT) -> Store:
    return Store(folder / "node.db", FakeClock(), _NODE, boot_id)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(tmp_path)
    yield store
    store.close()


def test_put_makes_a_document_with_the_next_revision(store: Store) -> None:
    with store.change() as change:
        change.put("vm", "a", {"name": "one"})
    document = store.get("vm", "a")
    assert document is not None
    assert (document.rev, document.body, store.rev) == (1, {"name": "one"}, 1)


def test_put_writes_a_dataclass_as_its_wire_form(store: Store) -> None:
    with store.change() as change:
        change.put("vm", "a", Reason("code", "now"))
    document = store.get("vm", "a")
    assert document is not None
    assert document.body == {"code": "code", "since": "now"}


def test_put_makes_no_revision_when_the_body_is_equal(store: Store) -> None:
    for body in ({"a": 1, "b": 2}, {"b": 2, "a": 1}):
        with store.change() as change:
            change.put("vm", "a", body)
    assert store.rev == 1


def test_change_gives_all_it_changes_one_revision(store: Store) -> None:
    with store.change() as change:
        change.put("vm", "a", {})
        change.put("vm", "b", {})
    assert [document.rev for document in store.list("vm")] == [1, 1]


def test_change_shows_its_own_writes_before_they_are_committed(store: Store) -> None:
    with store.change() as change:
        change.put("vm", "a", {})
        change.set("name", 1)
        seen = change.get("vm", "a"), change.setting("name")
        unseen = store.get("vm", "a"), store.setting("name")
    assert seen[0] is not None
    assert (seen[1], unseen) == (1, (None, None))


def test_change_leaves_nothing_when_it_fails(store: Store) -> None:
    def fail() -> None:
        with store.change() as change:
            change.put("vm", "a", {})
            change.event("vm_created", name="a")
            change.set("name", 1)
            change.journal(JobId("j"), "start", {})
            raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        fail()
    assert store.changes(0).changed == ()
    assert store.events(0).events == ()
    assert (store.setting("name"), store.journal(), store.rev) == (None, (), 0)


def test_changes_tell_what_is_new_and_what_is_gone(store: Store) -> None:
    with store.change() as change:
        change.put("vm", "a", {})
        change.put("vm", "b", {})
    with store.change() as change:
        change.delete("vm", "a")
        change.put("vm", "c", {})
    changes = store.changes(1)
    assert [document.id for document in changes.changed] == ["c"]
    assert [(stone.id, stone.rev) for stone in changes.gone] == [("a", 2)]


def test_changes_since_zero_are_all_documents_and_no_tombstones(store: Store) -> None:
    with store.change() as change:
        change.put("vm", "a", {})
        change.put("vm", "b", {})
    with store.change() as change:
        change.delete("vm", "a")
    changes = store.changes(0)
    assert ([document.id for document in changes.changed], changes.gone) == (["b"], ())


def test_put_revives_what_was_deleted(store: Store) -> None:
    for _ in range(2):
        with store.change() as change:
            change.put("vm", "a", {})
        with store.change() as change:
            change.delete("vm", "a")
    with store.change() as change:
        change.put("vm", "a", {})
    changes = store.changes(1)
    assert ([document.id for document in changes.changed], changes.gone) == (["a"], ())


def test_delete_is_no_change_when_there_is_nothing(store: Store) -> None:
    with store.change() as change:
        change.delete("vm", "a")
    assert store.rev == 0


@pytest.mark.parametrize("since", [-1, 2, 99], ids=["negative", "next", "far"])
def test_changes_refuse_a_revision_that_is_not_there(store: Store, since: int) -> None:
    with store.change() as change:
        change.put("vm", "a", {})
    with pytest.raises(RevisionUnknown):
        store.changes(since)


def test_changes_refuse_a_revision_older_than_the_tombstones(store: Store) -> None:
    names = [str(number) for number in range(stores.TOMBSTONES_MAX)]
    with store.change() as change:
        for name in ["a", "b", *names]:
            change.put("vm", name, {})
    for gone in (["a"], ["b"], names):
        with store.change() as change:
            for name in gone:
                change.delete("vm", name)
    with pytest.raises(RevisionUnknown):
        store.changes(2)
    assert len(store.changes(3).gone) == stores.TOMBSTONES_MAX


_STEPS = some.lists(
    some.lists(
        some.tuples(some.sampled_from("abcd"), some.none() | some.integers(0, 2)),
        max_size=4,
    ),
    max_size=8,
)


@given(steps=_STEPS, asked=some.integers(0, 8))
def test_changes_lead_from_every_revision_to_the_present(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[list[tuple[str, int | None]]],
    asked: int,
) -> None:
    store = open_store(tmp_path_factory.mktemp("store"))
    states: dict[int, dict[str, int]] = {0: {}}
    state: dict[str, int] = {}
    for step in steps:
        with store.change() as change:
            for name, value in step:
                if value is None:
                    change.delete("vm", name)
                    state.pop(name, None)
                else:
                    change.put("vm", name, {"value": value})
                    state[name] = value
        states[store.rev] = dict(state)
    since = min(asked, store.rev)
    changes = store.changes(since)
    store.close()
    seen = dict(states[since])
    seen.update({each.id: each.body["value"] for each in changes.changed})
    for stone in changes.gone:
        seen.pop(stone.id, None)
    assert seen == state


def test_epoch_and_revision_survive_a_restart(tmp_path: Path) -> None:
    first = open_store(tmp_path)
    with first.change() as change:
        change.put("vm", "a", {})
    first.close()
    second = open_store(tmp_path)
    assert (second.epoch, second.rev) == (first.epoch, 1)
    second.close()


def test_epoch_is_new_with_each_file(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    stores_made = [open_store(tmp_path), open_store(tmp_path / "other")]
    assert stores_made[0].epoch != stores_made[1].epoch
    for store in stores_made:
        store.close()


def test_events_are_numbered_and_carry_their_fields(store: Store) -> None:
    with store.change() as change:
        change.event("vm_created", vm_id=VmId("v"), name="one")
        change.event("vm_started", name="one")
    listed = store.events(1)
    assert [event.number for event in listed.events] == [2]
    assert (listed.last, listed.boot_id) == (2, store.boot_id)
    assert store.events(0).events[0].vm_id == "v"


def test_events_count_on_when_the_agent_restarts(tmp_path: Path) -> None:
    for _ in range(2):
        store = open_store(tmp_path)
        with store.change() as change:
            change.event("node_started", node="h1")
        last = store.events(0).last
        store.close()
    assert last == 2


def test_events_of_the_last_boot_are_still_pending_after_a_reboot(
    tmp_path: Path,
) -> None:
    before = open_store(tmp_path)
    with before.change() as change:
        change.event("node_started", node="h1")
    before.close()
    after = open_store(tmp_path, "boot-2")
    with after.change() as change:
        change.event("node_started", node="h1")
    assert [event.number for event in after.events(0).events] == [1]
    assert [
        (event.boot_id, event.number) for event in after.pending_events("a1", 9)
    ] == [
        (before.boot_id, 1),
        (after.boot_id, 1),
    ]
    after.acknowledge_events("a1", 1, before.boot_id)
    assert [event.boot_id for event in after.pending_events("a1", 9)] == [after.boot_id]
    after.close()


def test_boot_id_of_events_is_new_with_each_store(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    stores_made = [open_store(tmp_path), open_store(tmp_path / "other")]
    assert stores_made[0].boot_id != stores_made[1].boot_id
    for store in stores_made:
        store.close()


def test_pending_events_are_those_an_aggregator_has_not_acknowledged(
    store: Store,
) -> None:
    with store.change() as change:
        for _ in range(4):
            change.event("node_up", node="h1")
    store.acknowledge_events("a1", 2)
    store.acknowledge_events("a1", 1)
    assert [event.number for event in store.pending_events("a1", 1)] == [3]
    assert [event.number for event in store.pending_events("a2", 9)] == [1, 2, 3, 4]
    store.rewind_events("a1")
    assert len(store.pending_events("a1", 9)) == 4


@pytest.mark.parametrize(
    ("acknowledged", "is_logged"),
    [(999, True), (1000, False)],
    ids=["not-seen", "seen"],
)
def test_events_are_bounded_and_a_loss_is_logged(
    store: Store,
    caplog: pytest.LogCaptureFixture,
    acknowledged: int,
    is_logged: bool,
) -> None:
    with store.change() as change:
        for _ in range(stores.EVENTS_MAX):
            change.event("node_up", node="h1")
    store.acknowledge_events("a1", acknowledged)
    with store.change() as change:
        change.event("node_up", node="h1")
    numbers = [event.number for event in store.events(0).events]
    assert numbers == list(range(1001, stores.EVENTS_MAX + 2))
    assert ("a1 has not seen" in caplog.text) is is_logged


def test_settings_and_journal_are_no_news(store: Store) -> None:
    with store.change() as change:
        change.set("name", {"a": [1]})
        change.journal(JobId("j2"), "vm_start", {"vm_id": "v"})
        change.journal(JobId("j1"), "vm_stop", None)
    assert (store.rev, store.setting("name")) == (0, {"a": [1]})
    assert [(entry.job_id, entry.arguments) for entry in store.journal()] == [
        ("j2", {"vm_id": "v"}),
        ("j1", None),
    ]
    with store.change() as change:
        change.set("name", None)
        change.forget(JobId("j2"))
    assert store.setting("name") is None
    assert [entry.job_id for entry in store.journal()] == ["j1"]


def test_wait_returns_when_something_changes(store: Store) -> None:
    seen: list[int] = []
    waiter = threading.Thread(target=lambda: seen.append(store.wait(0, 30)))
    waiter.start()
    with store.change() as change:
        change.put("vm", "a", {})
    waiter.join(30)
    assert seen == [1]


def test_wait_returns_what_there_is_when_time_is_up(store: Store) -> None:
    assert (store.wait(0, 0), store.wait_events(0, 0)) == (0, 0)


def test_close_wakes_up_who_waits(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    waiter = threading.Thread(target=store.wait_events, args=(0, 60))
    waiter.start()
    store.close()
    waiter.join(30)
    assert not waiter.is_alive()


def test_listen_is_told_of_news_only(store: Store) -> None:
    told: list[int] = []
    store.listen(lambda: told.append(store.rev))
    with store.change() as change:
        change.set("name", 1)
    with store.change() as change:
        change.put("vm", "a", {})
    with store.change() as change:
        change.event("node_up", node="h1")
    assert told == [1, 1]


def test_readers_do_not_wait_for_the_writer(store: Store) -> None:
    with store.change() as change:
        change.put("vm", "a", {})
        read: list[int] = []
        reader = threading.Thread(target=lambda: read.append(store.changes(0).rev))
        reader.start()
        reader.join(30)
        assert read == [0]


def test_writers_take_turns(store: Store) -> None:
    def count() -> None:
        for _ in range(20):
            with store.change() as change:
                value = change.setting("count") or 0
                change.set("count", value + 1)
                change.put("counter", "c", {"value": value})

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (store.setting("count"), store.rev) == (80, 80)


_WRITER = """
import sys
from pathlib import Path
from node.clock import SystemClock
from node.store import Store

store = Store(Path(sys.argv[1]), SystemClock(), "n", "b")
while True:
    with store.change() as change:
        number = (change.setting("count") or 0) + 1
        change.set("count", number)
        change.put("vm", str(number), {"number": number})
        change.event("node_up", node=str(number))
    print(number, flush=True)
"""


def test_what_was_acknowledged_is_there_after_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    acknowledged = 0
    for lines in (1, 7, 25):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path)],
            cwd=_ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout is not None
        for _ in range(lines):
            acknowledged = int(writer.stdout.readline())
        os.kill(writer.pid, signal.SIGKILL)
        acknowledged = max([acknowledged, *map(int, writer.stdout.read().split())])
        writer.wait(30)
        writer.stdout.close()
        store = Store(path, SystemClock(), NodeId("n"), "b")
        kept = store.setting("count")
        assert isinstance(kept, int)
        assert kept >= acknowledged
        assert {document.rev for document in store.list("vm")} == set(
            range(1, kept + 1)
        )
        assert store.events(0).last == store.rev == kept
        store.close()


@pytest.mark.parametrize("filler", ["document", "event", "setting"])
def test_change_is_refused_when_the_disk_is_full(store: Store, filler: str) -> None:
    with store.change() as change:
        change.put("vm", "a", {"name": "old"})
    # A limit of pages is to SQLite what a full disk is.
    pages = store._writer.execute("PRAGMA page_count").fetchone()[0]
    store._writer.execute(f"PRAGMA max_page_count = {pages}")
    big = "x" * 100_000
    fills: dict[str, Callable[[stores.Change], None]] = {
        "document": lambda change: change.put("vm", "b", {"name": big}),
        "event": lambda change: change.event("node_up", node=big),
        "setting": lambda change: change.set("name", big),
    }

    def overflow() -> None:
        with store.change() as change:
            change.put("vm", "a", {"name": "new"})
            fills[filler](change)

    with pytest.raises(StorageFull):
        overflow()
    assert [document.body for document in store.list("vm")] == [{"name": "old"}]
    store._writer.execute(f"PRAGMA max_page_count = {pages + 1000}")
    with store.change() as change:
        change.put("vm", "a", {"name": big})
    assert store.rev == 2


@pytest.mark.real
def test_change_survives_a_disk_that_is_really_full(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "none", tmp_path], check=True
    )
    try:
        _fill_and_free(tmp_path)
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def _write_for_ever(path: Path) -> None:
    with path.open("wb", 0) as file:
        while True:
            file.write(b"x" * 4096)


def _fill_and_free(folder: Path) -> None:
    store = open_store(folder)
    with store.change() as change:
        change.put("vm", "a", {"name": "old"})
    filler = folder / "filler"
    with pytest.raises(OSError, match="No space"):
        _write_for_ever(filler)

    def overflow() -> None:
        for number in range(1000):
            with store.change() as change:
                change.put("vm", f"b{number}", {"name": "x" * 5000})

    with pytest.raises(StorageFull):
        overflow()
    before = store.changes(0)
    store.close()
    store = open_store(folder)
    assert store.changes(0) == before
    filler.unlink()
    with store.change() as change:
        change.put("vm", "a", {"name": "new"})
    assert store.rev == before.rev + 1
    store.close()


def test_open_refuses_a_file_of_a_newer_agent(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    connection = sqlite3.connect(tmp_path / "node.db")
    connection.execute("PRAGMA user_version = 999")
    connection.close()
    with pytest.raises(StoreTooNew, match="999"):
        open_store(tmp_path)


@pytest.mark.parametrize("kind", ["vm", "vm_run", "device", "image", "node", "job"])
def test_open_refuses_documents_of_a_newer_agent(tmp_path: Path, kind: str) -> None:
    store = open_store(tmp_path)
    with store.change() as change:
        change.put(kind, "a", {"schema": 1})
        change.put(kind, "b", {"schema": 2, "spec": "in a form that is not ours"})
    store.close()
    before = _dump_of(tmp_path)
    with pytest.raises(StoreTooNew, match=f"{kind} documents of schema 2") as caught:
        open_store(tmp_path)
    assert caught.value.remedy == "Start the newer agent again."
    assert _dump_of(tmp_path) == before


def test_open_refuses_events_of_a_newer_agent(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with store.change() as change:
        change.event("vm_created", name="web")
    store.close()
    connection = sqlite3.connect(tmp_path / "node.db")
    connection.execute("UPDATE event SET body = json_set(body, '$.schema', 2)")
    connection.commit()
    connection.close()
    with pytest.raises(StoreTooNew, match="event documents of schema 2"):
        open_store(tmp_path)


def test_open_passes_by_kinds_that_only_newer_agents_know(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with store.change() as change:
        change.put("gpu", "a", {"schema": 9})
    store.close()
    open_store(tmp_path).close()


def test_open_brings_a_file_of_the_first_schema_to_the_newest(tmp_path: Path) -> None:
    _load(tmp_path, "store-1.sql")
    (tmp_path / "new").mkdir()
    open_store(tmp_path / "new").close()
    store = open_store(tmp_path)
    assert (store.epoch, store.rev) == ("5a1c9d2e-0b7f-4c55-9d1e-3f2a6b7c8d90", 3)
    (vm,), (run,) = store.list("vm"), store.list("vm_run")
    assert (vm.rev, vm.body["spec"]["name"]) == (2, "web")
    assert wire.from_json(VmRun, run.body, strict=False).schema == 1
    assert [event.code for event in store.events(0).events] == ["vm_created"]
    assert (store.acknowledged("a1"), store.setting("kvm")) == (1, {"is_usable": True})
    assert [entry.job_id for entry in store.journal()] == ["j1"]
    assert [each.id for each in store.changes(1).changed] == [vm.id, run.id]
    with store.change() as change:
        change.retire(VmId("v1"))
    assert store.is_retired(VmId("v1"))
    store.close()
    assert _tables_of(tmp_path) == _tables_of(tmp_path / "new")


def _load(folder: Path, name: str) -> None:
    connection = sqlite3.connect(folder / "node.db")
    connection.executescript((_GOLDEN / name).read_text())
    connection.close()


def _dump_of(folder: Path) -> list[str]:
    connection = sqlite3.connect(folder / "node.db")
    lines = list(connection.iterdump())
    connection.close()
    return lines


def _tables_of(folder: Path) -> set[str]:
    return {line for line in _dump_of(folder) if line.startswith("CREATE")}


def test_open_refuses_what_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "node.db").write_bytes(b"this is not a database" * 100)
    with pytest.raises(StoreFailed):
        open_store(tmp_path)


def test_retire_forgets_only_the_oldest(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "RETIRED_MAX", 3)
    names = [VmId(f"v{number}") for number in range(5)]
    for vm_id in (*names, names[-1]):
        with store.change() as change:
            change.retire(vm_id)
    assert [store.is_retired(vm_id) for vm_id in names] == [False] * 2 + [True] * 3
