"""Tests of waiting for the View to show what was done."""

from dataclasses import replace
from typing import Any, cast

import pytest

from aggregator.federation.view import View
from aggregator.rest import replies
from aggregator.rest.call import Call


class _Mirror:
    """Shows one View after the other; the last one stays."""

    def __init__(self, count: int) -> None:
        self._last = count
        self.view = View()

    def wait(self, since_revision: int, timeout_s: float) -> View:
        if self.view.revision < self._last:
            self.view = replace(self.view, revision=self.view.revision + 1)
        return self.view


def _call(mirror: _Mirror) -> Call:
    class Services:
        pass

    made: Any = Services()
    made.mirror = mirror
    call: Any = Services()
    call.services = made
    return cast(Call, call)


@pytest.mark.parametrize(
    ("count", "wanted", "reached"),
    [(0, 0, 0), (3, 2, 2), (3, 7, 3), (100, 99, 10)],
    ids=["at-once", "later", "never", "too-many-changes"],
)
def test_see_waits_while_the_view_changes(
    count: int, wanted: int, reached: int
) -> None:
    call = _call(_Mirror(count))
    assert replies.see(call, lambda view: view.revision == wanted).revision == reached
