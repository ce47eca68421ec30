"""What lives long is passed over; what is unreachable goes."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from aggregator import collector


@pytest.fixture(autouse=True)
def collection() -> Iterator[None]:
    """Leave the collector of this process as it was: tests/conftest.py froze, too."""
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)


class _Knot:
    """An object that holds itself."""

    def __init__(self) -> None:
        self.itself = self


def test_tidy_passes_over_what_is_left() -> None:
    kept = _Knot()
    collector.tidy()
    assert not any(each is kept for each in gc.get_objects())
    assert gc.get_freeze_count() > 0


def test_tidy_frees_what_became_unreachable_since_the_last_time() -> None:
    knot = _Knot()
    collector.tidy()
    remains = weakref.ref(knot)
    del knot
    gc.collect()
    assert remains() is not None
    collector.tidy()
    assert remains() is None


def test_calm_looks_at_everything_rarely() -> None:
    collector.calm()
    young, _, old = gc.get_threshold()
    assert young * old >= 500_000
