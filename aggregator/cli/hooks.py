"""The commands on hooks of the fleet: who may sign bundles, and where they are."""

from pathlib import Path

import click

from aggregator.api import hook_model as model
from aggregator.cli.context import Context, pass_context
from node.commands import hook_text, terminal
from node.model.ids import NodeId

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_NODES = click.option(
    "--node", "names", multiple=True, help="Only there, not on all nodes."
)


@click.group("hook")
def hook() -> None:
    """Look after hooks: bundles of scripts, who may sign them; those of the center."""


@hook.command("rules")
@pass_context
def hook_rules(context: Context) -> None:
    """Say who may sign bundles, and whether the fleet is strict."""
    reply = context.client.hook_rules()
    context.show(reply, lambda: _rules(reply))


@hook.command("add-key")
@click.argument("name")
@click.argument("file", type=_FILE)
@pass_context
def hook_add_key(context: Context, name: str, file: Path) -> None:
    """Let the Ed25519 public key in FILE (PEM) sign bundles, under NAME."""
    reply = context.client.hook_key_add(model.AddHookKey(name, file.read_text()))
    context.show(reply, lambda: _rules(reply))


@hook.command("remove-key")
@click.argument("name")
@pass_context
def hook_remove_key(context: Context, name: str) -> None:
    """Let the key NAME sign no more; what it has signed stays installed."""
    reply = context.client.hook_key_remove(model.RemoveHookKey(name))
    context.show(reply, lambda: _rules(reply))


@hook.command("strict")
@click.argument("how", type=click.Choice(["on", "off"]))
@pass_context
def hook_strict(context: Context, how: str) -> None:
    """Start no VM that libvirt's schema dislikes once its hooks have run."""
    reply = context.client.hook_strict(model.SetStrictHooks(how == "on"))
    context.show(reply, lambda: _rules(reply))


@hook.command("install")
@click.argument("file", type=_FILE)
@_NODES
@pass_context
def hook_install(context: Context, file: Path, names: tuple[str, ...]) -> None:
    """Install the signed bundle FILE, in place of one of its name."""
    request = model.InstallBundle(file.read_text(), _find(context, names))
    _tell(context, context.client.hook_install(request))


@hook.command("remove")
@click.argument("name")
@_NODES
@pass_context
def hook_remove(context: Context, name: str, names: tuple[str, ...]) -> None:
    """Remove the bundle NAME."""
    request = model.RemoveBundle(name, _find(context, names))
    _tell(context, context.client.hook_remove(request))


@hook.group("center")
def center() -> None:
    """Look at the aggregator's own hooks: scripts before and after what it does."""


@center.command("list")
@pass_context
def center_list(context: Context) -> None:
    """List the scripts on the aggregator, in the order in which they run."""
    reply = context.client.center_hook_list()
    context.show(reply, lambda: hook_text.scripts(reply))


@center.command("points")
@pass_context
def center_points(context: Context) -> None:
    """List the points, and what their scripts can do."""
    reply = context.client.center_hook_list()
    context.show(reply.points, lambda: hook_text.points(reply.points))


def _find(context: Context, names: tuple[str, ...]) -> tuple[NodeId, ...]:
    return tuple(context.find_node(name) for name in names)


def _tell(context: Context, reply: model.HookOutcomes) -> None:
    """Show how it went on each node; one that it failed on is a failure."""
    cells = [(each.name, each.problem or "done") for each in reply.nodes]
    context.show(reply, lambda: terminal.table(("NODE", "HOW IT WENT"), cells))
    if any(each.problem for each in reply.nodes):
        raise SystemExit(1)


def _rules(reply: model.HookRulesReply) -> str:
    how = "do not start" if reply.is_strict else "start, and warn"
    parts = [f"VMs that libvirt's schema dislikes {how}."]
    if reply.keys:
        cells = [(each.name, each.key_id) for each in reply.keys]
        parts.append(terminal.table(("KEY", "SHA-256"), cells))
    else:
        parts.append("No key may sign bundles: see `skerry hook add-key --help`.")
    return "\n\n".join(parts)
