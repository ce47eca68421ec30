"""Check when .venv counts as current, and what is linked into it."""

import os
from pathlib import Path

import pytest

from tests.machine import venv


@pytest.fixture
def debian(tmp_path: Path) -> Path:
    folder = tmp_path / "dist-packages"
    (folder / "sanlock_python-3.8.5.egg-info").mkdir(parents=True)
    (folder / "sanlock.cpython-311.so").touch()
    (folder / "other.py").touch()
    return folder


def test_find_bindings_finds_the_module_and_its_metadata(debian: Path) -> None:
    names = [path.name for path in venv.find_bindings(debian)]
    assert names == ["sanlock.cpython-311.so", "sanlock_python-3.8.5.egg-info"]


def test_find_bindings_fails_when_the_package_is_missing(tmp_path: Path) -> None:
    with pytest.raises(venv.BindingMissing, match="python3-sanlock"):
        venv.find_bindings(tmp_path)


def test_link_replaces_what_an_older_version_had(debian: Path, tmp_path: Path) -> None:
    site_packages = tmp_path / "site-packages"
    site_packages.mkdir()
    (site_packages / "sanlock.cpython-310.so").symlink_to("gone")
    (site_packages / "flask.py").touch()
    bindings = venv.find_bindings(debian)
    venv.link(bindings, site_packages)
    venv.link(bindings, site_packages)
    links = {path.name for path in site_packages.iterdir() if path.is_symlink()}
    assert links == {path.name for path in bindings}
    assert (site_packages / "flask.py").exists()


def test_fingerprint_changes_with_contents_and_places(tmp_path: Path) -> None:
    read, found = tmp_path / "setup.cfg", tmp_path / "python3"
    read.write_text("a")
    before = venv.fingerprint([read], [found])
    assert venv.fingerprint([read], [found]) == before
    found.symlink_to("python3.13")
    moved = venv.fingerprint([read], [found])
    read.write_text("b")
    assert len({before, moved, venv.fingerprint([read], [found])}) == 3


def test_is_current_compares_the_stamp(tmp_path: Path) -> None:
    stamp = tmp_path / "made-of"
    assert not venv.is_current(stamp, "x")
    stamp.write_text("x")
    assert venv.is_current(stamp, "x")
    assert not venv.is_current(stamp, "y")


def test_is_usable_wants_the_interpreter_of_the_machine(tmp_path: Path) -> None:
    good, other, gone = (tmp_path / name for name in ("good", "other", "gone"))
    good.symlink_to(venv.PYTHON)
    other.symlink_to(os.devnull)
    gone.symlink_to(tmp_path / "nowhere")
    assert [venv.is_usable(path) for path in (good, other, gone)] == [
        True,
        False,
        False,
    ]
