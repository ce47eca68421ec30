"""Tests of the search language."""

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.rest import search
from aggregator.rest.search import BadSearch, Kind, SearchField


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    status: str
    memory: int | None
    ips: tuple[str, ...] = ()
    at: datetime = datetime(2026, 11, 22, tzinfo=UTC)
    is_local: bool = False


ROWS = (
    Row("web1", "up", 1024, ("10.0.0.1", "fd00::1")),
    Row("web 2", "powering_up", 2048),
    Row("DB", "down", None, is_local=True),
)
FIELDS: Mapping[str, SearchField[Row]] = {
    "name": SearchField(lambda row: row.name),
    "status": SearchField(lambda row: row.status, Kind.STATUS),
    "memory": SearchField(lambda row: row.memory, Kind.NUMBER),
    "ip": SearchField(lambda row: row.ips),
    "time": SearchField(lambda row: row.at, Kind.TIME),
    "local": SearchField(lambda row: row.is_local, Kind.TRUTH),
    "vm.name": SearchField(lambda row: row.name),
}
ALL = ["web1", "web 2", "DB"]


def _understand(text: str) -> None:
    query = search.parse(text)
    search.matcher(query, FIELDS)
    search.sort_key(query, FIELDS)


def _found(text: str, *, is_case_sensitive: bool = False) -> list[str]:
    matches = search.matcher(
        search.parse(text), FIELDS, is_case_sensitive=is_case_sensitive
    )
    return [row.name for row in ROWS if matches(row)]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ALL),
        ("   ", ALL),
        ("name=web1", ["web1"]),
        ("name = web1", ["web1"]),
        ('name="web 2"', ["web 2"]),
        ("NAME=WEB1", ["web1"]),
        ("name=web*", ["web1", "web 2"]),
        ('name="*"', ALL),
        ("name=*b*", ["web1", "web 2", "DB"]),
        ("name!=web1", ["web 2", "DB"]),
        ("name!=web*", ["DB"]),
        ("status=up", ["web1"]),
        ("status=PoweringUp", ["web 2"]),
        ("status=powering_up", ["web 2"]),
        ("memory>1024", ["web 2"]),
        ("memory>=1024", ["web1", "web 2"]),
        ("memory<2048", ["web1"]),
        ("memory!=1024", ["web 2", "DB"]),
        ("ip=10.0.0.1", ["web1"]),
        ("ip=fd00*", ["web1"]),
        ("ip!=10.0.0.1", ["web 2", "DB"]),
        ("time>2026-11-21", ALL),
        ("time>2026-11-22T00:00:01Z", []),
        ("local=true", ["DB"]),
        ("name=web* status=up", ["web1"]),
        ("name=web* and status=up", ["web1"]),
        ("name=web1 or name=DB", ["web1", "DB"]),
        ("name=DB or name=web* AND status=up", ["web1", "DB"]),
        ("name=web* and status=up OR name=db", ["web1", "DB"]),
        ("vms.name=web1", ["web1"]),
        ("Vm.Name=web1", ["web1"]),
        ("fd00", ["web1"]),
        ("eb 2", ["web 2"]),
        ('"eb 2"', ["web 2"]),
        ("name=nothing", []),
    ],
)
def test_matcher_finds(text: str, names: list[str]) -> None:
    assert _found(text) == names


def test_matcher_minds_the_case_when_asked() -> None:
    assert _found("name=db", is_case_sensitive=True) == []
    assert _found("name=DB", is_case_sensitive=True) == ["DB"]


@pytest.mark.parametrize(
    "text",
    [
        "name=",
        "=web1",
        "name==web1",
        "and name=web1",
        "name=web1 and",
        "name=web1 or or name=DB",
        "name=web1 and or name=DB",
        "name='web1'",
        "name=web1; drop",
        'name="web1',
        "colour=red",
        "memory=much",
        "time>yesterdayish",
        "local=perhaps",
        "sortby",
        "sortby colour",
        "page",
        "page 0",
        "page x",
        "page 2 name=web1",
        "name=web1 page 1 2",
        "x" * 9000,
        "a " * 300,
    ],
)
def test_a_search_that_cannot_be_understood_is_an_error(text: str) -> None:
    with pytest.raises(BadSearch):
        _understand(text)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("sortby name", ["DB", "web 2", "web1"]),
        ("sortby name asc", ["DB", "web 2", "web1"]),
        ("sortby memory", ["DB", "web1", "web 2"]),
        ("sortby ip", ["web 2", "DB", "web1"]),
        ("name=* SortBy status", ["DB", "web 2", "web1"]),
    ],
)
def test_sort_key_orders(text: str, names: list[str]) -> None:
    key = search.sort_key(search.parse(text), FIELDS)
    assert key is not None
    assert [row.name for row in sorted(ROWS, key=key)] == names


def test_parse_reads_direction_and_page() -> None:
    query = search.parse("name=a sortby name desc page 3")
    assert (query.sort_field, query.is_descending, query.page) == ("name", True, 3)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("name=web1", "web1"),
        ('name="web 2" and status=up', "web 2"),
        ("status=up name=web1", "web1"),
        ("name=web*", "web"),
        ("name=*1", ""),
        ("name!=web1", None),
        ("name=web1 or name=DB", None),
        ("web1", None),
    ],
)
def test_prefix_is_what_the_index_can_use(text: str, value: str | None) -> None:
    assert search.prefix(search.parse(text), "name") == value


@given(st.text(max_size=60))
def test_parse_understands_or_refuses_any_text(text: str) -> None:
    try:
        query = search.parse(text)
        matches = search.matcher(query, FIELDS)
    except BadSearch:
        return
    assert all(matches(row) in (True, False) for row in ROWS)


@given(st.text("ab*", max_size=12), st.text("ab", max_size=12))
def test_wildcards_mean_what_the_shell_means(pattern: str, name: str) -> None:
    field: SearchField[str] = SearchField(str)
    if not pattern:
        return
    matches = search.matcher(search.parse(f'n="{pattern}"'), {"n": field})
    assert matches(name) is fnmatch.fnmatchcase(name, pattern)
