"""Tests of what every fleet has from the start."""

from typing import cast

from aggregator.access import defaults
from aggregator.db import Database
from tests.fakes.services import FakeDatabase


def _kinds(database: FakeDatabase) -> list[str]:
    records = database.records("fleet").list()
    return [record.id.partition("/")[0] for record in records]


def test_ensure_defaults_creates_one_of_each() -> None:
    database = FakeDatabase()
    defaults.ensure_defaults(cast(Database, database))
    assert _kinds(database) == ["cluster", "data_center", "permission", "user"]


def test_ensure_defaults_changes_nothing_the_second_time() -> None:
    database = FakeDatabase()
    defaults.ensure_defaults(cast(Database, database))
    before = database.records("fleet").list()
    defaults.ensure_defaults(cast(Database, database))
    assert database.records("fleet").list() == before


def test_ensure_defaults_puts_the_cluster_in_the_data_center_that_is_there() -> None:
    database = FakeDatabase()
    body = {"name": "Paris", "description": ""}
    database.records("fleet").put("data_center/d1", body)
    defaults.ensure_defaults(cast(Database, database))
    clusters = [
        record.body
        for record in database.records("fleet").list()
        if record.id.startswith("cluster/")
    ]
    assert [each["data_center_id"] for each in clusters] == ["d1"]
