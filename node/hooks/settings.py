"""Make what runs hooks of a node's options."""

from pathlib import Path
from typing import Final

from node.config import Config
from node.hooks import installing, runner
from node.hooks.points import POINTS
from node.hooks.runner import Runner
from node.model.options import BadOption
from node.units import MiB

# Bundles are installed there, below the state folder.
BUNDLES: Final = "hooks"


def make(config: Config, *, is_root: bool = False) -> Runner:
    """Return what runs this node's hooks; BadOption.

    `is_root`: as root, which is for the start of the service alone.
    """
    user = None if is_root else runner.user(config.hook_user)
    named, bundles = folders(config), bundles_folder(config)
    return Runner(
        POINTS,
        lambda: (*installing.roots(bundles), *named),
        Path(config.run_folder) / "hooks",
        runner.confine(config.hook_cgroup, user),
        user,
        runner.timeouts(config.hook_timeouts, POINTS),
        config.hook_memory_mib * MiB,
    )


def bundles_folder(config: Config) -> Path:
    """Return where bundles are kept; their scripts come before others."""
    return Path(config.state_folder) / BUNDLES


def folders(config: Config) -> tuple[Path, ...]:
    """Return the folders of hooks that are configured."""
    named = [Path(each) for each in config.hook_folders.split(":") if each]
    for each in named:
        if not each.is_absolute():
            raise BadOption(f"hook_folders: {each} is no absolute path")
    return tuple(named)
