"""Let all that pytest knows of the tests be looked for garbage seldom.

And let them write to memory, unless real things are to run on a real disk.
"""

import gc
import os
import tempfile

import pytest

from tests import memory

# Python's own but the last: one in ten. A fifth of the time of all tests went there.
_THRESHOLDS = (700, 10, 100)
# While tests are found, there is hardly any garbage, and ever more to look at.
_FINDING = (100_000, 10, 100)


def pytest_configure(config: pytest.Config) -> None:
    """Choose where temporary folders are, also those of xdist's workers.

    Tests are found next.
    """
    gc.set_threshold(*_FINDING)
    root = memory.root() if "not real" in config.option.markexpr else None
    if root is not None:
        os.environ["TMPDIR"] = tempfile.tempdir = os.fspath(root)


def pytest_collection_finish() -> None:
    """Pass over what was made until now: it stays until the end."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
