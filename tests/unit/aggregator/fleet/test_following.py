"""Mirrors follow the leader, and nobody follows who was overtaken."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import flask
import pytest
from werkzeug.test import Client

from aggregator import authority, db
from aggregator.fleet import following, founding, reach, roster, term
from node import wire
from node.http import client, face
from node.log import Secret
from node.model.fleet import AggregatorAddress, SealedFleet
from node.model.ids import Fingerprint
from tests.fakes.clock import FakeClock


def address(name: str) -> AggregatorAddress:
    return AggregatorAddress(name, f"{name}.lab", 7442, 7443, Fingerprint("f" * 64))


@dataclass(slots=True)
class Aggregator:
    """One of several of a fleet, on a disk of its own."""

    name: str
    folder: Path
    database: db.Database
    others: "dict[str, Aggregator]"
    changes: list[str] = field(default_factory=list)
    leadership: term.Leadership = field(init=False)

    def open(self) -> None:
        ca = authority.Authority(self.folder, FakeClock())
        self.leadership = term.Leadership(self.database, ca, self.folder)

    def leader(self) -> following.Leader:
        return following.Leader(
            self.database,
            self.leadership,
            address(self.name),
            lambda: self.changes.append("follower"),
        )

    def follower(self) -> following.Follower:
        return following.Follower(
            self.database,
            self.leadership,
            address(self.name),
            self.ask,
            lambda: self.changes.append("copy"),
        )

    def ask(
        self, other: AggregatorAddress, request: following.Follow
    ) -> following.Followed:
        """Ask another one, through the wire's own form."""
        if other.name not in self.others:
            raise client.NodeUnreachable(f"{other.name} is off")
        sent = wire.decode(following.Follow, wire.encode(request))
        reply = self.others[other.name].leader().follow(sent)
        return wire.decode(following.Followed, wire.encode(reply))


class Door:
    """A node that gives out the copy it keeps."""

    def __init__(self, sealed: SealedFleet) -> None:
        self._sealed = sealed

    def sealed_show(self) -> SealedFleet:
        return self._sealed

    admission_show = admit = NotImplemented


@dataclass(slots=True)
class Pair:
    leads: Aggregator
    mirrors: Aggregator


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    others: dict[str, Aggregator] = {}
    for name in ("a1", "a2"):
        folder = tmp_path / name
        folder.mkdir()
        database = db.Database(db.sqlite_url(folder / "a.db"))
        others[name] = Aggregator(name, folder, database, others)
    first, second = others.values()
    key = founding.init(first.folder, first.database, FakeClock())
    roster.Roster(first.database).keep(address("a1"))
    first.database.records("member").put("m1", {"name": "n1"})
    first.open()
    first.leadership.seal_changes()
    _rebuild(second, first.leadership.sealed(), key)
    second.open()
    yield Pair(first, second)
    for each in others.values():
        each.database.close()


def _rebuild(one: Aggregator, sealed: SealedFleet, key: Secret) -> None:
    door: reach.Doorstep = Door(sealed)
    founding.rebuild(one.folder, one.database, door, key, is_mirror=True)


def _members(one: Aggregator) -> set[str]:
    return {record.id for record in one.database.records("member").list()}


def _names(one: Aggregator) -> list[str]:
    return [each.name for each in roster.Roster(one.database).list()]


def test_follow_makes_a_mirror_known_once(pair: Pair) -> None:
    assert pair.mirrors.follower().follow() == "follows a1"
    assert pair.mirrors.follower().follow() == "follows a1"
    assert _names(pair.leads) == ["a1", "a2"]
    assert pair.leads.changes == ["follower"]


