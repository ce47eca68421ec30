"""The aggregator is disposable: its disk is lost, and the fleet is whole again."""

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from aggregator.api.model import NodeLines, VmLines
from node.model.vm import VmState
from tests.lab import errors, waiting
from tests.lab.story.conftest import Story

REBUILT_S = 60.0  # what the design promises


@pytest.fixture
def key(story: Story) -> Iterator[str]:
    """Return the fleet's recovery key; afterwards a1 is there again."""
    story.fleet.wait_copies()
    yield story.fleet.recovery_key()
    if not story.fleet.is_initialised("a1"):
        _rebuild(story, "h1", story.fleet.recovery_key())


def _rebuild(story: Story, node: str, key: str) -> None:
    """Rebuild a1 and wait until it sees the fleet."""
    story.fleet.rebuild("a1", node, key)
    story.client = story.fleet.log_in()
    story.fleet.wait_up(story.client)


def _shape(nodes: NodeLines, vms: VmLines) -> tuple[object, ...]:
    """Return what must be the same: nodes and VMs, without what moves on."""
    members = [(each.node_id, each.name, each.address) for each in nodes.nodes]
    machines = [replace(each, since="", addresses=()) for each in vms.vms]
    return (members, machines)


def test_rebuilt_aggregator_sees_the_same_and_guests_do_not_notice(
    story: Story, key: str
) -> None:
    detail = story.run_vm("witness", "h2")
    vm = detail.entry.vm
    idle = story.make_vm("asleep", "h3")
    story.wait_state(vm.spec.vm_id, VmState.UP)
    before = _shape(story.client.node_list(), story.client.vm_list())
    definition = story.client.vm_show(idle).entry.vm
    pids, ticks = story.qemu_pids("h2"), story.guest_ticks(detail)

    story.fleet.wipe_aggregator("a1")
    begin = time.monotonic()
    _rebuild(story, "h1", key)
    story.wait_state(vm.spec.vm_id, VmState.UP)
    elapsed_s = time.monotonic() - begin
    print(f"rebuilt in {elapsed_s:.1f} s: 3 nodes, 2 VMs")

    assert elapsed_s < REBUILT_S
    waiting.until(
        "the same nodes and VMs",
        lambda: _shape(story.client.node_list(), story.client.vm_list()) == before,
    )
    assert story.client.vm_show(vm.spec.vm_id).entry.vm == vm
    assert story.client.vm_show(idle).entry.vm == definition
    assert story.qemu_pids("h2") == pids
    assert story.guest_ticks(detail) >= ticks
    story.fleet.stop_vm(story.client, vm.spec.vm_id)
    story.wait_state(vm.spec.vm_id, VmState.DOWN)
    story.fleet.start_vm(story.client, vm.spec.vm_id)
    story.wait_state(vm.spec.vm_id, VmState.UP)


def test_wrong_recovery_key_rebuilds_nothing(story: Story, key: str) -> None:
    story.fleet.wipe_aggregator("a1")
    wrong = ("B" if key.startswith("A") else "A") + key[1:]
    with pytest.raises(errors.StepFailed, match="does not open this copy"):
        story.fleet.rebuild("a1", "h1", wrong)
    assert not story.fleet.is_initialised("a1")
    _rebuild(story, "h2", key)


def test_aggregator_that_has_a_fleet_is_not_rebuilt(story: Story, key: str) -> None:
    with pytest.raises(errors.StepFailed, match="belongs to a fleet"):
        story.fleet.rebuild("a1", "h1", key)
    assert story.client.status().is_leading


def test_rebuilt_aggregator_works_with_the_same_key_again(
    story: Story, key: str
) -> None:
    for node in ("h1", "h3"):
        term = story.client.status().term
        story.fleet.wait_copies()
        story.fleet.wipe_aggregator("a1")
        _rebuild(story, node, key)
        assert story.client.status().term == term + 1
