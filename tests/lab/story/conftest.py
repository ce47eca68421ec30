"""Give the story's tests a fleet: three admitted nodes and a logged-in client."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from aggregator.api.model import NewVm, VmDetail
from aggregator.cli.client import FleetClient
from node.errors import Error
from node.model.ids import NodeId, StorageDomainId, VmId
from node.model.requests import StopManner, StopVm
from node.model.vm import VmState
from node.policy import local_pool
from node.units import MiB
from tests.lab import fleet, waiting
from tests.lab.lab import Lab
from tests.ports import free_port


@dataclass(slots=True)
class Story:
    """A fleet and its administrator's client."""

    fleet: fleet.Fleet
    client: FleetClient

    @property
    def lab(self) -> Lab:
        return self.fleet.lab

    def make_vm(self, name: str, node: str | None = None) -> VmId:
        """Create a small VM; None: where the aggregator chooses."""
        node_id = NodeId(self.node_id(node)) if node else None
        return self.fleet.create_vm(
            self.client,
            NewVm(name, fleet.IMAGE, memory_bytes=128 * MiB, node_id=node_id),
        )

    def run_vm(self, name: str, node: str | None = None) -> VmDetail:
        """Create and start a small VM, and wait for its guest's address."""
        vm_id = self.make_vm(name, node)
        self.fleet.start_vm(self.client, vm_id)
        return self.fleet.wait_address(self.client, vm_id)

    def node_id(self, name: str) -> NodeId:
        return next(
            each.node_id for each in self.client.node_list().nodes if each.name == name
        )

    def local(self, name: str) -> StorageDomainId:
        """Return the storage domain of a node's own disk."""
        return local_pool.storage_domain_id(self.node_id(name))

    def state(self, vm_id: VmId) -> VmState:
        return self.client.vm_show(vm_id).state

    def wait_state(
        self, vm_id: VmId, state: VmState, *, timeout_s: float = 60.0
    ) -> VmDetail:
        """Wait until the aggregator believes a VM to be in a state."""

        def reached() -> VmDetail | None:
            detail = self.client.vm_show(vm_id)
            return detail if detail.state is state else None

        return waiting.until(f"VM {state}", reached, timeout_s=timeout_s)

    def wait_node(self, name: str, state: str, *, timeout_s: float = 60.0) -> None:
        """Wait until the aggregator believes a node to be in a state."""

        def reached() -> bool:
            lines = self.client.node_list().nodes
            return any(each.name == name and each.state == state for each in lines)

        waiting.until(f"{name} {state}", reached, timeout_s=timeout_s)

    def wait_answering(self, name: str) -> None:
        """Wait until a node does what the aggregator asks, and sees its guests."""

        def answers() -> bool:
            self.fleet.ask(name)
            return not self.fleet.node_status(name).problems

        waiting.until(f"{name} answering", answers)

    def guest_ticks(self, detail: VmDetail) -> int:
        """Return how long the guest has been running, as it counts itself."""
        guest = detail.entry.run.guest
        assert guest is not None
        url = f"http://{guest.addresses[0]}/tick"

        def count() -> str:
            """Return what it says; the file is written anew each second."""
            return self.lab.in_switch(["curl", "-fsS", "-m", "2", url]).stdout.strip()

        return int(waiting.until(f"an answer of {url}", count))

    def qemu_pids(self, name: str) -> set[int]:
        """Return the pids of a host's QEMU processes, as the host sees them."""
        result = self.lab.member(name).exec(["pidof", "qemu-system-x86_64"])
        return set(map(int, result.stdout.split()))

    def clear(self) -> None:
        """Delete every VM of the fleet."""
        for line in self.client.vm_list().vms:
            if line.state is not VmState.DOWN:
                stop = StopVm(manner=StopManner.FORCE)
                self.fleet.wait_order(
                    self.client, self.client.vm_stop(line.vm_id, stop)
                )
            self.fleet.delete_vm(self.client, line.vm_id)


@pytest.fixture(scope="session")
def story_port(whole_lab: Lab) -> int:
    """Return a port of this machine that leads to the aggregator."""
    port = free_port()
    whole_lab.forward(port)
    return port


@pytest.fixture(scope="session")
def second_port(whole_lab: Lab) -> int:
    """Return a port of this machine that leads to the second aggregator."""
    port = free_port()
    whole_lab.forward(port, "a2")
    return port


@pytest.fixture(scope="session")
def clients() -> list[FleetClient]:
    """Return who is logged in at the first aggregator: nobody yet, later one."""
    return []


@pytest.fixture
def story(lab: Lab, story_port: int, clients: list[FleetClient]) -> Iterator[Story]:
    """Return the fleet with all nodes up and no VM; delete the VMs afterwards."""
    one = fleet.Fleet(lab, story_port)
    one.initialise()
    told = Story(one, _logged_in(one, clients))
    _gather(one, told.client)
    told.clear()
    yield told
    lab.restore()
    clients[:] = [told.client]  # a test may have had to log in anew
    _gather(one, told.client)
    told.clear()


def _logged_in(one: fleet.Fleet, clients: list[FleetClient]) -> FleetClient:
    """Return the client that the last test left; a new one if it does not count."""
    for client in clients:
        with contextlib.suppress(Error):
            client.status()
            return client
    clients[:] = [one.log_in()]
    return clients[0]


def _gather(one: fleet.Fleet, client: FleetClient) -> None:
    """Admit whoever waits, and wait until all are up."""
    if not waiting.until("an answer", client.node_list).nodes:
        one.wait_candidates(client)
        one.admit_all(client)
    waiting.until("all admitted", lambda: one.admit_missing(client))
    one.wait_up(client)