def test_follow_takes_what_the_leader_added_and_dropped(pair: Pair) -> None:
    records = pair.leads.database.records("member")
    records.put("m2", {"name": "n2"})
    records.delete("m1")
    pair.mirrors.follower().follow()
    pair.leads.leadership.seal_changes()
    pair.mirrors.follower().follow()
    assert _members(pair.mirrors) == {"m2"}
    assert _names(pair.mirrors) == ["a1", "a2"]
    assert pair.mirrors.leadership.mark() == pair.leads.leadership.mark()
    assert pair.mirrors.leadership.sealed() == pair.leads.leadership.sealed()


def test_follow_changes_nothing_when_the_copy_is_the_same(pair: Pair) -> None:
    pair.mirrors.follower().follow()
    assert pair.mirrors.changes == []


def test_mirror_can_be_promoted_and_the_old_leader_follows(pair: Pair) -> None:
    pair.mirrors.follower().follow()
    pair.leads.leadership.seal_changes()
    pair.mirrors.follower().follow()
    assert pair.mirrors.leadership.promote() == 2
    pair.leads.leadership.observe(2)
    assert pair.leads.follower().follow() == "follows a2"
    assert pair.leads.leadership.mark() == pair.mirrors.leadership.mark()
    assert not pair.leads.leadership.is_leading


def test_mirror_seals_with_a_recovery_key_that_changed_later(pair: Pair) -> None:
    pair.leads.leadership.change_recovery_key()
    pair.mirrors.follower().follow()
    ours = pair.mirrors.leadership.sealing_key()
    assert ours == pair.leads.leadership.sealing_key()


def test_follow_refuses_a_leader_that_was_overtaken(pair: Pair) -> None:
    pair.mirrors.leadership.observe(7)
    pair.leads.database.records("member").put("m2", {"name": "n2"})
    pair.leads.leadership.seal_changes()
    assert "term 1" in pair.mirrors.follower().follow()
    assert _members(pair.mirrors) == {"m1"}


def test_follow_says_when_nobody_leads(pair: Pair) -> None:
    pair.leads.leadership.observe(7)
    assert pair.mirrors.follower().follow().startswith("follows nobody: a1")


def test_follow_says_when_nobody_answers(pair: Pair) -> None:
    del pair.mirrors.others["a1"]
    assert pair.mirrors.follower().follow() == "follows nobody: a1: a1 is off"


@pytest.mark.parametrize(
    ("role", "subject", "status"),
    [
        pytest.param("aggregator", "a2", 200, id="a-mirror"),
        pytest.param("aggregator", "a3", 403, id="for-another"),
        pytest.param("node", "a2", 403, id="a-node"),
        pytest.param("", "", 403, id="nobody"),
        pytest.param("aggregator", "a1", 403, id="the-leader"),
    ],
)
def test_blueprint_serves_aggregators_for_themselves(
    pair: Pair, role: str, subject: str, status: int
) -> None:
    name = "a1" if subject == "a1" else "a2"
    served: flask.Flask = face.create_app(
        "feed",
        (following.blueprint(pair.leads.leader().follow),),
        lambda verb, path: None,
    )
    reply = served.test_client().post(
        following.FOLLOW_PATH,
        data=wire.encode(following.Follow(address(name), 0, 0)),
        content_type="application/json",
        headers={"X-Skerry-Role": role, "X-Skerry-Subject": subject},
    )
    assert reply.status_code == status


@pytest.mark.parametrize(
    ("role", "said", "heard"),
    [
        pytest.param("node", "7", [7], id="a-node"),
        pytest.param("aggregator", "7", [], id="an-aggregator"),
        pytest.param("node", "", [], id="silent"),
        pytest.param("node", "-7", [], id="no-number"),
        pytest.param("node", "9" * 10, [], id="absurd"),
    ],
)
def test_listening_hears_nodes_only(role: str, said: str, heard: list[int]) -> None:
    terms: list[int] = []
    feed = face.create_app("feed", (), lambda verb, path: None)
    headers = {"X-Skerry-Role": role, "X-Skerry-Term": said}
    client = Client(following.listening(feed, terms.append))
    client.post("/v1/feed/delta", headers=headers)
    assert terms == heard
