"""Test what the demo says of what stays."""

from pathlib import Path

from tests.lab import demo


def test_what_stays_lists_each_package_once(tmp_path: Path) -> None:
    listing = tmp_path / "packages"
    listing.write_text("sanlock\nlibvirt-clients\nsanlock\n")
    lines = demo.what_stays(listing).splitlines()
    assert lines[1] == "  libvirt-clients sanlock"
    assert "make clean" in lines[-1]


def test_what_stays_lists_nothing_if_nothing_was_installed(tmp_path: Path) -> None:
    said = demo.what_stays(tmp_path / "none")
    assert "packages" not in said
    assert "make clean" in said
