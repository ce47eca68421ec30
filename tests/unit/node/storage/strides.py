"""Say at which of many points a tale is stopped: at some in haste, at all in time."""

from typing import Any, Final

import pytest

# `make test-fast` stops at one point in so many, and `make test-real` at all of them.
_STRIDE: Final = 4


def each() -> pytest.MarkDecorator:
    """Return what gives a test its `stride`."""
    strides: list[Any] = [
        pytest.param(_STRIDE, id="some"),
        pytest.param(1, id="all", marks=pytest.mark.real),
    ]
    return pytest.mark.parametrize("stride", strides)


def points(count: int, stride: int, tale: int) -> range:
    """Return the points to stop at; tales with other numbers begin with another one."""
    return range(tale % stride, count, stride)
