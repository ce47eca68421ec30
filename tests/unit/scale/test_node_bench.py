"""Test how times of starts become figures."""

from dataclasses import replace

import pytest

from tests.scale import node_bench
from tests.scale.node_bench import Share
from tests.scale.processes import Usage

AGENT = Usage(0.0, 0.0, 80_000_000, 50_000_000, 81_000_000, 30)


def _times(api_s: float) -> dict[str, list[float]]:
    return {
        "raw_s": [0.5, 0.1, 0.9],
        "api_s": [api_s, 9.0, 0.0],
        "answer_s": [0.01],
        "figures_s": [0.001],
        "hooked_s": [api_s + 0.5],
        "script_s": [0.02],
    }


@pytest.mark.parametrize(
    ("api_s", "kept"),
    [
        pytest.param(0.54, {"ours over libvirt's": True, "of our own": True}, id="ok"),
        pytest.param(
            0.60, {"ours over libvirt's": False, "of our own": False}, id="slow"
        ),
    ],
)
def test_start_section_compares_medians(api_s: float, kept: dict[str, bool]) -> None:
    section = node_bench.start_section(_times(api_s), AGENT, AGENT)
    found = {each.name: each for each in section.figures}
    assert found["ours over libvirt's"].value == pytest.approx(api_s / 0.5)
    assert found["of our own"].value == pytest.approx((api_s - 0.5) * 1000)
    assert {name: found[name].is_kept for name in kept} == kept
    each = found["each of 10 hooks in Python adds to it"]
    assert each.value == pytest.approx(50.0)
    assert each.is_kept


@pytest.mark.parametrize(
    ("rss_bytes", "is_kept"),
    [
        pytest.param(80_000_000, True, id="small"),
        pytest.param(80_100_000, False, id="large"),
    ],
)
def test_start_section_judges_the_agent_that_rests(
    rss_bytes: int, is_kept: bool
) -> None:
    resting = replace(AGENT, rss_bytes=rss_bytes)
    section = node_bench.start_section(_times(0.5), resting, AGENT)
    (figure,) = (
        each for each in section.figures if "rest, with storage (RSS)" in each.name
    )
    assert figure.is_kept is is_kept


@pytest.mark.parametrize(
    ("ups_s", "is_kept"),
    [
        pytest.param([9.0, 1.9, 1.0], True, id="one-slow"),
        pytest.param([9.0, 2.1, 1.0], False, id="slow"),
    ],
)
def test_up_figure_judges_the_median(ups_s: list[float], is_kept: bool) -> None:
    figure = node_bench.up_figure(ups_s)
    assert figure.is_kept is is_kept
    assert "from 1.00 to 9.00 s" in figure.note


def test_share_is_what_the_domains_add() -> None:
    assert Share(30, 42).domains_bytes == 12
