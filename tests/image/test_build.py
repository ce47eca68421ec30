"""Build the image twice, from nothing but the same packages."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.image import machine

CACHE = Path(os.environ.get("SKERRY_IMAGE_CACHE", "/var/cache/skerry-image"))
BUILD_S = 1800.0
SIZE_MAX = 100_000_000

pytestmark = pytest.mark.image


def test_image_has_less_than_100_million_bytes(image: Path) -> None:
    assert image.stat().st_size <= SIZE_MAX


@pytest.mark.skipif(
    "SKERRY_ALL_BOOTS" not in os.environ, reason="`make test-image` takes the time"
)
def test_two_builds_are_equal_bit_for_bit(image: Path, tmp_path: Path) -> None:
    # Only what was fetched is shared: the packages are installed anew.
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/debs").symlink_to(CACHE / "debs")
    places = ("--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "out"))
    subprocess.run(
        [sys.executable, "-m", "imagebuild", *places, "build"],
        env={**os.environ, "PYTHONPATH": str(machine.CHECKOUT / "image-build")},
        cwd=machine.CHECKOUT,
        check=True,
        timeout=BUILD_S,
    )
    assert _digest(tmp_path / "out" / image.name) == _digest(image)


def _digest(file: Path) -> str:
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()
