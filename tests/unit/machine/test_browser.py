"""Check the copies that the dashboard serves, and the lock file behind them."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.architecture import source
from tests.machine import browser


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    folder = tmp_path / "node_modules"
    for name in browser.SERVED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


@pytest.fixture(scope="module")
def locked() -> dict[str, Any]:
    text = (source.ROOT / "package-lock.json").read_text()
    packages: dict[str, Any] = json.loads(text)["packages"]
    return packages


def test_serve_copies_the_named_files_and_no_others(
    modules: Path, tmp_path: Path
) -> None:
    vendor = tmp_path / "static" / "vendor"
    browser.serve(modules, vendor)
    browser.serve(modules, vendor)
    found = {path.name: path.read_text() for path in vendor.iterdir()}
    assert found == {target: name for name, target in browser.SERVED.items()}


def test_serve_fails_when_a_library_lost_a_file(modules: Path, tmp_path: Path) -> None:
    lost = next(iter(browser.SERVED))
    (modules / lost).unlink()
    with pytest.raises(browser.FileMissing, match=lost):
        browser.serve(modules, tmp_path / "vendor")


def test_lock_file_pins_what_package_json_asks_for(locked: dict[str, Any]) -> None:
    text = (source.ROOT / "package.json").read_text()
    asked = json.loads(text)["dependencies"]
    pinned = {name: locked[f"node_modules/{name}"]["version"] for name in asked}
    assert pinned == asked


def test_lock_file_has_checksums_and_no_addresses(locked: dict[str, Any]) -> None:
    libraries = [entry for name, entry in locked.items() if name]
    assert all(entry["integrity"].startswith("sha512-") for entry in libraries)
    assert not [entry for entry in libraries if "resolved" in entry]


def test_served_files_come_from_locked_libraries(locked: dict[str, Any]) -> None:
    folders = tuple(name.removeprefix("node_modules/") for name in locked if name)
    assert all(name.startswith(folders) for name in browser.SERVED)
