"""Pools are looked after: managers elected, nodes joined, pools adopted."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from aggregator.access.defaults import ensure_defaults
from aggregator.control import pool_keeper
from aggregator.control.pool_keeper import PoolKeeper
from aggregator.federation import apply
from aggregator.policies.spm import Clock
from node import clock as clocks
from node.errors import Failed
from node.model import storage_requests as bodies
from node.model import storage_verbs as verbs
from node.model.job import JobState
from node.model.storage import PoolMark
from tests.fakes import fleet
from tests.unit.aggregator.control.ordering import ONE, ORIGIN, TWO, Parts

POOL = fleet.pool_id()
MARK = PoolMark(1, 1)


class Kept(Parts):
    def open(self) -> None:
        super().open()
        self.is_leading = True
        ensure_defaults(self.database)
        self.keeper = PoolKeeper(
            self.orders.book,
            self.orders.storage,
            self.orders.pools,
            self.viewer,
            self.events,
            self.clock,
            lambda: self.is_leading,
        )


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Kept]:
    made = Kept(tmp_path)
    yield made
    made.database.close()


def contend(parts: Kept) -> None:
    """Let both nodes be in a pool that nobody manages."""
    for number in (1, 2):
        parts.say(number, fleet.pool(number, members=(1, 2)))
        parts.say(number, fleet.storage_domain(number))


def test_cycle_adopts_a_pool_and_elects_its_manager(parts: Kept) -> None:
    contend(parts)
    parts.keeper.cycle()
    (pool,) = parts.orders.pools.list()
    assert (pool.pool_id, pool.name) == (POOL, "pool1")
    assert parts.nodes[ONE].asked == ["spm_become"]
    assert parts.codes()[-2:] == ["pool_adopted", "spm_elected"]
    (order,) = parts.orders.list()
    assert (order.verb, order.user, order.name) == ("spm_become", "", "pool1")


def test_cycle_elects_for_a_pool_that_is_of_no_data_center(parts: Kept) -> None:
    contend(parts)
    default = parts.orders.pools.data_center_of(ONE)
    own = parts.orders.pools.ensure(default)
    parts.orders.pools.found(own.pool_id, fleet.domain_id(9))
    parts.keeper.cycle()
    assert [each.pool_id for each in parts.orders.pools.list()] == [own.pool_id]
    assert parts.nodes[ONE].asked == ["spm_become"]


def test_cycle_asks_once_while_an_election_runs(parts: Kept) -> None:
    contend(parts)
    parts.keeper.cycle()
    parts.clock.advance(30.0)
    parts.keeper.cycle()
    assert parts.nodes[ONE].asked == ["spm_become"]


def test_cycle_takes_another_node_after_a_refusal(parts: Kept) -> None:
    contend(parts)
    parts.nodes[ONE].refusal = Failed("the lease cannot be had")
    parts.keeper.cycle()
    parts.keeper.cycle()
    assert parts.nodes[TWO].asked == ["spm_become"]


def test_cycle_remembers_elections_over_a_restart(parts: Kept) -> None:
    contend(parts)
    parts.keeper.cycle()
    parts.restart()
    parts.keeper.cycle()
    assert parts.nodes[ONE].asked == ["spm_become"]
    assert parts.nodes[TWO].asked == []


def test_cycle_lets_nodes_join(parts: Kept) -> None:
    parts.say(1, fleet.pool(1, mark=MARK), fleet.storage_domain(1, mark=MARK))
    parts.keeper.cycle()
    parts.keeper.cycle()
    assert parts.nodes[TWO].asked == ["pool_connect"]
    assert parts.nodes[ONE].asked == []
    (_, object_id, request) = parts.nodes[TWO].requests[0]
    assert (object_id, request.name) == (POOL, "pool1")


def test_cycle_asks_who_could_not_join_again_after_a_rest(parts: Kept) -> None:
    parts.say(1, fleet.pool(1, mark=MARK), fleet.storage_domain(1, mark=MARK))
    parts.nodes[TWO].refusal = Failed("it cannot be mounted")
    for seconds in (0.0, 60.0, 70.0):
        parts.clock.advance(seconds)
        parts.keeper.cycle()
    assert parts.nodes[TWO].asked == ["pool_connect"] * 2


def test_cycle_leaves_who_was_disconnected_alone(parts: Kept) -> None:
    parts.say(1, fleet.pool(1, mark=MARK), fleet.storage_domain(1, mark=MARK))
    parts.say(2, fleet.pool(2, holder=1))
    parts.nodes[TWO].job_state = JobState.DONE
    parts.orders.act_on_storage(
        verbs.POOL_DISCONNECT, POOL, bodies.ActOnPool(), ORIGIN, TWO
    )
    gone = [fleet.gone(fleet.pool(2))]
    parts.viewer.view, _ = apply.set_documents(parts.viewer.view, TWO, gone)
    parts.clock.advance(3600.0)
    parts.keeper.cycle()
    assert parts.nodes[TWO].asked == ["pool_disconnect"]


def test_cycle_does_nothing_unless_it_leads(parts: Kept) -> None:
    contend(parts)
    parts.is_leading = False
    parts.keeper.cycle()
    assert parts.orders.list() == ()


def test_cycle_says_one_sentence_when_it_changes(
    parts: Kept, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger=pool_keeper.__name__)
    parts.say(1, fleet.pool(1, mark=MARK), fleet.storage_domain(1, mark=MARK))
    parts.say(2, fleet.pool(2, holder=1), fleet.storage_domain(2))
    parts.keeper.cycle()
    parts.keeper.cycle()
    said = [record.getMessage() for record in caplog.records]
    assert said == ["pools: pool1: stay n1"]


def test_start_runs_cycles_until_it_is_stopped(parts: Kept) -> None:
    parts.keeper.start()
    parts.keeper.stop()


def test_cycle_does_not_ask_who_just_left(parts: Kept) -> None:
    for node in parts.nodes.values():
        node.job_state = JobState.DONE
    parts.say(1, fleet.pool(1, mark=MARK), fleet.storage_domain(1, mark=MARK))
    parts.say(2, fleet.pool(2, holder=1), fleet.storage_domain(2))
    parts.orders.storage.elect(POOL, TWO, ORIGIN)
    contend(parts)  # it could not keep what it was given
    parts.keeper.cycle()
    assert parts.nodes[ONE].asked == ["spm_leave"]
    assert parts.nodes[TWO].asked == ["spm_become"] * 2


def test_elections_forget_what_failed_long_ago(parts: Kept) -> None:
    contend(parts)
    parts.nodes[ONE].refusal = Failed("the lease cannot be had")
    parts.keeper.cycle()
    parts.clock.advance(121.0)
    at = parts.clock.now()
    now = Clock(at, clocks.rfc3339(at), parts.clock.monotonic())
    entries = parts.orders.book.entries({"spm_become"})
    assert [each.order.state for each in entries] == [JobState.FAILED]
    assert pool_keeper.elections(entries, now)[POOL].failed_at == {}
