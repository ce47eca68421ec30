"""What a journal holds, and what is refused."""

import hashlib
from dataclasses import replace
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as some

from node.errors import Error
from node.storage.formats import journal
from node.storage.formats.journal import (
    Direction,
    Journal,
    JournalDamaged,
    NewerJournal,
)
from node.storage.operations import plan
from node.storage.operations.plan import BadPlan, Plan, Step
from tests.unit.node.storage.examples import (
    IMAGE,
    OTHER_IMAGE,
    OTHER_SD,
    SD,
    attempt,
)

PATH = PurePosixPath("/", SD, "images", IMAGE)
PLAN = Plan((Step("build", (plan.make_folder(PATH),), (plan.remove(PATH),)),), 1)
JOURNAL = Journal(1, IMAGE, "create", IMAGE, "node", 7, PLAN)


def sealed(body: bytes) -> bytes:
    return b"%b\nsha256=%b\n" % (body, hashlib.sha256(body).hexdigest().encode())


@pytest.mark.parametrize("direction", Direction)
def test_parse_returns_what_was_written(direction: Direction) -> None:
    written = replace(JOURNAL, direction=direction)
    assert journal.parse(journal.write(written)) == written
    assert written.is_committed is False


def test_parse_refuses_newer_and_damaged_ones() -> None:
    body = journal.write(JOURNAL).partition(b"\n")[0]
    with pytest.raises(NewerJournal):
        journal.parse(sealed(body.replace(b'"schema":1', b'"schema":3')))
    for wrong in (
        body.replace(b"create", b"delete"),
        b"",
        body,
    ):
        with pytest.raises(JournalDamaged):
            journal.parse(wrong + b"\nsha256=" + b"0" * 64 + b"\n")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(b"/images/", b"/../", id="path"),
        pytest.param(b"make_folder", b"exec", id="verb"),
        pytest.param(b'"commit":1', b'"commit":9', id="commit"),
        pytest.param(b'"plan":{', b'"done":1,"plan":{', id="done"),
        pytest.param(IMAGE.encode(), b"../../x", id="job"),
    ],
)
def test_parse_refuses_what_we_would_not_plan(old: bytes, new: bytes) -> None:
    body = journal.write(JOURNAL).partition(b"\n")[0]
    assert old in body
    with pytest.raises(JournalDamaged):
        journal.parse(sealed(body.replace(old, new)))


def test_write_refuses_a_bad_plan() -> None:
    bad = Plan((Step("build", (plan.remove(PurePosixPath("/etc")),)),))
    with pytest.raises(BadPlan):
        journal.write(replace(JOURNAL, plan=bad))


@given(some.binary(max_size=100), some.integers(0, 600))
def test_parse_survives_any_damage(noise: bytes, at: int) -> None:
    data = journal.write(JOURNAL)
    damaged = data[:at] + noise + data[at + len(noise) :]
    found = attempt(journal.parse, damaged)
    assert found == JOURNAL or isinstance(found, Error)


@pytest.mark.parametrize("direction", Direction)
def test_name_tells_the_direction(direction: Direction) -> None:
    made = replace(JOURNAL, direction=direction)
    assert journal.read_name(made.name) == (JOURNAL.job_id, direction)


@pytest.mark.parametrize("name", ["x", f"{IMAGE}.new", f"{IMAGE}.back.new", ".back"])
def test_read_name_knows_what_is_no_journal(name: str) -> None:
    assert journal.read_name(name) is None


def test_mentioned_finds_every_id_in_a_torn_journal() -> None:
    torn = journal.write(JOURNAL)[20:-40]
    assert {IMAGE, SD} <= journal.mentioned(torn)


OTHER = PurePosixPath("/", OTHER_SD, "images", f"_remove_me_{OTHER_IMAGE}")
TWO = Plan(
    (
        Step("freeze", (plan.write(PATH / "a", "x"),), (plan.remove(PATH / "a"),)),
        Step("build", (plan.make_folder(OTHER),), (plan.remove_tree(OTHER),)),
        Step("purge", (plan.remove_tree(OTHER),)),
    ),
    2,
)
HERE, THERE = (SD, IMAGE), (OTHER_SD, OTHER_IMAGE)


@pytest.mark.parametrize(
    ("done", "direction", "places", "shown"),
    [
        pytest.param(0, Direction.FORWARD, {HERE, THERE}, {IMAGE}, id="begun"),
        pytest.param(0, Direction.BACK, {HERE}, {IMAGE}, id="undone-early"),
        pytest.param(1, Direction.BACK, {HERE, THERE}, {IMAGE}, id="undone"),
        pytest.param(2, Direction.FORWARD, {THERE}, set(), id="committed"),
    ],
)
def test_places_are_what_may_still_be_touched(
    done: int, direction: Direction, places: set[tuple[str, str]], shown: set[str]
) -> None:
    made = replace(JOURNAL, plan=TWO, done=done, direction=direction)
    assert (set(made.places()), set(made.shown())) == (places, shown)


def test_rest_only_undoes_what_is_named() -> None:
    made = replace(JOURNAL, plan=TWO, done=1)
    rest = made.rest([plan.remove_tree(OTHER)])
    assert journal.parse(journal.write(rest)) == rest
    assert (set(rest.places()), set(rest.shown())) == ({THERE}, set())
    assert rest.name.endswith(journal.BACK_SUFFIX)
