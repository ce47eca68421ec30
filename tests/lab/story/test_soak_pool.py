"""A dozen brief runs of the soak of storage: one fleet, one pool, a fault in each."""

from collections.abc import Iterator

import pytest

from tests.lab import soak_pool
from tests.lab.soak_pool_stage import Stage
from tests.lab.story.conftest import Story

pytestmark = pytest.mark.lab

SEEDS = range(1, 13)


@pytest.fixture
def stage(story: Story) -> Iterator[Stage]:
    made = Stage(story.fleet, story.client)
    try:
        made.make()
        yield made
    finally:
        made.remove()


def test_pool_is_whole_after_a_dozen_faults(stage: Stage) -> None:
    results = [soak_pool.run(stage, seed, is_brief=True, say=print) for seed in SEEDS]
    print(soak_pool.summary(results))
    assert {each.seed: each.wrong for each in results if each.wrong} == {}
    assert any(each.unmanaged_s is not None for each in results)
