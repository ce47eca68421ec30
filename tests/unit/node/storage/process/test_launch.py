"""Look at the words that lead to a program."""

from pathlib import Path

import pytest

from node.storage.process import launch
from node.storage.process.launch import User


@pytest.mark.parametrize(
    ("user", "identity"),
    [
        pytest.param(
            User(), ["--reuid=36", "--regid=36", "--clear-groups"], id="storage"
        ),
        pytest.param(
            User(1, 2), ["--reuid=1", "--regid=2", "--clear-groups"], id="else"
        ),
        pytest.param(None, [], id="as-we-are"),
    ],
)
def test_words_join_the_group_before_they_give_up_root(
    user: User | None, identity: list[str]
) -> None:
    words = launch.words(("qemu-img", "a b"), Path("/g/1"), "/f", user, 7)
    assert words[3:5] == ["sh", "/g/1/cgroup.procs"]
    begin = words.index("setpriv")
    assert words[begin : begin + len(identity) + 2] == [
        "setpriv",
        *identity,
        "--pdeathsig=KILL",
    ]
    assert words[-5:] == ["sh", "7", "/f", "qemu-img", "a b"]
