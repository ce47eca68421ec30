"""Make what runs hooks of a node's options."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from node.config import Config
from node.hooks import installing
from node.hooks.points import POINTS
from node.hooks.runner import Runner, confine
from node.model.hooks import HookPoint
from node.model.options import BadOption
from node.system.confined import User

# Bundles are installed there, below the state folder.
BUNDLES: Final = "hooks"


def make(config: Config, *, is_root: bool = False) -> Runner:
    """Return what runs this node's hooks; BadOption.

    `is_root`: as root, which is for the start of the service alone.
    """
    user = None if is_root else _user(config.hook_user)
    named, bundles = folders(config), bundles_folder(config)
    return Runner(
        POINTS,
        lambda: (*installing.roots(bundles), *named),
        Path(config.run_folder) / "hooks",
        confine(config.hook_cgroup, user),
        user,
        _timeouts(config.hook_timeouts),
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


def _user(text: str) -> User:
    uid, _, gid = text.partition(":")
    if not (uid.isdecimal() and gid.isdecimal()):
        raise BadOption(f"hook_user: {text!r} is not uid:gid in figures")
    return User(int(uid), int(gid))


def _timeouts(text: str) -> Mapping[str, float]:
    found: dict[str, float] = {}
    for each in filter(None, text.replace(" ", "").split(",")):
        point, _, seconds = each.partition("=")
        if point not in POINTS or not seconds.replace(".", "", 1).isdecimal():
            raise BadOption(f"hook_timeouts: {each!r} is not point=seconds")
        found[HookPoint(point)] = float(seconds)
    return found
