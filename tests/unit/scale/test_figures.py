"""Test how samples become figures and a table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.scale import figures
from tests.scale.figures import Figure, Section

SAMPLES = st.lists(st.floats(0, 1e6), min_size=1)


@pytest.mark.parametrize(
    ("samples", "percent", "expected"),
    [
        pytest.param([3.0], 99, 3.0, id="one"),
        pytest.param([1.0, 2.0], 50, 1.0, id="lower-half"),
        pytest.param([4.0, 1.0, 3.0, 2.0], 75, 3.0, id="unsorted"),
        pytest.param([float(n) for n in range(1, 101)], 99, 99.0, id="hundred"),
        pytest.param([float(n) for n in range(1, 102)], 99, 100.0, id="hundred-one"),
        pytest.param([1.0, 9.0], 100, 9.0, id="all"),
    ],
)
def test_percentile_returns_the_nearest_rank(
    samples: list[float], percent: float, expected: float
) -> None:
    assert figures.percentile(samples, percent) == expected


@given(SAMPLES, st.integers(1, 100))
def test_percentile_covers_its_share(samples: list[float], percent: int) -> None:
    found = figures.percentile(samples, percent)
    covered = sum(each <= found for each in samples)
    assert covered * 100 >= percent * len(samples)
    assert found in samples


@given(SAMPLES)
def test_spread_is_in_order(samples: list[float]) -> None:
    found = figures.spread(samples)
    assert found.count == len(samples)
    assert found.p50 <= found.p99 <= found.highest == max(samples)


def test_latency_promises_the_slowest_hundredth() -> None:
    middle, slow = figures.latency("x", [0.001, 0.002, 0.5], 100.0, "cold")
    assert (middle.value, middle.limit) == (2.0, None)
    assert (slow.value, slow.limit, slow.is_kept) == (500.0, 100.0, False)
    assert slow.note == "3 samples; cold"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param(1234.5, "1,234", id="thousands"),
        pytest.param(12.34, "12.3", id="tens"),
        pytest.param(1.234, "1.23", id="ones"),
        pytest.param(0.0, "0", id="nothing"),
        pytest.param(7.0, "7", id="whole"),
    ],
)
def test_number_keeps_three_digits(value: float, text: str) -> None:
    assert figures.number(value) == text


def test_render_says_what_was_kept_and_missed() -> None:
    section = Section(
        "Title",
        (
            Figure("fast", 5.0, "ms", 10.0),
            Figure("slow enough to say", 50.0, "ms", 10.0, "note"),
            Figure("free", 1.0, "MB"),
            Figure("as quick", 0.8, "×", floor=0.8),
            Figure("half as quick", 0.4, "×", floor=0.8),
        ),
        ("remark",),
    )
    assert figures.render([section]).splitlines() == [
        "Title",
        "  fast                  5 ms    ≤ 10  kept",
        "  slow enough to say   50 ms    ≤ 10  MISSED  note",
        "  free                  1 MB       -",
        "  as quick            0.80 ×  ≥ 0.80  kept",
        "  half as quick       0.40 ×  ≥ 0.80  MISSED",
        "  (remark)",
    ]
    missed = [each.name for each in figures.missed([section])]
    assert missed == ["slow enough to say", "half as quick"]


def test_to_json_has_every_figure() -> None:
    section = Section("Title", (Figure("slow", 50.12345, "ms", 10.0),))
    (saved,) = figures.to_json([section])
    assert saved["figures"] == [
        {
            "name": "slow",
            "value": 50.123,
            "unit": "ms",
            "limit": 10.0,
            "floor": None,
            "is_kept": False,
            "note": "",
        }
    ]
