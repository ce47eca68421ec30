"""Read the options of a node."""

from pathlib import Path

import pytest

from node import config
from node.model.options import BadOption


def test_kernel_arguments_come_before_the_file(tmp_path: Path) -> None:
    (tmp_path / "node.conf").write_text("[node]\ntoken = file\nthreads = 4\n")
    words = "quiet skerry.token=kernel skerry.boot.medium=OTHER token=none skerry.name"
    read = config.load(tmp_path / "node.conf", words)
    assert (read.token, read.threads, read.name) == ("kernel", 4, "")


def test_an_unknown_kernel_argument_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="tokn"):
        config.load(tmp_path / "node.conf", "skerry.tokn=x")
