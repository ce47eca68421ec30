"""A fleet's pool: the aggregator makes it and elects, and is lost; nodes go on.

Real sanlock six times as fast; the product's own times (elections, turns) are not.
"""

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from aggregator.api import storage_verbs as verbs
from aggregator.api.model import NewVm, OrderLine
from aggregator.api.storage_model import (
    NewDisk,
    NewStorageDomain,
    NodePriority,
    PoolLine,
    PoolNode,
)
from node.errors import NotFound
from node.model.ids import DiskId, NodeId, StorageDomainId
from node.model.requests import StopManner, StopVm
from node.model.storage import Connection, DomainState, DomainType, PoolState
from node.model.vm import VmState
from node.policy.spm import Timing
from node.units import MiB
from tests.lab import members, waiting
from tests.lab.story.conftest import Story

pytestmark = pytest.mark.lab

HOSTS = ("h1", "h2", "h3")
FOLDER = f"{members.SHARED_STORAGE}/fleet-pool"
# 8 × io_timeout and the watchdog's 60, in sanlock's seconds.
LEASE_S = (8 * 10 + 60) / members.SANLOCK_SPEED
# Nobody comes forward before the first turn, and the lease may not be free by then.
ALONE_S = 2 * Timing().turn_s + LEASE_S + 40.0


@dataclass(slots=True)
class Pooled:
    """The fleet, its client, and what is asked of its storage."""

    story: Story

    def create(self, name: str, node: str) -> OrderLine:
        """Order a storage domain on the shared folder."""
        path = f"{FOLDER}/{name}"
        words = ["install", "-d", "-o", "36", "-g", "36", "-m", "0770", FOLDER, path]
        assert self.story.lab.member(node).exec(words).returncode == 0
        chosen = StorageDomainId(str(uuid.uuid4()))
        connection = Connection(DomainType.POSIXFS, path)
        node_id = NodeId(self.story.node_id(node))
        request = NewStorageDomain(name, connection, chosen, node_id=node_id)
        client = self.story.client
        return client.storage_domain_act(verbs.STORAGE_DOMAIN_CREATE, request)

    def restart_aggregator(self) -> None:
        """Let the aggregator end at once, as a crash does, and start it again."""
        aggregator = self.story.lab.member("a1")
        inside = aggregator.exec(["pgrep", "-f", "skerry-aggregator run"]).stdout
        before = aggregator.service_pid("aggregator")
        assert aggregator.exec(["kill", "-9", *inside.split()]).returncode == 0
        waiting.until(
            "another aggregator",
            lambda: aggregator.service_pid("aggregator") != before,
        )
        self.story.client = waiting.until("a login", self.story.fleet.log_in)

    def finish(self, order: OrderLine, timeout_s: float = 120.0) -> OrderLine:
        return self.story.fleet.wait_order(
            self.story.client, order, timeout_s=timeout_s
        )

    def pool(self) -> PoolLine:
        pools = self.story.client.pool_list().pools
        for pool in pools:
            if not pool.is_local:
                return pool
        raise NotFound(f"{len(pools)} local pools, and no other")

    def elect(self, node: str) -> OrderLine:
        request = PoolNode(NodeId(self.story.node_id(node)))
        client, pool_id = self.story.client, self.pool().pool_id
        return client.pool_act(verbs.POOL_ELECT, request, pool_id)

    def wait_manager(self, *names: str, timeout_s: float = 60.0) -> float:
        """Wait until one of these nodes manages the pool; return how long it took."""
        began = time.monotonic()

        def manages() -> bool:
            pool = self.pool()
            is_told = pool.stale is None and pool.state is PoolState.UP
            return is_told and pool.manager in names

        self.until(f"a manager: {names}", manages, timeout_s)
        return time.monotonic() - began

    def wait_active(self, name: str) -> None:
        def is_active() -> bool:
            domains = self.story.client.storage_domain_list().storage_domains
            (line,) = [each for each in domains if each.name == name]
            is_well = line.nodes_well == len(HOSTS)
            return line.state is DomainState.ACTIVE and is_well

        self.until(f"{name} active on all nodes", is_active)

    def disks(self) -> set[str]:
        """Return the names of the pool's disks; the nodes have others of their own."""
        lines = self.story.client.disk_list().disks
        return {each.name for each in lines if each.pool == self.pool().name}

    def until(
        self, what: str, is_so: Callable[[], bool], timeout_s: float = 60.0
    ) -> None:
        waiting.until(what, is_so, timeout_s=timeout_s, poll_s=0.5)


@pytest.fixture
def pooled(story: Story) -> Iterator[Pooled]:
    """Return the fleet without a pool; let it forget the one that was made."""
    yield Pooled(story)
    story.fleet.forget_storage(story.client)
    story.lab.member("h1").exec(["rm", "-rf", FOLDER])


