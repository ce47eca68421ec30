"""What is shown of a node that announces itself: a table."""

from dataclasses import replace

import pytest

from aggregator.fleet import candidates
from node.model.ids import Fingerprint, NodeId

OURS, KEY, OTHER = Fingerprint("a" * 64), Fingerprint("b" * 64), Fingerprint("c" * 64)
SEEN = candidates.Sighting(
    NodeId("n"), "n1", "10.0.0.1", 7441, "0.1.0", KEY, is_waiting=True
)
BELONGS = replace(SEEN, is_waiting=False)


@pytest.mark.parametrize(
    ("sighting", "admitted", "is_shown", "has_problem"),
    [
        (SEEN, None, True, False),
        (SEEN, KEY, True, False),
        (SEEN, OTHER, True, True),
        (BELONGS, None, False, False),
        (BELONGS, KEY, False, False),
        (BELONGS, OTHER, True, True),
        (replace(BELONGS, ca_fingerprint=OURS), None, True, False),
        (replace(BELONGS, ca_fingerprint=OURS), KEY, False, False),
        (replace(BELONGS, ca_fingerprint=OTHER), None, False, False),
    ],
    ids=[
        "waits",
        "member-that-left",
        "impostor-waits",
        "of-nobody",
        "member",
        "impostor",
        "lost-by-us",
        "member-of-ours",
        "of-another-fleet",
    ],
)
def test_next_candidate(
    sighting: candidates.Sighting,
    admitted: Fingerprint | None,
    is_shown: bool,
    has_problem: bool,
) -> None:
    shown = candidates.next_candidate(sighting, None, admitted, OURS, "now")
    assert (shown is not None) == is_shown
    assert (shown is not None and shown.problem is not None) == has_problem


def test_next_candidate_does_not_forget_a_problem() -> None:
    first = candidates.next_candidate(SEEN, None, None, OURS, "1")
    changed = replace(SEEN, fingerprint=OTHER)
    second = candidates.next_candidate(changed, first, None, OURS, "2")
    third = candidates.next_candidate(changed, second, None, OURS, "3")
    assert third is not None
    assert third.problem is not None
    assert (third.first_seen, third.problem.since) == ("1", "2")
