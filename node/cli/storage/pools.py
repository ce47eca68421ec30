"""The commands on pools, and on who manages them."""

import uuid
from typing import Any

import click

from node.cli.context import Context, job_command, pass_context
from node.cli.storage import render
from node.commands import storage_options, terminal
from node.errors import NotFound
from node.model.ids import PoolId
from node.model.job import Job
from node.model.storage_requests import (
    ActOnPool,
    BecomeSpm,
    ConnectPool,
    CreatePool,
    LeaveSpm,
    LookForStorageDomains,
    MoveMaster,
    SetSpmPriority,
)


class NoPoolThere(NotFound):
    """No storage domain at the place belongs to a pool."""

    code = "no_pool_there"
    remedy = "See `skerry-node storage look` for what lies there."


@click.group()
def pool() -> None:
    """Look after pools: storage domains that belong together."""


@pool.command("list")
@pass_context
def pool_list(context: Context) -> None:
    """List the pools that this node is in."""
    reply = context.client.pool_list()
    context.show(reply, lambda: render.pools(reply.pools))


@pool.command("show")
@click.argument("name")
@pass_context
def pool_show(context: Context, name: str) -> None:
    """Describe a pool: its storage domains, its nodes, who manages it."""
    reply = context.client.pool_show(context.pool(name).pool_id)
    context.show(reply, lambda: render.pool(reply))


@pool.command("create")
@click.argument("name")
@click.option("--master", required=True, help="A data storage domain of no pool.")
@click.option(
    "--id",
    "chosen",
    type=click.UUID,
    default=uuid.uuid4,
    help="Choose its id: asked twice, it is one pool.",
)
@job_command
def pool_create(
    context: Context, /, *, name: str, master: str, chosen: uuid.UUID
) -> Job:
    """Make a pool of one storage domain, its master; this node joins it."""
    named = context.storage_domain(master).storage_domain
    request = CreatePool(PoolId(str(chosen)), name, named.storage_domain_id)
    return context.client.pool_create(request)


@pool.command("connect")
@storage_options.connection_options
@click.option("--pool", "wanted", type=click.UUID, help="Which, if there are several.")
@click.option("--name", default="", help="What it is called here, until it is read.")
@job_command
def pool_connect(
    context: Context, /, *, wanted: uuid.UUID | None, name: str, **place: Any
) -> Job:
    """Join the pool that a storage domain belongs to; say where that lies."""
    look = LookForStorageDomains(storage_options.connection(**place))
    found = context.client.storage_domain_look(look).storage_domains
    pool_ids = {each.pool_id for each in found if each.pool_id is not None}
    if wanted is not None:
        pool_ids &= {PoolId(str(wanted))}
    if len(pool_ids) > 1:
        several = ", ".join(sorted(pool_ids))
        raise terminal.NameOfMany(
            f"storage domains of several pools lie there: {several}"
        )
    if not pool_ids:
        raise NoPoolThere("no storage domain of such a pool lies there")
    (pool_id,) = pool_ids
    domains = tuple(each for each in found if each.pool_id == pool_id)
    return context.client.pool_connect(pool_id, ConnectPool(name, domains))


@pool.command("disconnect")
@click.argument("name")
@click.confirmation_option(prompt="Leave the pool? This node uses it no more.")
@job_command
def pool_disconnect(context: Context, /, *, name: str) -> Job:
    """Leave a pool that no VM here uses and that this node does not manage."""
    return context.client.pool_disconnect(context.pool(name).pool_id, ActOnPool())


@pool.command("move-master")
@click.argument("name")
@click.argument("storage_domain")
@click.option("--reconstruct", is_flag=True, help="The old master is lost for good.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@job_command
def pool_move_master(
    context: Context, /, *, name: str, storage_domain: str, reconstruct: bool, yes: bool
) -> Job:
    """Make STORAGE_DOMAIN the master of a pool."""
    pool_id = context.pool(name).pool_id
    new = context.storage_domain(storage_domain).storage_domain.storage_domain_id
    if reconstruct and not yes:
        click.confirm(
            "Is the old master lost? If it returns, it is demoted, and what was not "
            "finished on it is not finished.",
            abort=True,
        )
    request = MoveMaster(new, is_reconstruction=reconstruct)
    return context.client.pool_move_master(pool_id, request)


@pool.command("become-manager")
@click.argument("name")
@click.option(
    "--ask-holder", is_flag=True, help="Let who manages it, out of reach, know it."
)
@job_command
def pool_become_manager(context: Context, /, *, name: str, ask_holder: bool) -> Job:
    """Let this node become the manager of a pool, if its lease can be had."""
    request = BecomeSpm(ask_holder=ask_holder)
    return context.client.spm_become(context.pool(name).pool_id, request)


@pool.command("leave-manager")
@click.argument("name")
@click.option(
    "--stand-back",
    "stand_back_s",
    type=click.FloatRange(min=0),
    default=0.0,
    help="So many s, it is not manager again.",
)
@job_command
def pool_leave_manager(context: Context, /, *, name: str, stand_back_s: float) -> Job:
    """Finish what is under way, then manage a pool no more."""
    request = LeaveSpm(stand_back_s=stand_back_s)
    return context.client.spm_leave(context.pool(name).pool_id, request)


# -1 is a priority here, and no option.
@pool.command("priority", context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.argument("priority", type=storage_options.PriorityChoice())
@pass_context
def pool_priority(context: Context, name: str, priority: int) -> None:
    """Say how much this node is to be preferred as manager.

    PRIORITY is never, low, normal, high, or -1 to 10.
    """
    pool_id = context.pool(name).pool_id
    reply = context.client.spm_priority(pool_id, SetSpmPriority(priority))
    # It is published with the next sign of life, so the reply may still tell the old.
    context.show(
        reply, lambda: f"Pool {reply.name}: this node has priority {priority}."
    )
