"""What both command lines share of registering VMs that came with storage."""

import uuid
from collections.abc import Iterable
from typing import Any, Final

import click

from node.commands import terminal
from node.commands.terminal import Command
from node.errors import Invalid, NotFound
from node.model.ids import StorageDomainId, VmId
from node.model.unregistered import (
    NetworkChange,
    RegisterVm,
    Unregistered,
    UnregisteredVm,
)


class NoSuchNewcomer(NotFound):
    code = "no_such_newcomer"
    remedy = "See `storage unregistered` for what waits there."


class BadNetworkChange(Invalid):
    code = "bad_network_change"
    remedy = "Write it as FROM=TO; nothing after the sign drops the card."


_TO: Final = "Where its disks are copied to, of what was exported."
_NETWORK: Final = "A card's network here instead of its own: FROM=TO."


def register_options(command: Command) -> Command:
    """Take what is asked of a VM that is registered."""
    return terminal.with_options(
        command,
        click.argument("name"),
        click.argument("vm"),
        click.option("--as", "as_name", help="Its name here; else as it has."),
        click.option("--clone", is_flag=True, help="Give it another id."),
        click.option("--to", help=_TO),
        click.option("--network", "networks", multiple=True, help=_NETWORK),
        click.option("--lose-disks", is_flag=True, help="Without disks not here."),
        click.option("--lose-cards", is_flag=True, help="Without cards on no network."),
        click.option("--force", is_flag=True, help="Although it may run elsewhere."),
    )


def request(
    found: UnregisteredVm,
    *,
    as_name: str | None,
    clone: bool,
    to: StorageDomainId | None,
    networks: Iterable[str],
    lose_disks: bool,
    lose_cards: bool,
    force: bool,
) -> RegisterVm:
    """Return what these options ask for; BadNetworkChange."""
    return RegisterVm(
        found.spec.vm_id,
        as_name,
        VmId(str(uuid.uuid4())) if clone else None,
        tuple(map(_network, networks)),
        may_lose_disks=lose_disks,
        may_lose_nics=lose_cards,
        is_forced=force,
        to_storage_domain_id=to,
    )


def find(reply: Unregistered, name: str) -> UnregisteredVm:
    """Return the VM with a name or an id; NoSuchNewcomer."""
    found = terminal.find(
        name, reply.vms, lambda each: each.spec.vm_id, lambda each: each.spec.name
    )
    if found is None:
        raise NoSuchNewcomer(f"no VM named {name} waits there")
    return found


def exported_id(reply: Unregistered, name: str) -> VmId:
    """Return the id of what was exported: also of what cannot be read, by its id."""
    try:
        return VmId(str(uuid.UUID(name)))
    except ValueError:
        return find(reply, name).spec.vm_id


def listing(reply: Unregistered) -> str:
    """Return what waits, and what could not be read, as text."""
    rows = terminal.table(
        ("VM", "ID", "FROM", "MEMORY", "DISKS", "MISSING", "SNAPSHOTS", "NOTE"),
        (_row(each) for each in reply.vms),
    )
    told = (line for each in reply.problems for line in terminal.causes(each))
    return "\n".join((rows if reply.vms else "Nothing waits there.", *told))


def _row(each: UnregisteredVm) -> tuple[Any, ...]:
    notes = ("template" if each.is_template else "", "may run" if each.may_run else "")
    return (
        *(each.spec.name, each.spec.vm_id, each.source),
        *(terminal.size(each.spec.memory_bytes), len(each.spec.disks)),
        *(len(each.missing_disks), each.snapshots, ", ".join(filter(None, notes))),
    )


def _network(text: str) -> NetworkChange:
    network, sign, to = text.partition("=")
    if not sign or not network:
        raise BadNetworkChange(f"{text[:80]!a} is no change of a network")
    return NetworkChange(network, to)
