"""Who may work on a disk beside whom."""

from dataclasses import replace

import pytest

from node.errors import Error
from node.model.ids import JobId
from node.storage.disks.locks import Claim, DiskLocks, Left
from node.storage.formats.journal import ANYWHERE
from tests.unit.node.storage.examples import OTHER_SD, SD

ONE, TWO = JobId("job-1"), JobId("job-2")


def claim(job_id: JobId, *changed: str, read: tuple[str, ...] = ()) -> Claim:
    places = frozenset((SD, each) for each in (*changed, *read))
    return Claim(job_id, frozenset(changed), frozenset(read), places)


def make(alive: set[JobId]) -> DiskLocks:
    return DiskLocks(alive.__contains__)


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [
        pytest.param(claim(ONE, "a"), claim(TWO, "b"), "", id="other-disks"),
        pytest.param(claim(ONE, "a"), claim(TWO, "a"), "disk_locked", id="one-disk"),
        pytest.param(
            claim(ONE, "a", read=("t",)), claim(TWO, "b", read=("t",)), "", id="readers"
        ),
        pytest.param(
            claim(ONE, "a", read=("t",)),
            claim(TWO, "t"),
            "disk_locked",
            id="read-first",
        ),
        pytest.param(
            claim(ONE, "t"), claim(TWO, "a", read=("t",)), "disk_locked", id="read-last"
        ),
        pytest.param(claim(ONE, "a"), claim(ONE, "a"), "", id="asked-twice"),
        pytest.param(
            claim(ONE, "a"), replace(claim(TWO, "a"), within=ONE), "", id="within"
        ),
        pytest.param(
            replace(claim(ONE, "a"), within=TWO), claim(TWO, "a"), "", id="around"
        ),
        pytest.param(
            claim(ONE, "a"),
            replace(claim(TWO, "a"), within=JobId("job-3")),
            "disk_locked",
            id="within-another",
        ),
    ],
)
def test_claim_refuses_what_another_job_works_on(
    first: Claim, second: Claim, code: str
) -> None:
    locks = make({ONE, TWO})
    locks.claim(first)
    locks.settle(first.job_id)
    found: Error | None = None
    try:
        locks.claim(second)
    except Error as error:
        found = error
    assert (found.code if found else "") == code
    if found is not None:
        assert found.fields["job_id"] == ONE


def test_claim_ends_with_its_job() -> None:
    alive = {ONE}
    locks = make(alive)
    locks.claim(claim(ONE, "a"))
    locks.settle(ONE)
    assert locks.owners() == {"a": ONE}
    alive.clear()
    assert locks.owners() == {}
    locks.claim(claim(TWO, "a"))


def test_claim_of_a_job_that_is_yet_to_be_holds() -> None:
    locks = make(set())
    locks.claim(claim(ONE, "a"))
    assert locks.owners() == {"a": ONE}
    locks.settle(ONE)
    assert locks.owners() == {}


def test_disks_that_a_journal_touches_stay_locked() -> None:
    locks = make(set())
    error = Error("it is away")
    left = Left(frozenset({(SD, "a"), (ANYWHERE, "b")}), frozenset("ab"), error)
    locks.leave(ONE, left)
    assert locks.owners() == {"a": ONE, "b": ONE}
    with pytest.raises(Error, match="it is away") as caught:
        locks.claim(claim(TWO, "c", read=("b",)))
    assert caught.value.code == "disk_unfinished"
    assert caught.value.fields["disk_id"] == "b"
    assert locks.left() == {ONE: left}
    locks.end_left(ONE)
    locks.claim(claim(TWO, "b"))
    assert locks.left() == {}


def test_journal_keeps_only_the_storage_domains_that_it_names() -> None:
    locks = make({TWO})
    locks.leave(ONE, Left(frozenset({(OTHER_SD, "a")})))
    assert locks.owners() == {}
    locks.claim(claim(TWO, "a"))
    assert locks.owners() == {"a": TWO}
