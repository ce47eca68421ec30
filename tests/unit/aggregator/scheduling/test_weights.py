"""How well a node would do."""

import pytest

from aggregator.scheduling import weights
from tests.fakes import fleet
from tests.unit.aggregator.scheduling.test_place import contender


@pytest.mark.parametrize(
    "percent", [-1.0, 0.0, 50.0, 100.0, 250.0], ids=lambda each: f"{each:.0f}"
)
def test_score_stays_between_0_and_1(percent: float) -> None:
    assert 0.0 <= weights.score(fleet.spec(1), contender(1, cpu_percent=percent)) <= 1.0


def test_score_is_middling_about_a_load_that_is_not_known() -> None:
    spec = fleet.spec(1)
    unknown = weights.score(spec, contender(1, stats=None, free_bytes=0))
    assert 0.0 < unknown < 1.0
