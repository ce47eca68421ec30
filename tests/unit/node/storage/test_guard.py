"""Ask a server that the test speaks for."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from node import wire
from node.errors import Conflict, Error
from node.storage import guard as guards
from node.storage.guard import GuardDown, SocketGuard
from node.storage.process import protocol, server
from node.storage.process.protocol import Answer, Need, Problem, Step, StepState


@contextlib.contextmanager
def serving(
    path: Path, answer: Callable[[bytes], Answer], session: int = 0
) -> Iterator[SocketGuard]:
    made = server.Server(path, lambda line, _is_gone: answer(line))
    made.start()
    client = SocketGuard(path, session)
    yield client
    client.close()
    made.close()


def test_run_says_what_is_wanted_and_returns_the_step(tmp_path: Path) -> None:
    heard = []
    step = {"step_id": "a", "state": "ended", "exit_status": 3, "new_field": 1}

    def answer(line: bytes) -> Answer:
        heard.append(json.loads(line))
        return Answer(step)

    with serving(tmp_path / "s", answer, 7) as guard:
        found = guard.run("a", ["true"], [Need("space", "SDM", 7)], "/f")
    assert found == Step("a", StepState.ENDED, 3)
    need = {"lockspace": "space", "resource": "SDM", "version": 7}
    request = {"step_id": "a", "argv": ["true"], "needs": [need], "folder": "/f"}
    assert heard == [{"verb": "run", "request": request, "session": 7}]


def test_ask_raises_the_error_that_was_told(tmp_path: Path) -> None:
    problem = Problem("conflict", "stale_lease", "no", "look", {"version": 1})
    with (
        serving(tmp_path / "s", lambda _line: Answer(error=problem)) as guard,
        pytest.raises(Conflict) as caught,
    ):
        guard.release(protocol.ResourceAt("space", "SDM", "/a", 0))
    assert (caught.value.code, caught.value.remedy) == ("stale_lease", "look")
    assert caught.value.fields == {"version": 1}


def test_ask_says_that_the_process_is_down(tmp_path: Path) -> None:
    guard = SocketGuard(tmp_path / "none")
    with pytest.raises(GuardDown):
        guard.leases()


def test_ask_connects_again_to_the_next_process(tmp_path: Path) -> None:
    path = tmp_path / "s"
    guard = SocketGuard(path)
    for number in range(3):
        with serving(path, lambda _line: Answer({"line": "x"})):
            assert guard.progress(str(number)) == "x"
            guard.close()
    with pytest.raises(GuardDown):
        guard.leases()


def test_ask_gives_up_when_there_is_no_answer(tmp_path: Path) -> None:
    go = threading.Event()

    def answer(_line: bytes) -> Answer:
        go.wait(guards.ANSWER_S)
        return Answer({"steps": []})

    with serving(tmp_path / "s", answer) as guard:
        with pytest.raises(GuardDown):
            guard._ask("steps", protocol.Nothing(), protocol.Steps, 0.05)
        go.set()
        assert guard.steps() == ()  # not the late answer to the question before


def test_requests_of_many_threads_do_not_wait_for_each_other(tmp_path: Path) -> None:
    together = threading.Barrier(10)

    def answer(line: bytes) -> Answer:
        together.wait(guards.ANSWER_S)
        return Answer({"line": json.loads(line)["request"]["step_id"]})

    with serving(tmp_path / "s", answer) as guard, ThreadPoolExecutor(10) as pool:
        names = [f"step-{number}" for number in range(10)]
        assert list(pool.map(guard.progress, names)) == names


def test_file_raises_the_error_of_the_operation_that_failed(tmp_path: Path) -> None:
    problem = Problem("not_found", "file_missing", "/d/a", "look")
    answer = Answer({"replies": [1], "problem": wire.to_json(problem)})
    with (
        serving(tmp_path / "s", lambda _line: answer) as guard,
        pytest.raises(Error) as caught,
    ):
        guard.file("d", "/d", [{"name": "stat", "path": "/d/a"}])
    assert caught.value.code == "file_missing"
