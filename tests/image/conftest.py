"""The image that is booted: `make test` and `make test-image` have built it."""

import os
from pathlib import Path

import pytest

from tests.image import machine


@pytest.fixture(scope="session")
def image() -> Path:
    """Return the newest image, or the one that SKERRY_IMAGE names."""
    if named := os.environ.get("SKERRY_IMAGE"):
        return Path(named)
    built = sorted(
        (machine.CHECKOUT / "build/image").glob("skerry-*.img"), key=os.path.getmtime
    )
    if not built:
        pytest.fail("there is no image: run `make image`")
    return built[-1]
