"""Folders of hooks with scripts in them, and what runs those."""

import os
from collections.abc import Mapping
from pathlib import Path

from node.hooks import runner
from node.hooks.points import POINTS
from node.hooks.runner import Runner
from node.model.hooks import HookPoint

DOMAIN = b"<domain><name>a</name></domain>"
GROUP = f"skerry-test-hooks-{os.getpid()}"  # others may run the same tests


class Hooks:
    """A folder of hooks, and what runs them as whoever the test is."""

    def __init__(self, folder: Path, timeouts_s: Mapping[str, float] | None = None):
        self.root = folder / "hooks"
        self.run_folder = folder / "run"
        confinement = runner.confine(GROUP, None)
        self.runner = Runner(
            *(POINTS, lambda: [self.root], self.run_folder, confinement),
            None,
            timeouts_s,
        )

    def add(
        self,
        point: HookPoint,
        name: str,
        text: str,
        *,
        mode: int = 0o755,
        shell: str = "/bin/sh",
    ) -> Path:
        """Put a script there; all of it is `text`, but its first line."""
        path = self.root / point / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!{shell}\n{text}\n")
        path.chmod(mode)
        return path

    def left(self) -> list[str]:
        """Return what runs have left in their folder."""
        return sorted(
            each.name for each in self.run_folder.iterdir() if each.name != "state"
        )
