"""What contracts share that need a folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import memory


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Yield a folder in memory, if it can be there."""
    with memory.fast_folder(tmp_path) as folder:
        yield folder
