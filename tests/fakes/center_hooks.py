"""The aggregator's own hooks, as a test lays them down; none ever runs."""

from dataclasses import dataclass

from aggregator.hooks.points import POINTS
from node.model.hooks import HookList, HookScript, PointFacts

FOLDER = "/etc/skerry/center-hooks"


def script(point: str, name: str, refused: str = "") -> HookScript:
    """Return a script of a point."""
    path = f"{FOLDER}/{point}/{name}"
    return HookScript(point, name, path, 1234, "ab" * 32, "cd" * 16, refused)


@dataclass
class FakeCenterHooks:
    scripts: tuple[HookScript, ...] = ()

    def list(self) -> HookList:
        points = tuple(
            PointFacts(
                *(name, it.payload.value, it.may_abort, it.counts, it.timeout_s),
                it.waits_for,
            )
            for name, it in POINTS.items()
        )
        return HookList(self.scripts, points, (FOLDER,))
