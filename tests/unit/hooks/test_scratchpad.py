"""scratchpad: disks that are made at a start and removed at the end."""

import stat
from pathlib import Path

import pytest

from tests.unit.hooks import scene


def _start(
    folder: Path, payload: str | None = None, **properties: str
) -> scene.Outcome:
    name, point = "scratchpad", "before_vm_start"
    return scene.run(name, point, properties, payload, folder=folder)


def _end(folder: Path) -> scene.Outcome:
    return scene.run("scratchpad", "after_vm_destroy", {}, folder=folder)


def _note(folder: Path) -> Path:
    return folder / "hooks" / f"scratchpad-{scene.VM_ID}"


def test_scratchpad_does_nothing_unless_it_is_wanted(tmp_path: Path) -> None:
    assert _start(tmp_path).is_untouched
    assert _end(tmp_path).returncode == 0
    assert not _note(tmp_path).exists()


@pytest.mark.parametrize("between", [":", ","])
def test_scratchpad_makes_disks(tmp_path: Path, between: str) -> None:
    one, two = tmp_path / "a", tmp_path / "b & c"
    value = f"1M,{one}{between}20G,{two}"
    outcome = _start(tmp_path, scratchpad=value)
    scene.assert_valid(outcome)
    assert [each.stat().st_size for each in (one, two)] == [1024**2, 20 * 1024**3]
    assert stat.S_IMODE(one.stat().st_mode) == 0o660
    assert two.stat().st_blocks == 0
    disks = outcome.tree.findall("devices/disk[@snapshot='no']")
    shown = [scene.canonical(each) for each in disks]
    assert [str(one) in shown[0], 'dev="vdb"' in shown[0]] == [True, True]
    assert ["b &amp; c" in shown[1], 'dev="vdc"' in shown[1]] == [True, True]
    assert scene.may_be_set("scratchpad", "scratchpad", value)


def test_scratchpad_removes_what_it_made_and_nothing_else(tmp_path: Path) -> None:
    one, other = tmp_path / "a", tmp_path / "other"
    other.touch()
    _start(tmp_path, scratchpad=f"1M,{one}")
    assert _end(tmp_path).returncode == 0
    assert not one.exists()
    assert other.exists()
    assert not _note(tmp_path).exists()
    assert _end(tmp_path).returncode == 0


def test_scratchpad_starts_empty_after_a_start_that_failed(tmp_path: Path) -> None:
    one, two = tmp_path / "a", tmp_path / "b"
    _start(tmp_path, scratchpad=f"1M,{one}")
    one.write_bytes(b"left over")
    scene.assert_valid(_start(tmp_path, scratchpad=f"1M,{two}"))
    assert not one.exists()
    scene.assert_valid(_start(tmp_path, scratchpad=f"1M,{two}"))
    assert two.stat().st_size == 1024**2


@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_scratchpad_touches_nothing_that_is_there(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a"
    if kind == "file":
        path.write_text("mine")
    elif kind == "link":
        path.symlink_to(tmp_path / "nowhere")
    else:
        path.mkdir()
    outcome = _start(tmp_path, scratchpad=f"1M,{tmp_path}/b:1M,{path}")
    scene.assert_refused(outcome, "scratchpad")
    assert not (tmp_path / "b").exists()
    _end(tmp_path)
    assert path.lstat()


def test_scratchpad_that_fails_half_way_is_cleared(tmp_path: Path) -> None:
    value = f"1M,{tmp_path}/a:1M,{tmp_path}/missing/b"
    scene.assert_refused(_start(tmp_path, scratchpad=value), "scratchpad")
    assert (tmp_path / "a").exists()
    assert _end(tmp_path).returncode == 0
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    "value",
    [
        "1M",
        "1M,a",
        "1M,/a/../etc/b",
        "1M,/x/a:1M,/x/a",
        "1M,/x/a:",
        "0,/x/a",
        "1,/x/a",
        "1P,/x/a",
        "1.5G,/x/a",
        "-1G,/x/a",
        ":".join(f"1M,/x/{each}" for each in range(17)),
    ],
)
def test_scratchpad_refuses_other_values(tmp_path: Path, value: str) -> None:
    scene.assert_refused(_start(tmp_path, scratchpad=value), "scratchpad")


@scene.hostile
def test_scratchpad_refuses_hostile_values(tmp_path: Path, value: str) -> None:
    scene.assert_refused(_start(tmp_path, scratchpad=value), "scratchpad")
    assert not scene.may_be_set("scratchpad", "scratchpad", value)
