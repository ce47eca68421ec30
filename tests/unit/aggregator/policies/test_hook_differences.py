"""Which hooks are not the same on all nodes."""

import pytest

from aggregator.policies.hook_differences import HookRow, compare
from node.model.hooks import HookScript


def _script(sha256: str, refused: str = "") -> HookScript:
    return HookScript("before_vm_start", "50_a", "/a", 1, sha256, "", refused)


@pytest.mark.parametrize(
    ("sums", "same", "others", "without"),
    [
        pytest.param({"h1": "a", "h2": "a"}, ("h1", "h2"), (), (), id="same"),
        pytest.param({"h1": "a", "h2": None}, ("h1",), (), ("h2",), id="missing"),
        pytest.param(
            {"h1": "b", "h2": "a", "h3": "a"}, ("h2", "h3"), ("h1",), (), id="most"
        ),
        pytest.param({"h1": "b", "h2": "a"}, ("h1",), ("h2",), (), id="first"),
        pytest.param({"h1": "", "h2": "a"}, ("h2",), ("h1",), (), id="refused"),
        pytest.param({"h1": "", "h2": ""}, (), ("h1", "h2"), (), id="all-refused"),
    ],
)
def test_compare_tells_who_has_what(
    sums: dict[str, str | None],
    same: tuple[str, ...],
    others: tuple[str, ...],
    without: tuple[str, ...],
) -> None:
    nodes = {
        node: [] if each is None else [_script(each or "a", "" if each else "a link")]
        for node, each in sums.items()
    }
    (row,) = compare(nodes)
    assert row == HookRow("before_vm_start", "50_a", same, others, without)
    assert row.is_same is (set(same) == set(sums))


def test_compare_sorts_by_point_and_name() -> None:
    scripts = [
        HookScript(point, name, "", 1, "a", "")
        for point, name in (("b", "1"), ("a", "2"), ("a", "1"))
    ]
    rows = compare({"h1": scripts})
    assert [(e.point, e.name) for e in rows] == [("a", "1"), ("a", "2"), ("b", "1")]
