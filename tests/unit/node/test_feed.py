"""The feed: what is pushed, when, and what becomes of each reply."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from node import feed as feeds
from node import wire
from node.clock import Clock, SystemClock
from node.errors import Denied, Unavailable
from node.feed import Feed
from node.model.event import Event
from node.model.feed import Delta, DeltaOutcome, DeltaReply, Document, Tombstone
from node.model.fleet import AggregatorAddress
from node.model.ids import Fingerprint, NodeId
from node.model.stats import NodeStats, Stats
from node.store import Store
from tests.fakes.clock import FakeClock

_LONG_S = 30.0  # nothing here takes so long unless it is broken
_A1 = AggregatorAddress("a1", "192.0.2.1", 7442, 7443, Fingerprint("f"))
_A2 = AggregatorAddress("a2", "192.0.2.2", 7442, 7443, Fingerprint("f"))


class Unreachable(Unavailable):
    code = "unreachable"
    remedy = "Bring it back."


class NotYet(Denied):
    code = "not_a_member"
    remedy = "Wait."


class FakeAggregator:
    """Keeps what it is told, by the rules of DESIGN section 4."""

    def __init__(self) -> None:
        self._news = threading.Condition()
        self.deltas: list[Delta] = []
        self.replies: list[DeltaReply] = []
        self.documents: dict[str, Any] = {}
        self.events: dict[int, str] = {}
        self.epoch = ""
        self.rev = 0
        self.errors: list[Exception] = []
        self.closed = 0

    def lose_memory(self) -> None:
        with self._news:
            self.documents, self.events, self.epoch, self.rev = {}, {}, "", 0

    def connect(self, address: AggregatorAddress) -> "FakeAggregator":
        return self

    def close(self) -> None:
        with self._news:
            self.closed += 1
            self._news.notify_all()

    def send(self, text: bytes) -> DeltaReply:
        delta = wire.decode(Delta, text)
        with self._news:
            self.deltas.append(delta)
            if self.errors:
                self._news.notify_all()
                raise self.errors.pop(0)
            is_known = delta.epoch == self.epoch and delta.from_rev <= self.rev
            if delta.from_rev and not is_known:
                self._news.notify_all()
                return DeltaReply(DeltaOutcome.RESYNC, self.rev)
            if delta.from_rev == 0 and delta.part == 1:
                self.documents = {}
            self.documents.update({each.id: each.body for each in delta.changed})
            for stone in delta.gone:
                self.documents.pop(stone.id, None)
            self.events.update({each.number: each.code for each in delta.events})
            self.epoch, self.rev = delta.epoch, delta.to_rev
            self._news.notify_all()
            return DeltaReply(
                DeltaOutcome.OK,
                delta.to_rev,
                events_acknowledged=max(self.events, default=0),
            )

    def note_reply(self, address: AggregatorAddress, reply: DeltaReply) -> None:
        with self._news:
            self.replies.append(reply)
            self._news.notify_all()

    def wait_for(self, what: Callable[[], bool]) -> None:
        with self._news:
            assert self._news.wait_for(what, _LONG_S)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "node.db", SystemClock(), NodeId("n"), "boot")
    yield store
    store.close()


@pytest.fixture
def aggregator() -> FakeAggregator:
    return FakeAggregator()


class Links:
    """A feed to one fake aggregator, and its list of addresses."""

    def __init__(
        self,
        store: Store,
        aggregator: FakeAggregator,
        every_s: float,
        clock: Clock | None = None,
    ) -> None:
        self.addresses: tuple[AggregatorAddress, ...] = (_A1,)
        self.stats: Stats | None = None
        self.feed = Feed(
            store,
            clock or SystemClock(),
            lambda: self.addresses,
            aggregator.connect,
            lambda: self.stats,
            aggregator.note_reply,
            every_s,
            jitter=lambda: 0.0,
        )


@pytest.fixture
def links(store: Store, aggregator: FakeAggregator) -> Iterator[Links]:
    """Push only when something happens: the interval is too long to matter."""
    links = Links(store, aggregator, _LONG_S)
    yield links
    links.feed.stop(_LONG_S)


def put(store: Store, name: str, value: int = 0) -> None:
    with store.change() as change:
        change.put("vm", name, {"value": value})


def test_push_tells_everything_first(
    store: Store, aggregator: FakeAggregator, links: Links
) -> None:
    put(store, "a", 1)
    links.feed.start()
    aggregator.wait_for(lambda: bool(aggregator.replies))
    delta = aggregator.deltas[0]
    assert (delta.from_rev, delta.to_rev, delta.epoch) == (0, 1, store.epoch)
    assert aggregator.documents == {"a": {"value": 1}}


def test_push_follows_a_change_with_what_is_new(
    store: Store, aggregator: FakeAggregator, links: Links
) -> None:
    put(store, "a", 1)
    links.feed.start()
    aggregator.wait_for(lambda: aggregator.rev == 1)
    with store.change() as change:
        change.delete("vm", "a")
        change.put("vm", "b", {"value": 2})
    aggregator.wait_for(lambda: aggregator.rev == 2)
    assert aggregator.deltas[-1].from_rev == 1
    assert aggregator.documents == {"b": {"value": 2}}


def test_push_coalesces_changes_that_are_close_together(
    store: Store, aggregator: FakeAggregator, links: Links
) -> None:
    put(store, "a")
    links.feed.start()
    aggregator.wait_for(lambda: aggregator.rev == 1)
    for value in range(1, 6):
        put(store, "a", value)
    aggregator.wait_for(lambda: aggregator.rev == 6)
    assert len(aggregator.deltas) < 4


def test_push_repeats_itself_when_nothing_changes(
    store: Store, aggregator: FakeAggregator
) -> None:
    put(store, "a")
    links = Links(store, aggregator, 0.02)
    links.feed.start()
    aggregator.wait_for(lambda: len(aggregator.replies) >= 3)
    links.feed.stop(_LONG_S)
    last = aggregator.deltas[-1]
    assert (last.from_rev, last.to_rev, last.changed) == (1, 1, ())


def test_push_carries_statistics_once(
    store: Store, aggregator: FakeAggregator, links: Links
) -> None:
    links.stats = Stats("2026-11-22T08:00:00.000Z", NodeStats(cpu_percent=5.0))
    links.feed.start()
    aggregator.wait_for(lambda: len(aggregator.replies) >= 1)
    links.feed.poke()
    aggregator.wait_for(lambda: len(aggregator.replies) >= 2)
    assert [delta.stats for delta in aggregator.deltas] == [links.stats, None]


def test_push_tells_everything_when_told_to_resync(
    store: Store, aggregator: FakeAggregator, links: Links
) -> None:
    put(store, "a", 1)
    links.feed.start()
    aggregator.wait_for(lambda: aggregator.rev == 1)
    aggregator.lose_memory()
    put(store, "b", 2)
    aggregator.wait_for(lambda: aggregator.rev == 2)
    assert aggregator.documents == {"a": {"value": 1}, "b": {"value": 2}}
    assert [delta.from_rev for delta in aggregator.deltas] == [0, 1, 0]


def test_events_are_pushed_until_they_are_acknowledged(
    store: Store, aggregator: FakeAggregator, links: Links
) -> None:
    aggregator.errors.append(Unreachable("no route"))
    with store.change() as change:
        change.event("node_started", node="h1")
    links.feed.start()
    aggregator.wait_for(lambda: bool(aggregator.replies))
    links.feed.poke()
    aggregator.wait_for(lambda: len(aggregator.replies) >= 2)
    assert [len(delta.events) for delta in aggregator.deltas] == [1, 1, 0]


def test_events_are_sent_again_when_the_aggregator_lost_them(
    store: Store, aggregator: FakeAggregator, links: Links
) -> None:
    with store.change() as change:
        change.event("node_started", node="h1")
    links.feed.start()
    aggregator.wait_for(lambda: bool(aggregator.replies))
    links.feed.stop(_LONG_S)
    aggregator.lose_memory()
    links.feed.start()
    aggregator.wait_for(lambda: len(aggregator.replies) >= 2)
    links.feed.poke()
    aggregator.wait_for(lambda: bool(aggregator.events))


def test_events_of_the_last_boot_are_acknowledged_by_the_reply(
    tmp_path: Path, store: Store, aggregator: FakeAggregator, links: Links
) -> None:
    before = Store(tmp_path / "node.db", SystemClock(), NodeId("n"), "boot-0")
    with before.change() as change:
        change.event("node_started", node="h1")
    before.close()
    links.feed.start()
    aggregator.wait_for(lambda: bool(aggregator.events))
    links.feed.stop(_LONG_S)
    assert store.pending_events("a1", 9) == ()


def test_status_tells_how_pushing_goes(
    store: Store,
    aggregator: FakeAggregator,
    links: Links,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "node.feed")
    aggregator.errors += [Unreachable("no route"), Unreachable("no route")]
    links.feed.start()
    aggregator.wait_for(lambda: len(aggregator.deltas) >= 2)
    broken = links.feed.status()[0]
    aggregator.wait_for(lambda: bool(aggregator.replies))
    links.feed.poke()
    aggregator.wait_for(lambda: len(aggregator.replies) >= 2)
    well = links.feed.status()[0]
    assert broken.reason is not None
    assert (broken.is_reached, broken.reason.fields["detail"]) == (False, "no route")
    assert (well.is_reached, well.reason) == (True, None)
    assert well.last_push_at is not None
    sentences = [record.getMessage() for record in caplog.records]
    assert sentences == [
        "aggregator a1 cannot be reached: no route",
        "aggregator a1 at 192.0.2.1 is reached",
    ]


def test_push_is_not_a_failure_when_it_is_asked_to_wait(
    store: Store, aggregator: FakeAggregator, links: Links
) -> None:
    aggregator.errors.append(Unreachable("busy", retry_after_s=0.05))
    links.feed.start()
    aggregator.wait_for(lambda: bool(aggregator.replies))
    assert links.feed.status()[0].reason is None


@pytest.mark.parametrize(
    ("age_s", "expected"),
    [
        pytest.param(0.0, None, id="just-admitted"),
        pytest.param(60.0, "not a member", id="later"),
    ],
)
def test_refusal_is_no_news_right_after_admission(
    store: Store,
    aggregator: FakeAggregator,
    caplog: pytest.LogCaptureFixture,
    age_s: float,
    expected: str | None,
) -> None:
    links = Links(store, aggregator, _LONG_S, clock := FakeClock())
    links.feed.start()
    aggregator.wait_for(lambda: bool(aggregator.replies))
    clock.advance(age_s)
    aggregator.errors.append(NotYet("not a member"))
    links.feed.poke()
    aggregator.wait_for(lambda: not aggregator.errors)
    links.feed.stop(_LONG_S)
    said = [each for each in caplog.records if each.levelname == "WARNING"]
    assert [each.getMessage() for each in said] == (
        [f"aggregator a1 cannot be reached: {expected}"] if expected else []
    )


def test_push_goes_on_after_a_bug(
    store: Store,
    aggregator: FakeAggregator,
    links: Links,
    caplog: pytest.LogCaptureFixture,
) -> None:
    aggregator.errors.append(KeyError("oops"))
    links.feed.start()
    aggregator.wait_for(lambda: bool(aggregator.replies))
    assert "Traceback" in caplog.text


def test_links_come_and_go(
    store: Store, aggregator: FakeAggregator, links: Links
) -> None:
    links.addresses = ()
    links.feed.start()
    assert links.feed.status() == ()
    links.addresses = (_A1, _A2)
    links.feed.poke()
    aggregator.wait_for(lambda: len(aggregator.replies) >= 2)
    links.addresses = (_A2,)
    links.feed.poke()
    assert [link.name for link in links.feed.status()] == ["a2"]
    aggregator.wait_for(lambda: aggregator.closed == 1)


def make_delta(sizes: list[int], gone: int = 0, events: int = 0) -> Delta:
    return Delta(
        "epoch",
        0,
        1000,
        "boot",
        tuple(
            Document("vm", str(number), number, {"text": "x" * size})
            for number, size in enumerate(sizes)
        ),
        tuple(Tombstone("vm", f"g{number}", number) for number in range(gone)),
        Stats("now", NodeStats()),
        tuple(
            Event(NodeId("n"), "boot", number, "now", "node_up")
            for number in range(events)
        ),
    )


@given(
    sizes=some.lists(some.integers(0, 3000), max_size=30),
    gone=some.integers(0, 30),
    events=some.integers(0, 10),
)
def test_delta_parts_together_are_the_delta(
    sizes: list[int], gone: int, events: int
) -> None:
    delta = make_delta(sizes, gone, events)
    parts = [wire.decode(Delta, text) for text in feeds.delta_parts(delta, 4000)]
    assert [part.part for part in parts] == list(range(1, len(parts) + 1))
    assert {part.parts for part in parts} == {len(parts)}
    assert {(part.epoch, part.from_rev, part.to_rev) for part in parts} == {
        ("epoch", 0, 1000)
    }
    assert sum((part.changed for part in parts), ()) == delta.changed
    assert sum((part.gone for part in parts), ()) == delta.gone
    assert (parts[-1].stats, parts[-1].events) == (delta.stats, delta.events)
    assert all(not part.events and part.stats is None for part in parts[:-1])


@given(sizes=some.lists(some.integers(0, 3000), max_size=30))
def test_delta_parts_are_short_enough(sizes: list[int]) -> None:
    assert all(len(text) <= 4000 for text in feeds.delta_parts(make_delta(sizes), 4000))


def test_delta_parts_sends_a_document_that_is_too_large_alone() -> None:
    texts = feeds.delta_parts(make_delta([10, 9000, 10]), 4000)
    assert [len(json.loads(text)["changed"]) for text in texts] == [1, 1, 1]


@pytest.mark.parametrize(
    ("failures", "jitter", "retry_after_s", "expected_s"),
    [
        (0, 1.0, 0.0, 0.25),
        (0, 0.0, 0.0, 0.125),
        (3, 1.0, 0.0, 2.0),
        (50, 1.0, 0.0, 5.0),
        (0, 0.0, 3.0, 3.0),
        (0, 1.0, 3.0, 4.5),
        (0, 0.0, 86400.0, 60.0),
    ],
    ids=["first", "jitter", "fourth", "longest", "patience", "spread", "too-patient"],
)
def test_back_off_grows_and_honours_patience(
    failures: int, jitter: float, retry_after_s: float, expected_s: float
) -> None:
    assert feeds.back_off_s(failures, jitter, retry_after_s) == expected_s
