"""Start, kill and stop programs at every moment of their short lives."""

import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.errors import Failed
from node.storage.process.cgroup import Group
from node.storage.process.children import Children, Command, NotStarted
from node.storage.process.launch import User
from node.system import cgroups
from tests.fakes import storage_process
from tests.fakes.storage_process import wait_until

END_S = 20.0
SLEEP = Command(("sleep", "1000"))


class Loop:
    """A loop in a thread of its own, which it does not end before its children."""

    def __init__(self, start_s: float = END_S) -> None:
        path = cgroups.find_hierarchy() / f"skerry-test-{uuid.uuid4().hex[:12]}"
        self.group = Group(path)
        self.children = Children(self.group, User(), start_s)
        self.thread = threading.Thread(target=self.children.run)
        self.thread.start()

    def stop(self) -> None:
        self.children.stop()
        self.thread.join(END_S)
        self.group.close()


@pytest.fixture
def loop() -> Iterator[Loop]:
    if why_not := storage_process.why_not():
        pytest.skip(why_not)
    made = Loop()
    yield made
    made.stop()
    made.children.close()


def test_kill_ends_a_child_that_has_not_joined_its_group(loop: Loop) -> None:
    for _ in range(30):
        child = loop.children.start(SLEEP)
        child.kill()
        assert child.ended.wait(END_S)
        assert child.status == -9


def test_stop_ends_children_that_were_just_started(loop: Loop) -> None:
    children = [loop.children.start(SLEEP) for _ in range(5)]
    loop.stop()
    assert not loop.thread.is_alive()
    assert all(child.ended.is_set() for child in children)
    assert not loop.group.path.exists()


def test_then_acts_once_whenever_it_is_asked(loop: Loop) -> None:
    acts: list[str] = []
    child = loop.children.start(Command(("true",)))
    child.then(lambda: acts.append("before"))
    assert child.ended.wait(END_S)
    child.then(lambda: acts.append("after"))
    assert acts == ["before", "after"]


def test_start_that_was_given_up_never_happens(domain: Path) -> None:
    if why_not := storage_process.why_not():
        pytest.skip(why_not)
    busy, begun = threading.Event(), threading.Event()
    made = Loop(start_s=0.05)

    def be_busy() -> None:
        begun.set()
        busy.wait(END_S)

    made.children.on_tick.append(be_busy)
    made.children.wake()
    assert begun.wait(END_S)
    mark = domain / "mark"
    with pytest.raises(NotStarted):
        made.children.start(Command(("touch", str(mark))))
    made.children.on_tick.clear()
    busy.set()
    # Orders are obeyed one after the other: the given up one had its turn.
    for _ in range(5):
        wait_until(lambda: is_started(made.children))
    made.stop()
    made.children.close()
    assert not mark.exists()


def test_run_survives_a_failing_round(loop: Loop) -> None:
    failures = [OSError(24, "too many open files"), Failed("no")]

    def fail() -> None:
        if failures:
            raise failures.pop()

    loop.children.on_tick.append(fail)
    loop.children.wake()
    wait_until(lambda: not failures)
    assert loop.children.start(Command(("true",))).ended.wait(END_S)


def is_started(children: Children) -> bool:
    try:
        return children.start(Command(("true",))).ended.wait(END_S)
    except NotStarted:
        return False


@pytest.mark.parametrize(
    ("command", "why"),
    [
        pytest.param(
            Command(("true",), lifelines=(4096,)), "Bad file descriptor", id="lifeline"
        ),
        pytest.param(Command(("true", "a\0b")), "null byte", id="zero-byte"),
        pytest.param(Command(("true", "\ud800")), "surrogates", id="no-text"),
    ],
)
def test_start_tells_why_a_program_was_not_started(
    loop: Loop, command: Command, why: str
) -> None:
    with pytest.raises(NotStarted, match=why):
        loop.children.start(command)
    assert loop.children.start(Command(("true",))).ended.wait(END_S)
