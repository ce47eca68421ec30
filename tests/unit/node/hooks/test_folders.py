"""Which files are scripts, in which order, and which must not run."""

import hashlib
from pathlib import Path

import pytest

from node.hooks import folders
from node.hooks.points import POINTS
from node.model.hooks import HookPoint
from tests.unit.node.hooks.scripts import Hooks

START = HookPoint.BEFORE_VM_START


@pytest.fixture
def hooks(tmp_path: Path) -> Hooks:
    return Hooks(tmp_path)


def test_find_sorts_by_name_over_all_roots(hooks: Hooks, tmp_path: Path) -> None:
    other = Hooks(tmp_path / "other")
    for name in ("50_b", "9_c", "Z"):
        hooks.add(START, name, "")
    other.add(START, "50_a", "")
    other.add(START, "50_b", "")
    names = [each.path for each in folders.find([hooks.root, other.root], START)]
    assert [(each.name, each.is_relative_to(other.root)) for each in names] == [
        ("50_a", True),
        ("50_b", False),
        ("50_b", True),
        ("9_c", False),
        ("Z", False),
    ]


@pytest.mark.parametrize("kind", ["folder", "plain", "absent"])
def test_find_passes_over_what_is_no_script(hooks: Hooks, kind: str) -> None:
    path = hooks.add(START, "a", "", mode=0o644)
    if kind == "folder":
        path.unlink()
        path.mkdir()
    elif kind == "absent":
        path.unlink()
        path.parent.rmdir()
    assert folders.find([hooks.root], START) == ()


def test_find_refuses_a_symbolic_link(hooks: Hooks) -> None:
    script = hooks.add(HookPoint.AFTER_VM_START, "a", "")
    link = hooks.root / START / "b"
    link.parent.mkdir()
    link.symlink_to(script)
    (found,) = folders.find([hooks.root], START)
    assert "symbolic link" in found.refused
    assert folders.describe(found).refused == found.refused


@pytest.mark.parametrize("of_folder", [False, True], ids=["script", "folder"])
def test_find_refuses_what_anybody_may_write(hooks: Hooks, of_folder: bool) -> None:
    path = hooks.add(START, "a", "")
    changed = path.parent if of_folder else path
    changed.chmod(0o777)
    (found,) = folders.find([hooks.root], START)
    assert "anybody may write" in found.refused


def test_describe_tells_sums_and_size(hooks: Hooks) -> None:
    path = hooks.add(START, "50_a", "exit 0")
    (found,) = folders.find_all([hooks.root], POINTS)
    told = folders.describe(found)
    data = path.read_bytes()
    assert (told.point, told.name, told.path) == (START, "50_a", str(path))
    assert told.sha256 == hashlib.sha256(data).hexdigest()
    assert told.md5 == hashlib.md5(data, usedforsecurity=False).hexdigest()
    assert (told.size_bytes, told.refused) == (len(data), "")


def test_describe_says_that_a_script_went(hooks: Hooks) -> None:
    path = hooks.add(START, "50_a", "exit 0")
    (found,) = folders.find_all([hooks.root], POINTS)
    path.unlink()
    assert "cannot be read" in folders.describe(found).refused
