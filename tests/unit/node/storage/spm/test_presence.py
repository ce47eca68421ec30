"""Presence: slots, and who is silent for how long."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from node.model.ids import NodeId
from node.model.storage import Liveness, PoolMember
from node.storage.domains.host_ids import HostRecord
from node.storage.spm import presence
from node.storage.spm.presence import Presence, Seen
from node.system import leases
from node.system.leases import Host
from tests.fakes.guard import LocalFiles

NODE = NodeId("11111111-2222-4333-8444-000000000001")


@given(
    some.integers(0, 2**62), some.integers(-1, 10), some.booleans(), some.integers(0)
)
def test_write_is_read_back(
    counter: int, priority: int, hears_leader: bool, version: int
) -> None:
    said = Presence(NODE, counter, priority, hears_leader, version % 2**63)
    slot = presence.write(said)
    assert len(slot) == presence.SLOT_BYTES
    assert presence.parse(slot) == said


@pytest.mark.parametrize(
    "slot",
    [
        pytest.param(bytes(4096), id="empty"),
        pytest.param(presence.write(Presence(NODE, 1))[:512] + b"x" * 3584, id="after"),
        pytest.param(b"x" + presence.write(Presence(NODE, 1))[1:], id="torn"),
    ],
)
def test_parse_believes_nothing_that_is_not_whole(slot: bytes) -> None:
    assert presence.parse(slot) is None


def test_publish_counts_on_over_restarts(tmp_path: Path) -> None:
    path = tmp_path / "presence"
    path.write_bytes(bytes(presence.AREA_BYTES))
    files = LocalFiles(str(tmp_path))
    for counter in (1, 2, 3):
        said = presence.publish(files, str(path), 250, Presence(NODE, 0))
        assert said.counter == counter
    presence.publish(files, str(path), 2, Presence(NODE, 0, asks=9))
    found = presence.read(files, str(path), [1, 250])
    assert {key: each.counter for key, each in found.items()} == {2: 1, 250: 3}
    assert found[2].asks == 9
    assert presence.read(files, str(path), []) == {}


def test_follow_counts_silence_from_the_last_change() -> None:
    first = presence.follow({}, {1: Presence(NODE, 1), 2: Presence(NODE, 5)}, 100.0)
    later = presence.follow(first, {1: Presence(NODE, 1), 2: Presence(NODE, 6)}, 160.0)
    assert {key: each.changed_at for key, each in later.items()} == {1: 100.0, 2: 160.0}
    assert presence.follow(later, {}, 170.0) == {}


def test_members_are_all_who_have_a_host_id() -> None:
    hosts = (
        Host(1, 3, leases.Liveness.LIVE, 9),
        Host(2, 1, leases.Liveness.DEAD, 9),
    )
    records = (
        HostRecord(1, NODE, 3, 9),
        HostRecord(2, "b", 1, 9),
        HostRecord(3, "c", 1, 0),
        HostRecord(4, "", 0, 0),
    )
    said = Presence(NODE, 4, priority=7, hears_leader=True)
    seen = {1: Seen(said, 90.0), 2: Seen(said, 90.0)}
    one, two, three = presence.members(seen, hosts, records, 100.0)
    assert one == PoolMember(NODE, 1, Liveness.LIVE, True, 7, 10.0)
    assert (two.node_id, two.liveness, two.hears_leader) == ("b", Liveness.DEAD, False)
    assert two.silence_s > 1e6  # the slot is still of who had the host id before
    assert (three.node_id, three.liveness) == ("c", Liveness.FREE)
