"""What every command needs: the agent, how to print, how to follow a job."""

import contextlib
import functools
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from node.cli import render
from node.commands import terminal
from node.errors import NotFound
from node.http.client import NodeClient, UnixTransport
from node.model.ids import NicId, NodeId
from node.model.job import Job
from node.model.storage import DiskDocument, PoolDocument, StorageDomainDocument
from node.model.vm import VmEntry

JOB_WAIT_S: Final = 10.0  # one poll of a job that runs


class NoSuchVm(NotFound):
    code = "no_such_vm"
    remedy = "See `skerry-node vm list` for what there is."


class NoSuchStorageDomain(NotFound):
    code = "no_such_storage_domain"
    remedy = "See `skerry-node storage list` for what there is."


class NoSuchPool(NotFound):
    code = "no_such_pool"
    remedy = "See `skerry-node pool list` for what there is."


class NoSuchDisk(NotFound):
    code = "no_such_disk"
    remedy = (
        "See `skerry-node disk list` for what there is. Disks are known to the pool's "
        "manager: `skerry-node pool show` says which node that is."
    )


class NoSuchNode(NotFound):
    code = "no_such_node"
    remedy = "Give the id of a member: see `skerry-node pool show`."


class Context:
    """What the options before the command say."""

    def __init__(self, socket: Path, is_json: bool) -> None:
        self.client = NodeClient(UnixTransport(socket))
        self.is_json = is_json

    def show(self, value: object, text: Callable[[], str]) -> None:
        """Print a reply: as JSON if asked for, else as text."""
        terminal.show(value, text, is_json=self.is_json)

    def find(self, name: str) -> VmEntry:
        """Return the VM with a name or an id."""
        for entry in self.client.vm_list().vms:
            if name in (entry.vm.spec.name, entry.vm.spec.vm_id):
                return entry
        raise NoSuchVm(f"there is no VM named {name} on this node")

    def storage_domain(self, name: str) -> StorageDomainDocument:
        """Return the storage domain with a name or an id."""
        found = terminal.find(
            name,
            self.client.storage_domain_list().storage_domains,
            lambda each: each.storage_domain.storage_domain_id,
            lambda each: each.storage_domain.name,
        )
        if found is None:
            raise NoSuchStorageDomain(f"no storage domain named {name} is known here")
        return found

    def pool(self, name: str) -> PoolDocument:
        """Return the pool with a name or an id."""
        found = terminal.find(
            name,
            self.client.pool_list().pools,
            lambda each: each.pool_id,
            lambda each: each.name,
        )
        if found is None:
            raise NoSuchPool(f"this node is in no pool named {name}")
        return found

    def disk(self, name: str) -> DiskDocument:
        """Return the disk with a name or an id."""
        found = terminal.find(
            name,
            self.client.disk_list().disks,
            lambda each: each.disk_id,
            lambda each: each.name,
        )
        if found is None:
            raise NoSuchDisk(f"this node manages no disk named {name}")
        return found

    def mac(self, nic_id: NicId | uuid.UUID) -> str:
        """Return the address of a new card: asked again, it is the same."""
        octets = uuid.UUID(str(nic_id)).bytes[:4]
        return ":".join(["56", "6f", *(f"{byte:02x}" for byte in octets)])

    def find_node(self, name: str) -> NodeId:
        """Return the node with an id, or this one by its name; NoSuchNode."""
        with contextlib.suppress(ValueError):
            return NodeId(str(uuid.UUID(name)))
        status = self.client.status()
        if name == status.name:
            return status.node_id
        raise NoSuchNode(f"{name} is no id of a node; of names it knows {status.name}")

    def follow(self, job: Job, *, is_last: bool = True) -> None:
        """Show a job's progress until it ends; exit 1 if it failed."""
        terminal.follow(
            job,
            lambda job: self.client.job_show(job.job_id, JOB_WAIT_S),
            render.job_line,
            is_json=self.is_json,
            is_last=is_last,
        )


pass_context = click.make_pass_decorator(Context)
generation_option = terminal.generation_option


def job_command(command: Callable[..., Job]) -> Callable[..., None]:
    """Follow the job that a command returns to its end, unless --no-wait."""

    @click.option("--no-wait", is_flag=True, help="Print the job, and leave it to it.")
    @pass_context
    @functools.wraps(command)
    def run(context: Context, /, *, no_wait: bool, **given: Any) -> None:
        job = command(context, **given)
        if no_wait:
            context.show(job, lambda: render.jobs((job,)))
        else:
            context.follow(job)

    return run
