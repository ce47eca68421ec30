"""Two aggregators see the fleet; one leads, and every node knows which."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from aggregator.api.model import AdmitNode
from aggregator.cli.client import FleetClient
from node.errors import Conflict
from node.model.ids import NodeId
from node.model.vm import VmState
from tests.lab import fleet, waiting
from tests.lab.story import strangers
from tests.lab.story.conftest import Story

ANEW_TIMEOUT_S = 60.0  # it stops within 8 s and begins anew; others use the machine too
FOLLOW_TIMEOUT_S = 60.0  # a mirror looks every ten seconds, a node fetches every 30


@dataclass(slots=True)
class Two:
    """a1 leads, a2 mirrors."""

    story: Story
    second: fleet.Fleet
    mirror: FleetClient


@pytest.fixture
def two(story: Story, second_port: int) -> Iterator[Two]:
    story.fleet.wait_copies()
    second = fleet.Fleet(story.lab, second_port)
    second.wipe_aggregator("a2")
    second.rebuild("a2", "h1", story.fleet.recovery_key(), "--mirror")
    mirror = second.log_in("a2")
    second.wait_up(mirror, timeout_s=FOLLOW_TIMEOUT_S)
    both = Two(story, second, mirror)
    yield both
    if second.is_initialised("a2") and second.standing("a2")["is_leading"]:
        _wait_mirrors(both)
    second.wipe_aggregator("a2")
    if not story.client.status().is_leading:
        story.fleet.promote("a1")
        waiting.until("a1 leads again", lambda: story.client.status().is_leading)
    if "a2" in story.fleet.standing("a1")["aggregators"]:
        story.fleet.forget("a1", "a2")
    waiting.until("a1 alone", lambda: story.client.status().is_leading)


def _promote(two: Two) -> int:
    """Let a2 lead, and return its term when it sees all nodes."""
    before = two.mirror.status().term
    term = two.second.promote("a2")
    assert term == before + 1
    waiting.until(
        "a2 leads", lambda: two.mirror.status().is_leading, timeout_s=ANEW_TIMEOUT_S
    )
    two.second.wait_up(two.mirror, timeout_s=FOLLOW_TIMEOUT_S)
    return term


def _wait_mirrors(two: Two) -> None:
    """Wait until a1 has heard of the newer term from the nodes."""
    client = two.story.client
    waiting.until("a1 mirrors", lambda: not client.status().is_leading)


def test_both_see_the_same_and_the_same_change(two: Two) -> None:
    vm_id = two.story.make_vm("seen", "h1")
    waiting.until(
        "the VM seen by both",
        lambda: two.mirror.vm_show(vm_id).node == "h1",
    )
    ours, theirs = two.story.client.node_list(), two.mirror.node_list()
    assert [each.node_id for each in ours.nodes] == [
        each.node_id for each in theirs.nodes
    ]
    assert not two.mirror.status().is_leading


def test_mirror_commands_nobody(two: Two) -> None:
    vm_id = two.story.make_vm("still", "h1")
    waiting.until("the VM seen", lambda: two.mirror.vm_show(vm_id).node == "h1")
    with pytest.raises(Conflict) as caught:
        two.second.start_vm(two.mirror, vm_id)
    assert caught.value.code == "not_leading"
    assert two.story.state(vm_id) is VmState.DOWN


def test_mirror_learns_of_a_node_that_was_admitted_later(two: Two) -> None:
    story = two.story
    story.client.node_remove(NodeId(story.node_id("h3")), is_forced=False)
    waiting.until(
        "h3 gone from the mirror",
        lambda: "h3" not in {each.name for each in two.mirror.node_list().nodes},
        timeout_s=FOLLOW_TIMEOUT_S,
    )
    shown = story.fleet.node_json("h3", "fingerprint")["fingerprint"]
    address = story.lab.member("h3").address
    story.client.node_admit(AdmitNode(shown, address=address))
    two.second.wait_up(two.mirror, timeout_s=FOLLOW_TIMEOUT_S)


def test_promoted_aggregator_leads_and_the_old_one_mirrors(two: Two) -> None:
    story = two.story
    vm_id = story.make_vm("moved", "h2")
    term = _promote(two)
    _wait_mirrors(two)
    with pytest.raises(Conflict) as caught:
        story.fleet.start_vm(story.client, vm_id)
    assert caught.value.code == "not_leading"
    two.second.start_vm(two.mirror, vm_id)
    story.wait_state(vm_id, VmState.UP)  # as a1 sees it
    waiting.until(
        "a1 follows a2",
        lambda: story.client.status().term == term,
        timeout_s=FOLLOW_TIMEOUT_S,
    )


def test_nodes_follow_the_new_term_and_keep_its_copy(two: Two) -> None:
    term = _promote(two)
    two.second.wait_copies("a2")
    statuses = [two.story.fleet.node_status(h.name) for h in two.second.hosts()]
    assert {each.term for each in statuses} == {term}


def test_command_of_a_term_that_is_over_names_the_leader(
    two: Two, tmp_path: Path
) -> None:
    papers = strangers.borrow(two.story.fleet, "a1", tmp_path)
    mark = two.story.client.status()
    _promote(two)
    two.second.wait_copies("a2")
    address = two.story.lab.member("h1").address
    answer = strangers.ask(
        two.story.lab,
        f"https://{address}:{strangers.API_PORT}/v1/fleet/leave",
        papers,
        method="POST",
        headers={"X-Skerry-Fleet": mark.fleet_id, "X-Skerry-Term": str(mark.term)},
    )
    assert (answer.status, answer.code) == (409, "superseded")
    assert answer.body["error"]["fields"]["leader"] == "a2"
    assert two.story.fleet.node_status("h1").fleet_id == mark.fleet_id


def test_old_leader_that_returns_mirrors(two: Two) -> None:
    story = two.story
    story.lab.member("a1").stop_service("aggregator")
    _promote(two)
    story.lab.member("a1").start_service("aggregator")
    _wait_mirrors(two)
    waiting.until(
        "its event",
        lambda: (
            "aggregator_superseded"
            in {each.code for each in story.client.event_list().events}
        ),
    )
    story.fleet.wait_up(story.client)


def test_forgotten_aggregator_is_pushed_to_no_longer(two: Two) -> None:
    two.second.wipe_aggregator("a2")
    two.story.fleet.forget("a1", "a2")
    for host in two.story.fleet.hosts():
        _wait_links(two.story, host.name, ["a1"])


def _wait_links(story: Story, host: str, names: list[str]) -> None:
    def is_so() -> bool:
        links = story.fleet.node_status(host).aggregators
        return [each.name for each in links] == names

    waiting.until(f"{host} pushes to {names}", is_so)
