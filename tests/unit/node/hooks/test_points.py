"""The table of points: complete, and true of what runs them."""

import re
from pathlib import Path

import pytest

import node
from node.hooks.points import POINTS
from node.model.hooks import HookPoint, Payload

_PRODUCT = Path(node.__file__).parent
_TABLES = ("hooks/points.py", "model/hooks.py")


def _reached() -> set[str]:
    """Return the points that the product names where it acts."""
    paths = [
        path
        for path in _PRODUCT.rglob("*.py")
        if str(path.relative_to(_PRODUCT)) not in _TABLES
    ]
    text = "\n".join(path.read_text() for path in paths)
    return set(re.findall(r"HookPoint\.([A-Z_]+)", text))


def test_table_has_every_point() -> None:
    assert list(POINTS) == list(HookPoint)


@pytest.mark.parametrize("point", list(HookPoint))
def test_point_is_reached_or_says_what_it_waits_for(point: HookPoint) -> None:
    assert (point.name in _reached()) is (POINTS[point].waits_for == "")


def test_edits_count_only_where_they_can() -> None:
    for point, what in POINTS.items():
        assert not what.counts or what.payload is not Payload.NONE, point


def test_what_has_been_done_cannot_be_aborted() -> None:
    aborting = {point for point, what in POINTS.items() if what.may_abort}
    after = {point for point in aborting if point.startswith("after_")}
    assert after == {HookPoint.AFTER_DISK_PREPARE}  # the disk is, the start is not


def test_points_that_wait_are_these() -> None:
    waiting = {each.waits_for for each in POINTS.values()} - {""}
    assert waiting == {
        "migration",
        "hot plug of network cards",
        "changes of devices of a running VM",
        "hot plug of processors",
        "hot plug of memory",
        "host networking",
        "tickets of consoles",
        "host devices",
        "figures that are asked of one VM",
    }
