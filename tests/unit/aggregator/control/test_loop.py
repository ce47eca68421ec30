"""How orders are seen through."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from aggregator.control import actions, loop, order
from aggregator.control.loop import Ask, Finish, Follow, GiveUp, Send, Step
from aggregator.control.order import Entry
from aggregator.federation import apply
from aggregator.federation.view import View
from node import clock as clocks
from node.errors import NotFound
from node.model.ids import PoolId
from node.model.job import ErrorReport, Job, JobState
from node.model.requests import StopManner
from node.model.vm import Vm
from tests.fakes import fleet
from tests.unit.aggregator.control.ordering import (
    ONE,
    ORIGIN,
    TWO,
    Parts,
    say,
    silence,
    view_of,
)

WEB = fleet.vm_id(1)
ORDER = fleet.job_id(1)
NOW = clocks.parse_rfc3339(fleet.AT)
VIEW = view_of(1, 2)
START = actions.StartVm(ORDER, ONE, WEB, ORIGIN.correlation_id)
CREATE = actions.CreateVm(
    ORDER, TWO, fleet.vm_id(2), ORIGIN.correlation_id, fleet.spec(2)
)
QUEUED = order.record(START, "web", ORIGIN, fleet.AT)
CREATING = order.record(CREATE, "vm2", ORIGIN, fleet.AT)
RUNNING = order.follow(QUEUED, fleet.job(1), fleet.AT)
ENDED = fleet.job(1, JobState.DONE, progress_percent=100)
HALF = fleet.job(1, progress_percent=50, step="booting")
WITHOUT_ONE = apply.remove_node(VIEW, ONE)


def _of_pool(pool_id: PoolId) -> Vm:
    return fleet.vm(2, spec=fleet.spec(2, pool_id=pool_id))


@pytest.mark.parametrize(
    ("entry", "view", "age_s", "expected"),
    [
        pytest.param(QUEUED, VIEW, 1, Send(ORDER), id="not-sent"),
        pytest.param(QUEUED, silence(VIEW, 1), 1, None, id="node-is-silent"),
        pytest.param(
            QUEUED, say(VIEW, 1, HALF), 1, Follow(ORDER, HALF), id="job-is-seen"
        ),
        pytest.param(RUNNING, VIEW, 1, None, id="job-is-not-seen-yet"),
        pytest.param(RUNNING, VIEW, 11, Ask(ORDER), id="job-is-not-seen-for-long"),
        pytest.param(
            RUNNING, say(VIEW, 1, fleet.job(1)), 60, None, id="job-has-not-moved"
        ),
        pytest.param(
            RUNNING, say(VIEW, 1, HALF), 1, Follow(ORDER, HALF), id="job-has-moved"
        ),
        pytest.param(
            RUNNING, say(VIEW, 1, ENDED), 1, Follow(ORDER, ENDED), id="job-has-ended"
        ),
        pytest.param(RUNNING, silence(VIEW, 1), 9999, None, id="running-waits"),
        pytest.param(CREATING, silence(VIEW, 2), 9999, None, id="creation-waits"),
        pytest.param(
            CREATING,
            say(VIEW, 2, fleet.vm(2)),
            1,
            Finish(ORDER),
            id="made-says-the-view",
        ),
        pytest.param(
            CREATING,
            say(VIEW, 1, fleet.vm(2)),
            1,
            Send(ORDER),
            id="made-elsewhere-is-not-ours",
        ),
        pytest.param(
            CREATING,
            say(VIEW, 1, _of_pool(fleet.pool_id())),
            1,
            Finish(ORDER),
            id="made-on-a-pool-whoever-says-it",
        ),
        pytest.param(
            CREATING,
            say(VIEW, 1, _of_pool(fleet.local_pool_id(1))),
            1,
            Send(ORDER),
            id="made-on-another-node-s-own-disk",
        ),
    ],
)
def test_decide_follows_the_table(
    entry: Entry, view: View, age_s: int, expected: Step | None
) -> None:
    now = NOW + timedelta(seconds=age_s)
    steps = loop.decide([entry], view, now, ())
    assert steps == (() if expected is None else (expected,))


@pytest.mark.parametrize(
    ("entry", "view"),
    [
        pytest.param(QUEUED, silence(VIEW, 1), id="silent-node"),
        pytest.param(QUEUED, VIEW, id="after-a-long-stop-of-ours"),
    ],
)
def test_decide_gives_up_what_nobody_waits_for(entry: Entry, view: View) -> None:
    (step,) = loop.decide([entry], view, NOW + timedelta(seconds=601), ())
    assert isinstance(step, GiveUp)
    assert step.error.code == "order_expired"


@pytest.mark.parametrize("is_busy", [False, True], ids=["idle", "busy"])
@pytest.mark.parametrize(
    ("entry", "view"),
    [
        pytest.param(QUEUED, WITHOUT_ONE, id="queued"),
        pytest.param(RUNNING, WITHOUT_ONE, id="running"),
        pytest.param(CREATING, apply.remove_node(VIEW, TWO), id="creating"),
    ],
)
def test_decide_gives_up_what_a_removed_node_was_to_do(
    entry: Entry, view: View, is_busy: bool
) -> None:
    (step,) = loop.decide([entry], view, NOW, {ORDER} if is_busy else ())
    assert isinstance(step, GiveUp)
    assert step.error.code == "order_node_removed"


@pytest.mark.parametrize(
    ("entry", "age_s"),
    [pytest.param(QUEUED, 1, id="send"), pytest.param(RUNNING, 60, id="ask")],
)
def test_decide_leaves_alone_what_is_under_way(entry: Entry, age_s: int) -> None:
    now = NOW + timedelta(seconds=age_s)
    assert loop.decide([entry], VIEW, now, {ORDER}) == ()


def test_decide_passes_over_a_job_that_it_cannot_read() -> None:
    odd = VIEW.jobs.set(ORDER, b'{"state": "dreaming"}')
    view = View(VIEW.revision, 0, VIEW.nodes, VIEW.vms, VIEW.vm_order, odd)
    assert loop.decide([QUEUED], view, NOW, ()) == (Send(ORDER),)


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    made = Parts(tmp_path)
    yield made
    made.database.close()


def test_cycle_follows_a_job_to_its_end(parts: Parts) -> None:
    started = parts.orders.start_vm(WEB, ORIGIN)
    job = _job(started.order_id, JobState.RUNNING, progress_percent=40, step="booting")
    parts.say(1, job)
    parts.loop.cycle()
    found = parts.orders.get(started.order_id)
    assert (found.progress_percent, found.step) == (40, "booting")
    parts.say(1, _job(started.order_id, JobState.DONE, ended_at=fleet.AT))
    parts.loop.cycle()
    found = parts.orders.get(started.order_id)
    assert (found.state, found.ended_at) == (JobState.DONE, fleet.AT)
    assert parts.loop.cycle() == ()


def test_cycle_reports_a_job_that_failed(parts: Parts) -> None:
    started = parts.orders.start_vm(WEB, ORIGIN)
    error = ErrorReport("failed", "vm_start_failed", "no memory")
    parts.say(1, _job(started.order_id, JobState.FAILED, error=error))
    parts.loop.cycle()
    found = parts.orders.get(started.order_id)
    assert (found.state, found.error) == (JobState.FAILED, error)
    assert parts.codes()[-1] == "action_failed"


def test_cycle_asks_for_a_job_that_the_view_does_not_show(parts: Parts) -> None:
    started = parts.orders.start_vm(WEB, ORIGIN)
    parts.nodes[ONE].jobs[started.order_id] = _job(started.order_id, JobState.DONE)
    parts.pass_time(11.0)
    assert parts.orders.get(started.order_id).state is JobState.DONE


def test_cycle_ends_an_order_whose_job_the_node_forgot(parts: Parts) -> None:
    started = parts.orders.start_vm(WEB, ORIGIN)
    parts.nodes[ONE].refusal = NotFound("there is no such job")
    parts.pass_time(11.0)
    assert parts.orders.get(started.order_id).state is JobState.FAILED


def test_cycle_does_not_hurry_a_silent_node(parts: Parts) -> None:
    parts.nodes[ONE].is_deaf = True
    parts.orders.start_vm(WEB, ORIGIN)
    for _ in range(10):
        parts.pass_time(1.0)
    assert parts.nodes[ONE].asked == ["vm_start"] * 3


def test_cycle_never_stops_a_vm_long_after_it_was_asked(parts: Parts) -> None:
    parts.nodes[ONE].is_deaf = True
    stopped = parts.orders.stop_vm(WEB, ORIGIN, manner=StopManner.FORCE)
    parts.nodes[ONE].is_deaf = False
    parts.restart()
    parts.pass_time(3600.0)
    assert parts.did() == {}
    found = parts.orders.get(stopped.order_id)
    assert found.error is not None
    assert found.error.code == "order_expired"


def test_cycle_says_one_sentence_when_it_changes(
    parts: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger=loop.__name__)
    parts.orders.start_vm(WEB, ORIGIN)
    parts.loop.cycle()
    parts.loop.cycle()
    assert [record.getMessage() for record in caplog.records] == ["orders: 1 running"]


def test_start_runs_cycles_until_it_is_stopped(parts: Parts) -> None:
    started = parts.orders.start_vm(WEB, ORIGIN)
    parts.say(1, _job(started.order_id, JobState.DONE))
    parts.loop.start()
    assert parts.orders.wait(started.order_id, 10.0).state is JobState.DONE
    parts.loop.stop()


def _job(order_id: str, state: JobState, **changes: Any) -> Job:
    return fleet.job(1, state, job_id=order_id, **changes)
