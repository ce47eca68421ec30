"""Check the table of packages and what is chosen from it."""

import pytest

from tests.machine import packages
from tests.machine.packages import Package, Release


@pytest.mark.parametrize(
    ("package", "release", "name"),
    [
        pytest.param(Package("lab", "a", "x"), "bookworm", "a", id="same-on-12"),
        pytest.param(Package("lab", "a", "x"), "trixie", "a", id="same-on-13"),
        pytest.param(
            Package("lab", "a", "x", trixie="b"), "bookworm", "a", id="renamed-on-12"
        ),
        pytest.param(
            Package("lab", "a", "x", trixie="b"), "trixie", "b", id="renamed-on-13"
        ),
        pytest.param(
            Package("lab", "a", "x", on_bookworm=False), "bookworm", None, id="none"
        ),
        pytest.param(
            Package("lab", "a", "x", on_bookworm=False), "trixie", "a", id="new-on-13"
        ),
    ],
)
def test_name_on_follows_the_release(
    package: Package, release: Release, name: str | None
) -> None:
    assert package.name_on(release) == name


@pytest.mark.parametrize("release", packages.RELEASES)
def test_choose_takes_only_what_the_uses_need(release: Release) -> None:
    needed = packages.choose(["build"], release)
    assert "python3-venv" in needed
    assert "qemu-system-x86" not in needed


@pytest.mark.parametrize("release", packages.RELEASES)
def test_table_names_no_package_twice(release: Release) -> None:
    names = [package.name_on(release) for package in packages.PACKAGES]
    present = [name for name in names if name is not None]
    assert sorted(set(present)) == sorted(present)


def test_table_says_why_in_a_few_words() -> None:
    assert all(0 < len(package.why) <= 48 for package in packages.PACKAGES)


def test_missing_keeps_the_order_and_drops_the_installed() -> None:
    needed = {"c": "1", "a": "2", "b": "3"}
    assert list(packages.missing(needed, {"a", "z"}).items()) == [
        ("c", "1"),
        ("b", "3"),
    ]
