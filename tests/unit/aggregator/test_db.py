"""What only SQLite's file can show; the rest is in tests/contract."""

import stat
from pathlib import Path

import pytest

from aggregator import db
from aggregator.db import NewEvent


def test_open_makes_a_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    path = tmp_path / "aggregator.db"
    db.Database(db.sqlite_url(path)).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_open_says_which_file_it_cannot_make(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "aggregator.db"
    with pytest.raises(db.DatabaseDown, match="missing"):
        db.Database(db.sqlite_url(path))


def test_sqlite_url_names_any_path(tmp_path: Path) -> None:
    path = tmp_path / "with space &#%.db"
    database = db.Database(db.sqlite_url(path))
    database.close()
    assert path.exists()


def test_put_reports_a_full_disk_and_keeps_the_old(tmp_path: Path) -> None:
    path = tmp_path / "aggregator.db"
    database = db.Database(db.sqlite_url(path))
    records = database.records("setting")
    records.put("a", "old")
    with database._write() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 32")
        with pytest.raises(Exception, match="full"):
            connection.exec_driver_sql(
                "CREATE TABLE filler AS SELECT zeroblob(1000000)"
            )
    with pytest.raises(db.DatabaseDown, match="full"):
        records.put("a", "x" * 1_000_000)
    assert records.get("a") == db.Record("a", 1, "old")
    database.close()


def test_add_events_keeps_a_bounded_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "EVENTS_KEPT", 10)
    database = db.Database(db.sqlite_url(tmp_path / "aggregator.db"))
    database.add_events(NewEvent("t", "c", {}) for _ in range(25))
    assert len(database.events()) == 10
    assert database.last_event() == 25
    database.close()
