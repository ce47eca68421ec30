"""Tests of aggregator.dashboard.assets."""

import re

from aggregator.dashboard import assets


def test_scripts_are_readable_as_they_are() -> None:
    """No build stands between what is written and what runs."""
    assert {path.name for path in assets.FOLDER.glob("*.js")} == {
        "dashboard.js",
        "theme.js",
        "upload.js",
    }


def test_scripts_write_no_markup_of_their_own() -> None:
    script = (assets.FOLDER / "dashboard.js").read_text()
    assert re.findall(r"innerHTML\s*=\s*[`'\"]", script) == []


def test_address_of_a_file_that_was_not_installed_is_empty() -> None:
    assert assets.address("vendor/none.js") == ""
