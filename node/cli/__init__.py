"""`skerry-node`: run the agent, and look after this node from its own shell.

A client of the agent's unix socket: there is a command for every verb that it may
call, and `vm create --spec` takes all that the verb does.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import click

from node import VERSION, config, wire
from node.cli import hooks, jobs, render, snapshots, templates, vms
from node.cli.context import JOB_WAIT_S, Context, pass_context
from node.cli.storage import disks, domains, newcomers, pools, transfers
from node.commands import terminal, wording
from node.errors import Error
from node.model import options
from node.model.fleet import Admission


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--socket",
    type=click.Path(path_type=Path),
    default=Path("/run/skerry/local.sock"),
    show_default=True,
    help="The agent's socket.",
)
@click.option("--json", "is_json", is_flag=True, help="Print JSON.")
@click.version_option(VERSION, prog_name="skerry-node")
@click.pass_context
def cli(ctx: click.Context, socket: Path, is_json: bool) -> None:
    """Run this node, and look after it from its own shell."""
    ctx.obj = Context(socket, is_json)


@cli.command()
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    default=config.DEFAULT_PATH,
    show_default=True,
)
def run(path: Path) -> None:
    """Run the agent in the foreground."""
    from node import app  # the other commands need not load all that

    app.run(config.load(path, _kernel_arguments()))


@cli.command()
def status() -> None:
    """Say how this node is."""
    context = click.get_current_context().obj
    reply = context.client.status()
    context.show(reply, lambda: render.status(reply))


@cli.command("options")
@pass_context
def show_options(context: Context) -> None:
    """List the options of the configuration file."""
    cells = options.cells(config.Config)
    context.show(
        options.rows(config.Config), lambda: terminal.table(options.HEADERS, cells)
    )


@cli.command()
@pass_context
def facts(context: Context) -> None:
    """Describe this machine."""
    reply = context.client.node()
    context.show(reply, lambda: render.facts(reply))


@cli.command()
@pass_context
def devices(context: Context) -> None:
    """List network cards, disks and PCI devices."""
    reply = context.client.devices()
    context.show(reply, lambda: render.devices(reply.devices))


@cli.command()
@pass_context
def images(context: Context) -> None:
    """List the base images that disks can start from."""
    reply = context.client.images()
    context.show(reply, lambda: render.images(reply.images))


@cli.command()
@pass_context
def stats(context: Context) -> None:
    """Show the newest figures."""
    reply = context.client.stats()
    names = {
        entry.vm.spec.vm_id: entry.vm.spec.name
        for entry in context.client.vm_list().vms
    }
    context.show(reply, lambda: render.stats(reply, names))


@cli.command()
@click.option("--follow", "-f", is_flag=True, help="Go on until interrupted.")
@pass_context
def events(context: Context, follow: bool) -> None:
    """List what happened since this node's boot."""
    reply = context.client.events(0)
    while True:
        for event in reply.events:
            context.show(event, lambda event=event: render.event(event))  # type: ignore[misc]  # a lambda's default binds the loop's value
        if not follow:
            return
        before = time.monotonic()
        reply = context.client.events(reply.last, JOB_WAIT_S)
        if not reply.events and time.monotonic() - before < 0.1:
            time.sleep(1)  # the agent had no waiter to spare


@cli.command()
@click.confirmation_option(prompt="Leave the fleet?")
@pass_context
def leave(context: Context) -> None:
    """Leave the fleet and wait for a new admission; guests are untouched."""
    reply = context.client.leave()
    context.show(reply, lambda: render.status(reply))


@cli.command()
@pass_context
def fingerprint(context: Context) -> None:
    """Show what an administrator compares before admitting this node."""
    reply = context.client.admission_show()
    context.show(reply, lambda: terminal.groups(reply.fingerprint))


@cli.command()
@click.argument("file", type=click.File("rb"))
@pass_context
def admit(context: Context, file: IO[bytes]) -> None:
    """Make this node a member by the admission in FILE, as JSON (-: standard input)."""
    reply = context.client.admit(wire.decode(Admission, file.read()))
    context.show(reply, lambda: f"A member of {reply.fleet_id}, term {reply.term}.")


@cli.command()
@pass_context
def sealed(context: Context) -> None:
    """Print the sealed copy of the fleet's documents, as JSON."""
    click.echo(terminal.pretty(wire.to_json(context.client.sealed_show())))


@cli.command()
@pass_context
def rules(context: Context) -> None:
    """Say what the fleet has decided: properties, who signs hooks, how strict."""
    reply = context.client.rules_show()
    context.show(reply, lambda: render.rules(reply))


@cli.command()
@click.option("--since", type=int, default=0, help="Only what is newer than this.")
@click.option("--wait", "wait_s", type=float, default=0.0, help="Up to so many s.")
@pass_context
def changes(context: Context, since: int, wait_s: float) -> None:
    """Print the documents that changed since a revision, as JSON."""
    reply = context.client.changes(since, wait_s)
    click.echo(terminal.pretty(wire.to_json(reply)))


@cli.command()
@pass_context
def openapi(context: Context) -> None:
    """Print the description of the API, as JSON."""
    click.echo(terminal.pretty(context.client.openapi()))


@cli.command()
@click.argument("vm")
@pass_context
def why(context: Context, vm: str) -> None:
    """Explain the state of a VM: what happened, why, and what to do."""
    entry = context.find(vm)
    context.show(entry.run, lambda: render.why(entry))


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell."""
    click.echo(terminal.completion(cli, "skerry-node", shell))


for command in (
    newcomers.unregistered,
    newcomers.register,
    newcomers.remove_exported,
    newcomers.write_ovf,
):
    domains.storage.add_command(command)
for group in (
    jobs.job,
    vms.vm,
    snapshots.snapshot,
    templates.template,
    domains.storage,
    pools.pool,
    disks.disk,
    transfers.transfer,
    hooks.hooks,
):
    cli.add_command(group)


def _kernel_arguments() -> str:
    path = Path("/proc/cmdline")
    return path.read_text() if path.exists() else ""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; an error says what to do next."""
    try:
        wording.in_readers_language(cli)(arguments)
    except Error as error:
        terminal.complain("skerry-node", error)
        sys.exit(1)
