"""One agent for the tests of a module."""

from collections.abc import Iterator

import pytest

from tests.contract.agents import FakeAgent
from tests.unit.node.cli.shell import Shell, serving


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    folder = tmp_path_factory.mktemp("agent")
    with serving(FakeAgent(folder), folder) as shell:
        yield shell


@pytest.fixture
def shell(served: Shell) -> Shell:
    served.agent.restore()
    return served
