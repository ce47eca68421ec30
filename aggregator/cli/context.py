"""What every command needs: who is logged in, how to print, what a name means."""

import uuid
from collections.abc import Callable
from typing import Final

import click

from aggregator.api import model
from aggregator.api.storage_model import PoolLine, StorageDomainLine
from aggregator.cli import client, render
from node.commands import terminal
from node.errors import NotFound
from node.model.ids import DiskId, NodeId, VmId

WAIT_S: Final = 10.0  # one poll of an order that runs
SEARCH_MAX: Final = 100_000  # a name may be part of that many others


class NoSuchVm(NotFound):
    code = "no_such_vm"
    remedy = "See `skerry vm list` for what there is."


class NoSuchNode(NotFound):
    code = "no_such_node"
    remedy = "See `skerry node list` for what there is."


class NoSuchStorageDomain(NotFound):
    code = "no_such_storage_domain"
    remedy = "See `skerry storage list` for what there is."


class NoSuchPool(NotFound):
    code = "no_such_pool"
    remedy = "See `skerry pool list` for what there is."


class NoSuchDisk(NotFound):
    code = "no_such_disk"
    remedy = "See `skerry disk list` for what there is."


class Context:
    """What the options before the command say."""

    def __init__(self, is_json: bool) -> None:
        self.is_json = is_json

    @property
    def client(self) -> client.FleetClient:
        return client.connect(client.load(client.session_path()))

    def show(self, value: object, text: Callable[[], str]) -> None:
        """Print a reply: as JSON if asked for, else as text."""
        terminal.show(value, text, is_json=self.is_json)

    def find_vm(self, name: str) -> VmId:
        """Return the id of the VM with a name or an id."""
        lines = self.client.vm_list(name, SEARCH_MAX).vms
        found = [line.vm_id for line in lines if line.name == name]
        if len(found) > 1:
            raise terminal.NameOfMany(f"{name} is the name of {', '.join(found)}")
        if found:
            return found[0]
        try:
            return self.client.vm_show(VmId(str(uuid.UUID(name)))).entry.vm.spec.vm_id
        except ValueError as error:
            raise NoSuchVm(f"there is no VM named {name}") from error

    def find_node(self, name: str) -> NodeId:
        """Return the id of the node with a name or an id."""
        for line in self.client.node_list().nodes:
            if name in (line.name, line.node_id):
                return line.node_id
        raise NoSuchNode(f"there is no node named {name}")

    def find_storage_domain(self, name: str) -> StorageDomainLine:
        """Return the storage domain with a name or an id."""
        lines = self.client.storage_domain_list().storage_domains
        found = terminal.find(
            name, lines, lambda each: each.storage_domain_id, lambda each: each.name
        )
        if found is None:
            raise NoSuchStorageDomain(f"there is no storage domain named {name}")
        return found

    def find_pool(self, name: str) -> PoolLine:
        """Return the pool with a name or an id."""
        lines = self.client.pool_list().pools
        found = terminal.find(
            name, lines, lambda each: each.pool_id, lambda each: each.name
        )
        if found is None:
            raise NoSuchPool(f"there is no pool named {name}")
        return found

    def find_disk(self, name: str) -> DiskId:
        """Return the id of the disk with a name or an id."""
        lines = self.client.disk_list(name, SEARCH_MAX).disks
        found = terminal.find(
            name, lines, lambda each: each.disk_id, lambda each: each.name
        )
        if found is None:
            raise NoSuchDisk(f"there is no disk named {name}")
        return found.disk_id

    def follow(self, order: model.OrderLine, *, is_last: bool = True) -> None:
        """Show an order's progress until it ends; exit 1 if it failed."""
        terminal.follow(
            order,
            lambda order: self.client.order_show(order.order_id, WAIT_S),
            render.order,
            is_json=self.is_json,
            is_last=is_last,
        )


pass_context = click.make_pass_decorator(Context)
