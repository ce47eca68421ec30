"""An operation on a house, stopped at any point: on a copy each time."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from node.storage.operations.plan import Plan
from tests.contract.disks import Crash, House, Manager


@dataclass(frozen=True, slots=True)
class Stage:
    """The house before the operation, its plan, and how many points that has."""

    house: House
    plan: Plan
    folder: Path
    moments: int

    def start(self) -> tuple[House, Manager]:
        """Return a fresh copy of the house, and its manager."""
        shutil.rmtree(self.folder / "now", ignore_errors=True)
        house = self.house.copy(self.folder / "now")
        return house, Manager.of(house)

    def stop(self, point: int) -> tuple[House, Manager, str]:
        """Stop at a point; return what is there then, and where that is."""
        house, manager = self.start()
        manager.guard.stop_at = point
        with pytest.raises(Crash) as crash:
            manager.execute(self.plan)
        return house, manager, f"point {point}, {crash.value}"


def check_all(stage: Stage, check: Callable[[House, str], bool]) -> None:
    """Stop at each point, and check what another manager makes of it.

    `check` tells whether it is as after the operation, else it is as before.
    """
    ends = []
    for point in range(stage.moments):
        house, manager, where = stage.stop(point)
        later = manager.next(house)
        found = later.recover()
        assert [each.error for each in found if each.error] == [], where
        ends.append(check(house, where))
        assert later.recover() == (), where
    assert ends[-1], "the last point is after the end"
    assert ends == sorted(ends), "it goes on once it has been decided"
