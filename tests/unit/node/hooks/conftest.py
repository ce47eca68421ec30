"""What is shared by the tests of hooks."""

from collections.abc import Iterator

import pytest

from node.hooks import runner
from node.system import cgroups
from tests.unit.node.hooks.scripts import GROUP


@pytest.fixture(scope="session", autouse=True)
def _groups() -> Iterator[None]:
    """Leave no group behind."""
    yield
    runner.confine(GROUP, None).clear()
    assert not any((each / GROUP).exists() for each in cgroups._hierarchies())