def test_pool_is_made_managed_and_survives_the_aggregator(pooled: Pooled) -> None:
    pooled.finish(pooled.create("alpha", "h1"))
    took_s = pooled.wait_manager(*HOSTS)
    pooled.wait_active("alpha")
    assert pooled.pool().nodes == len(HOSTS)
    print(f"managed {took_s:.1f} s after it was made")
    order = pooled.create("beta", "h2")
    pooled.restart_aggregator()
    pooled.finish(order)  # its other steps: attached by the manager, and activated
    pooled.wait_active("beta")
    _make_disk(pooled, "one", "beta")

    manager = pooled.pool().manager
    (other, third) = [name for name in HOSTS if name != manager]
    began = time.monotonic()
    pooled.finish(pooled.elect(other))
    pooled.wait_manager(other)
    print(f"moved by hand in {time.monotonic() - began:.1f} s")
    pooled.until("the disk", lambda: pooled.disks() == {"one"})

    # The first manager gave the lease away a moment ago, and stands back.
    began = time.monotonic()
    _never(pooled, other)
    pooled.wait_manager(third, timeout_s=90.0)
    print(f"moved by priority in {time.monotonic() - began:.1f} s")

    _lose_aggregator_and_manager(pooled, third, manager)
    pooled.until("the disk", lambda: pooled.disks() == {"one"})
    _make_disk(pooled, "two", "alpha")


def test_vm_of_a_pool_runs_wherever_it_fits(pooled: Pooled) -> None:
    pooled.finish(pooled.create("alpha", "h1"))
    pooled.wait_manager(*HOSTS)
    pooled.wait_active("alpha")
    _make_disk(pooled, "one", "alpha")
    _run_vm(pooled, "alpha")


def _make_disk(pooled: Pooled, name: str, place: str) -> None:
    domains = pooled.story.client.storage_domain_list().storage_domains
    (domain,) = [each for each in domains if each.name == place]
    disk_id = DiskId(str(uuid.uuid4()))
    request = NewDisk(name, domain.storage_domain_id, 64 * MiB, disk_id)
    pooled.finish(pooled.story.client.disk_act(verbs.DISK_CREATE, request))
    pooled.until(f"disk {name}", lambda: name in pooled.disks())


def _run_vm(pooled: Pooled, place: str) -> None:
    """Make a VM on the pool, run it wherever it fits, and delete it."""
    story = pooled.story
    last = story.client.event_list().events[0].number
    domains = story.client.storage_domain_list().storage_domains
    (domain,) = [each for each in domains if each.name == place]
    request = NewVm(
        "pooled",
        memory_bytes=128 * MiB,
        disk_bytes=64 * MiB,
        storage_domain_id=domain.storage_domain_id,
    )
    vm_id = story.fleet.create_vm(story.client, request)
    pooled.until("its disk", lambda: len(pooled.disks()) == 2)
    (disk,) = [each for each in story.client.disk_list().disks if each.vms]
    assert disk.vms == ("pooled",)
    story.fleet.start_vm(story.client, vm_id)
    pooled.until(
        "the VM", lambda: story.state(vm_id) in (VmState.POWERING_UP, VmState.UP)
    )
    print(f"{pooled.pool().manager} manages, {story.client.vm_show(vm_id).node} runs")
    stop = StopVm(manner=StopManner.FORCE)
    story.fleet.wait_order(story.client, story.client.vm_stop(vm_id, stop))
    story.wait_state(vm_id, VmState.DOWN)
    story.fleet.delete_vm(story.client, vm_id)
    pooled.until("no VM", lambda: not story.client.vm_list().vms)
    pooled.until("one disk", lambda: pooled.disks() == {"one"})
    codes = {each.code for each in story.client.event_list(last).events}
    assert "documents_conflict" not in codes


def _never(pooled: Pooled, name: str) -> None:
    client, pool_id = pooled.story.client, pooled.pool().pool_id
    request = NodePriority(NodeId(pooled.story.node_id(name)), -1)
    pooled.finish(client.pool_act(verbs.POOL_PRIORITY, request, pool_id))


def _lose_aggregator_and_manager(pooled: Pooled, manager: str, heir: str) -> None:
    """Kill both: the only node that may and can manages the pool, with nobody told."""
    story = pooled.story
    aggregator = story.lab.member("a1")
    aggregator.stop_service("aggregator")
    story.lab.member(manager).kill()
    began = time.monotonic()

    def manages() -> bool:
        shown = story.fleet.node_json(heir, "pool", "list")["pools"]
        return any(not each["is_local"] and each.get("mark") for each in shown)

    pooled.until(f"{heir} the manager", manages, ALONE_S)
    print(f"managed again {time.monotonic() - began:.1f} s after both were lost")
    aggregator.start_service("aggregator")
    story.client = story.fleet.log_in()
    pooled.wait_manager(heir)
    story.wait_node(manager, "unreachable")
    assert pooled.pool().manager == heir
