"""Tests of aggregator.dashboard.figures."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as some

from aggregator.dashboard import figures
from node.units import DAY_S, HOUR_S, GiB, KiB, MiB


@pytest.mark.parametrize(
    ("size_bytes", "shown"),
    [
        pytest.param(0, "0 B", id="nothing"),
        pytest.param(1023, "1023 B", id="largest-bytes"),
        pytest.param(KiB, "1 KiB", id="one-unit"),
        pytest.param(512 * MiB, "512 MiB", id="no-fraction-from-100-on"),
        pytest.param(7 * GiB + GiB // 2, "7.5 GiB", id="half"),
        pytest.param(GiB - 1, "1 GiB", id="rounds-up-into-the-next-unit"),
        pytest.param(5000 * 1024**5, "5000 PiB", id="beyond-the-last-unit"),
    ],
)
def test_size_reads_at_once(size_bytes: int, shown: str) -> None:
    assert figures.size(size_bytes) == shown


@given(some.integers(0, 2**60))
def test_size_is_never_longer_than_a_cell(size_bytes: int) -> None:
    assert len(figures.size(size_bytes)) <= len("1023.9 KiB")


def test_rate_counts_in_thousands() -> None:
    assert figures.rate(1_200_000) == "1.2 MB/s"


@pytest.mark.parametrize(
    ("part", "whole", "percent"),
    [
        pytest.param(1, 3, 33, id="rounded"),
        pytest.param(0, 0, 0, id="of-nothing"),
        pytest.param(5, 4, 100, id="more-than-all"),
        pytest.param(-1, 4, 0, id="less-than-nothing"),
    ],
)
def test_share_stays_within_bounds(part: float, whole: float, percent: int) -> None:
    assert figures.share(part, whole) == percent


@pytest.mark.parametrize(
    ("duration_s", "shown"),
    [
        pytest.param(-4, "0 s", id="clock-behind"),
        pytest.param(59.9, "59 s", id="seconds"),
        pytest.param(61, "1 min", id="minutes"),
        pytest.param(HOUR_S, "1 h", id="whole-hour"),
        pytest.param(HOUR_S + 1200, "1 h 20 min", id="hours"),
        pytest.param(3 * DAY_S + 4 * HOUR_S + 59, "3 d 4 h", id="days"),
    ],
)
def test_span_shows_two_units(duration_s: float, shown: str) -> None:
    assert figures.span(duration_s) == shown


def test_age_is_empty_when_the_moment_is_none() -> None:
    assert figures.age("never", datetime(2026, 1, 1, tzinfo=UTC)) == ""


def test_age_counts_from_the_moment() -> None:
    now = datetime(2026, 1, 1, 0, 5, tzinfo=UTC)
    assert figures.age("2026-01-01T00:00:00.000Z", now) == "5 min"


@given(some.text(alphabet="0123456789abcdef", min_size=64, max_size=64))
def test_fingerprint_groups_keep_every_digit(fingerprint: str) -> None:
    groups = figures.fingerprint_groups(fingerprint)
    assert ("".join(groups), {len(group) for group in groups}) == (fingerprint, {4})


def test_fingerprint_groups_read_colons() -> None:
    assert figures.fingerprint_groups("AB:CD:EF:01") == ("abcd", "ef01")
