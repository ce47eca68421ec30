"""The list of aggregators is one of the fleet's documents."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from aggregator import db
from aggregator.fleet import documents, roster
from node.model.fleet import AggregatorAddress
from node.model.ids import Fingerprint

A1 = AggregatorAddress("a1", "192.0.2.1", 7442, 7443, Fingerprint("f" * 64))
A2 = replace(A1, name="a2", address="192.0.2.2")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[db.Database]:
    one = db.Database(db.sqlite_url(tmp_path / "a.db"))
    yield one
    one.close()


def test_keep_tells_what_is_news(database: db.Database) -> None:
    names = roster.Roster(database)
    assert [names.keep(A2), names.keep(A1), names.keep(A1)] == [True, True, False]
    assert names.keep(replace(A1, address="192.0.2.9"))
    assert [each.address for each in names.list()] == ["192.0.2.9", "192.0.2.2"]


def test_list_has_aggregators_only(database: db.Database) -> None:
    database.records("fleet").put("user/u", {"user": "u"})
    assert roster.Roster(database).list() == ()


def test_keep_writes_what_is_sealed(database: db.Database) -> None:
    roster.Roster(database).keep(A1)
    assert "aggregator/a1" in documents.records(database)["fleet"]


def test_forget_strikes_off_once(database: db.Database) -> None:
    names = roster.Roster(database)
    names.keep(A1)
    assert [names.forget("a1"), names.forget("a1")] == [True, False]
    assert names.list() == ()
