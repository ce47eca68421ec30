"""The commands on pools and who manages them."""

import click

from aggregator.api import storage_verbs as verbs
from aggregator.api.model import OrderLine
from aggregator.api.storage_model import MovePoolMaster, NodePriority, PoolNode
from aggregator.cli.context import Context, pass_context
from aggregator.cli.storage import render
from aggregator.cli.storage.domains import order_command
from node.commands import storage_options


@click.group()
def pool() -> None:
    """Look after pools, and who manages them."""


@pool.command("list")
@pass_context
def pool_list(context: Context) -> None:
    """List pools, and who manages each."""
    reply = context.client.pool_list()
    context.show(reply, lambda: render.pools(reply))


@pool.command("show")
@click.argument("name")
@pass_context
def pool_show(context: Context, name: str) -> None:
    """Describe a pool, and how each node sees it."""
    reply = context.client.pool_show(context.find_pool(name).pool_id)
    context.show(reply, lambda: render.pool(reply))


@pool.command("elect")
@click.argument("name")
@click.argument("node")
@order_command
def pool_elect(context: Context, /, *, name: str, node: str) -> OrderLine:
    """Let NODE manage a pool; the manager of now finishes and leaves first."""
    pool_id = context.find_pool(name).pool_id
    request = PoolNode(context.find_node(node))
    return context.client.pool_act(verbs.POOL_ELECT, request, pool_id)


# -1 is a priority here, and no option.
@pool.command("priority", context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.argument("node")
@click.argument("priority", type=storage_options.PriorityChoice())
@order_command
def pool_priority(
    context: Context, /, *, name: str, node: str, priority: int
) -> OrderLine:
    """Say how much NODE is to be preferred as manager.

    PRIORITY is never, low, normal, high, or -1 to 10.
    """
    pool_id = context.find_pool(name).pool_id
    request = NodePriority(context.find_node(node), priority)
    return context.client.pool_act(verbs.POOL_PRIORITY, request, pool_id)


@pool.command("connect")
@click.argument("name")
@click.argument("node")
@order_command
def pool_connect(context: Context, /, *, name: str, node: str) -> OrderLine:
    """Let NODE join a pool; those of its data center do so by themselves."""
    pool_id = context.find_pool(name).pool_id
    request = PoolNode(context.find_node(node))
    return context.client.pool_act(verbs.POOL_CONNECT, request, pool_id)


@pool.command("disconnect")
@click.argument("name")
@click.argument("node")
@click.confirmation_option(prompt="Let the node leave the pool?")
@order_command
def pool_disconnect(context: Context, /, *, name: str, node: str) -> OrderLine:
    """Let NODE leave a pool that no VM there uses and that it does not manage.

    It stays away until `pool connect`.
    """
    pool_id = context.find_pool(name).pool_id
    request = PoolNode(context.find_node(node))
    return context.client.pool_act(verbs.POOL_DISCONNECT, request, pool_id)


@pool.command("move-master")
@click.argument("name")
@click.argument("storage_domain")
@click.option("--reconstruct", is_flag=True, help="The old master is lost for good.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@order_command
def pool_move_master(
    context: Context, /, *, name: str, storage_domain: str, reconstruct: bool, yes: bool
) -> OrderLine:
    """Make STORAGE_DOMAIN the master of a pool."""
    pool_id = context.find_pool(name).pool_id
    new = context.find_storage_domain(storage_domain).storage_domain_id
    if reconstruct and not yes:
        click.confirm("Is the old master lost for good?", abort=True)
    request = MovePoolMaster(new, reconstruct)
    return context.client.pool_act(verbs.POOL_MOVE_MASTER, request, pool_id)
