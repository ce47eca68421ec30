"""Tests of query and matrix parameters."""

import pytest

from aggregator.rest import parameters
from aggregator.rest.parameters import Parameters


@pytest.mark.parametrize(
    ("path", "plain", "found"),
    [
        ("events", "events", {}),
        ("events;from=5", "events", {"from": "5"}),
        ("events;from=5;max=1", "events", {"from": "5", "max": "1"}),
        ("vms/1;Current/nics", "vms/1/nics", {"current": ""}),
        ("vms;", "vms", {}),
    ],
)
def test_split_matrix(path: str, plain: str, found: dict[str, str]) -> None:
    assert parameters.split_matrix(path) == (plain, found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("true", True),
        ("Yes", True),
        ("1", True),
        ("false", False),
        ("0", False),
        ("maybe", False),
    ],
)
def test_flag_reads_truth(text: str, expected: bool) -> None:
    assert Parameters({"force": text}).flag("force") is expected


def test_flag_is_false_when_absent() -> None:
    assert not Parameters().flag("force")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("5", 5), ("0", 0), ("-1", None), ("x", None), ("", None), ("9" * 40, None)],
)
def test_number_passes_over_what_is_none(text: str, expected: int | None) -> None:
    assert Parameters({"max": text}).number("max") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("nics", {"nics": {}}),
        ("disk_attachments.disk", {"diskattachments": {"disk": {}}}),
        (
            "nics.reported_devices, NICs.vnicprofile,cluster",
            {"nics": {"reporteddevices": {}, "vnicprofile": {}}, "cluster": {}},
        ),
    ],
)
def test_follow_tree(text: str, expected: object) -> None:
    assert parameters.follow_tree(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("abc-1_2", "abc-1_2"),
        ("a b\nc;d", "abcd"),
        ("x" * 50, "x" * 36),
        ("", "fresh"),
        ("@@@", "fresh"),
    ],
)
def test_correlation_is_cleaned(text: str, expected: str) -> None:
    assert parameters.correlation(text, "fresh") == expected
