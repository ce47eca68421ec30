"""Tests of password hashes."""

import pytest

from aggregator.access import passwords
from aggregator.access.passwords import BadPassword, Cost
from node.log import Secret

CHEAP = Cost(n=16, r=1, p=1)


def test_is_match_accepts_the_password_that_was_stored() -> None:
    stored = passwords.make_hash(Secret("correct horse"), b"s" * 16, CHEAP)
    assert passwords.is_match(Secret("correct horse"), stored)


@pytest.mark.parametrize(
    "guess",
    ["correct hors", "Correct horse", "", "x" * 5000],
    ids=["shorter", "other-case", "empty", "endless"],
)
def test_is_match_refuses_another_password(guess: str) -> None:
    stored = passwords.make_hash(Secret("correct horse"), b"s" * 16, CHEAP)
    assert not passwords.is_match(Secret(guess), stored)


@pytest.mark.parametrize("text", ["short", "x" * 1025], ids=["short", "long"])
def test_make_hash_refuses_a_bad_password(text: str) -> None:
    with pytest.raises(BadPassword):
        passwords.make_hash(Secret(text), b"s" * 16, CHEAP)


def test_hash_of_nobody_is_one_that_nothing_matches() -> None:
    word = Secret("correct horse")
    nobody = passwords.hash_of_nobody(b"s" * 16, b"d" * 32, CHEAP)
    assert not passwords.is_match(word, nobody)
    known = passwords.make_hash(word, b"s" * 16, CHEAP)
    assert (len(nobody.digest), nobody.cost) == (len(known.digest), known.cost)


def test_make_hash_differs_by_salt() -> None:
    one = passwords.make_hash(Secret("correct horse"), b"a" * 16, CHEAP)
    other = passwords.make_hash(Secret("correct horse"), b"b" * 16, CHEAP)
    assert one.digest != other.digest


def test_the_usual_cost_is_accepted_by_the_library() -> None:
    stored = passwords.make_hash(Secret("correct horse"), b"s" * 16, Cost())
    assert len(stored.digest) == 44
