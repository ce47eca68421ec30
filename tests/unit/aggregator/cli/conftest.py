"""What the tests of `skerry` share: a session, and an aggregator that has it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes import fleet_storage
from tests.unit.aggregator.cli import shell
from tests.unit.aggregator.cli.shell import Desk


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where the session is kept."""
    path = tmp_path / "home" / "session.json"
    monkeypatch.setenv("SKERRY_SESSION", str(path))
    return path


@pytest.fixture
def desk(tmp_path: Path, session: Path) -> Iterator[Desk]:
    """Yield an aggregator of a fleet with storage, logged in."""
    with shell.serve(tmp_path, fleet_storage.make_fleet) as made:
        made.log_in()
        yield made
