"""Which pushes are taken, and which ask for everything."""

from typing import Any

import pytest

from aggregator.federation import positions
from aggregator.federation.positions import Position, Verdict
from tests.fakes import fleet

HERE = Position("epoch-1", 10, "boot-1", 4)


@pytest.mark.parametrize(
    ("position", "from_rev", "to_rev", "epoch", "expected"),
    [
        pytest.param(HERE, 10, 12, "epoch-1", Verdict.ADVANCE, id="goes-on"),
        pytest.param(HERE, 10, 10, "epoch-1", Verdict.ADVANCE, id="heartbeat"),
        pytest.param(HERE, 8, 12, "epoch-1", Verdict.ADVANCE, id="reply-was-lost"),
        pytest.param(HERE, 11, 12, "epoch-1", Verdict.RESYNC, id="gap"),
        pytest.param(HERE, 8, 9, "epoch-1", Verdict.RESYNC, id="went-back-in-time"),
        pytest.param(HERE, 10, 12, "epoch-2", Verdict.RESYNC, id="other-epoch"),
        pytest.param(None, 10, 12, "epoch-1", Verdict.RESYNC, id="never-heard"),
        pytest.param(None, 0, 12, "epoch-1", Verdict.REPLACE, id="everything-first"),
        pytest.param(HERE, 0, 12, "epoch-2", Verdict.REPLACE, id="everything-anew"),
        pytest.param(HERE, 0, 3, "epoch-1", Verdict.REPLACE, id="everything-lower"),
    ],
)
def test_judge_follows_the_rules(
    position: Position | None, from_rev: int, to_rev: int, epoch: str, expected: Verdict
) -> None:
    delta = fleet.delta(from_rev, to_rev, epoch=epoch)
    assert positions.judge(position, delta) is expected


def test_gather_joins_the_parts_in_order() -> None:
    first = fleet.delta(0, 9, fleet.vm(1), part=1, parts=2)
    second = fleet.delta(0, 9, fleet.vm(2), part=2, parts=2, events=[fleet.event(1, 1)])
    gathering = positions.gather(None, first)
    assert gathering is not None
    assert not positions.is_whole(gathering)
    gathering = positions.gather(gathering, second)
    assert gathering is not None
    assert positions.is_whole(gathering)
    assert [each.id for each in gathering.whole.changed] == [
        fleet.vm_id(1),
        fleet.vm_id(2),
    ]
    assert len(gathering.whole.events) == 1


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"part": 3, "parts": 3}, id="a-part-is-missing"),
        pytest.param({"part": 2, "parts": 3, "to_rev": 8}, id="other-revision"),
        pytest.param({"part": 2, "parts": 3, "epoch": "epoch-2"}, id="other-epoch"),
        pytest.param({"part": 2, "parts": 4}, id="other-count"),
    ],
)
def test_gather_refuses_what_does_not_fit(changes: dict[str, Any]) -> None:
    gathering = positions.gather(None, fleet.delta(0, 9, part=1, parts=3))
    settings = {"from_rev": 0, "to_rev": 9, **changes}
    assert positions.gather(gathering, fleet.delta(**settings)) is None


def test_gather_begins_again_with_a_first_part() -> None:
    gathering = positions.gather(None, fleet.delta(0, 9, fleet.vm(1), parts=2))
    gathering = positions.gather(gathering, fleet.delta(0, 10, parts=2))
    assert gathering is not None
    assert (gathering.count, gathering.whole.to_rev) == (1, 10)


def test_advance_acknowledges_the_newest_event_of_this_boot() -> None:
    events = [fleet.event(9, 1, "boot-0"), fleet.event(5, 1), fleet.event(6, 1)]
    after = positions.advance(HERE, fleet.delta(10, 12, events=events))
    assert after == Position("epoch-1", 12, "boot-1", 6)


def test_advance_keeps_what_was_acknowledged_without_events() -> None:
    assert positions.advance(HERE, fleet.delta(10, 10)) == HERE


@pytest.mark.parametrize(
    ("epoch", "boot_id"),
    [("epoch-1", "boot-2"), ("epoch-2", "boot-1")],
    ids=["a-boot", "a-new-store"],
)
def test_advance_counts_anew_after(epoch: str, boot_id: str) -> None:
    delta = fleet.delta(0, 11, epoch=epoch, boot_id=boot_id)
    assert positions.advance(HERE, delta) == Position(epoch, 11, boot_id, 0)
