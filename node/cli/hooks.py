"""The commands on hooks."""

import difflib
from pathlib import Path, PurePosixPath

import click

from node.cli.context import Context, pass_context
from node.commands import hook_text, terminal
from node.errors import Invalid
from node.model.hooks import (
    HookBundle,
    HookPoint,
    HookTrial,
    InstallHooks,
    RemoveHooks,
    TryHook,
)
from node.model.properties import CustomProperty


class BadProperty(Invalid):
    code = "bad_property"
    remedy = "Write it as NAME=VALUE."


@click.group()
def hooks() -> None:
    """Look at hooks, run them, and try what they would change."""


@hooks.command("list")
@pass_context
def hook_list(context: Context) -> None:
    """List the scripts on this node, in the order in which they run."""
    reply = context.client.hook_list()
    context.show(reply, lambda: hook_text.scripts(reply))


@hooks.command("points")
@pass_context
def hook_points(context: Context) -> None:
    """List the points, and what their scripts can do."""
    reply = context.client.hook_list()
    context.show(reply.points, lambda: hook_text.points(reply.points))


_VM = click.option("--vm", help="What the point is about.")
_SET = click.option(
    "--set", "words", multiple=True, help="NAME=VALUE, in place of the VM's property."
)


@hooks.command("bundles")
@pass_context
def hook_bundles(context: Context) -> None:
    """List the bundles that are installed, and who signed them."""
    reply = context.client.hook_bundles()
    context.show(reply, lambda: _bundles(reply.bundles))


@hooks.command("pack")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("target", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--name", help="What it is called; else as its folder.")
@click.option("--version", "number", default="1", show_default=True)
@click.option(
    "--key",
    "keys",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Sign it with this Ed25519 key (PEM, without a password).",
)
def hook_pack(
    folder: Path, target: Path, name: str | None, number: str, keys: tuple[Path, ...]
) -> None:
    """Make the bundle TARGET of a FOLDER of hooks; no agent is asked."""
    from node import hook_bundle

    files = {
        PurePosixPath(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    signing = [hook_bundle.private_key(each.read_text()) for each in keys]
    called = name or folder.resolve().name
    target.write_bytes(hook_bundle.write(called, number, files, signing))
    click.echo(f"{target} has {len(files)} files.")


@hooks.command("install")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--key",
    "keys",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A public key (PEM) whose signature is enough.",
)
@click.option("--unsigned", is_flag=True, help="Even if nobody known has signed it.")
@pass_context
def hook_install(
    context: Context, file: Path, keys: tuple[Path, ...], unsigned: bool
) -> None:
    """Install the bundle FILE on this node, in place of one of its name."""
    known = tuple(each.read_text() for each in keys)
    request = InstallHooks(file.read_text(), known, unsigned)
    reply = context.client.hook_install(request)
    context.show(reply, lambda: _bundles((reply,)))


@hooks.command("remove")
@click.argument("name")
@pass_context
def hook_remove(context: Context, name: str) -> None:
    """Remove the bundle NAME from this node."""
    reply = context.client.hook_remove(RemoveHooks(name))
    context.show(reply, lambda: _bundles(reply.bundles))


@hooks.command("run")
@click.argument("point", type=click.Choice([each.value for each in HookPoint]))
@_VM
@_SET
@pass_context
def hook_run(
    context: Context, point: str, vm: str | None, words: tuple[str, ...]
) -> None:
    """Run a POINT's scripts now, and say how each went; edits are thrown away."""
    reply = context.client.hook_try(_request(context, point, vm, words))
    context.show(reply, lambda: _runs(reply))
    if reply.error:
        raise click.exceptions.Exit(1)


@hooks.command("test")
@click.argument("point", type=click.Choice([each.value for each in HookPoint]))
@_VM
@_SET
@pass_context
def hook_test(
    context: Context, point: str, vm: str | None, words: tuple[str, ...]
) -> None:
    """Show what a POINT's scripts would change; no VM is started.

    They do run, with all that they do to this node.
    """
    reply = context.client.hook_try(_request(context, point, vm, words))
    context.show(reply, lambda: f"{_difference(reply)}\n\n{_runs(reply)}")
    if reply.error:
        raise click.exceptions.Exit(1)


def _request(
    context: Context, point: str, vm: str | None, words: tuple[str, ...]
) -> TryHook:
    vm_id = context.find(vm).vm.spec.vm_id if vm is not None else None
    return TryHook(point, vm_id, tuple(map(_property, words)))


def _property(word: str) -> CustomProperty:
    name, is_set, value = word.partition("=")
    if not name or not is_set:
        raise BadProperty(f"{word!r} is no property")
    return CustomProperty(name, value)


def _bundles(bundles: tuple[HookBundle, ...]) -> str:
    if not bundles:
        return "No bundles are installed."
    cells = [
        (each.name, each.version, each.signed_by[:16] or "nobody known")
        for each in bundles
    ]
    return terminal.table(("BUNDLE", "VERSION", "SIGNED BY"), cells)


def _runs(trial: HookTrial) -> str:
    """Return how each script went, and what came of it all."""
    if not trial.runs and not trial.refused:
        return f"{trial.point} has no scripts."
    headers = ("SCRIPT", "STATUS", "TOOK", "PROBLEM")
    cells = [
        (each.script, str(each.status), f"{each.took_s:.3f} s", each.problem)
        for each in trial.runs
    ]
    parts = [terminal.table(headers, cells)] if cells else []
    parts += [f"{each.script} says:\n{each.said}" for each in trial.runs if each.said]
    parts += [f"{each.name} does not run: {each.refused}" for each in trial.refused]
    parts += [f"libvirt's schema: {each}" for each in trial.warnings]
    if trial.error:
        parts.append(f"It would not be done: {trial.error}")
    return "\n\n".join(parts)


def _difference(trial: HookTrial) -> str:
    before, after = trial.before.splitlines(), trial.after.splitlines()
    lines = difflib.unified_diff(before, after, "before", "after", lineterm="", n=2)
    return "\n".join(lines) or "Nothing changes."
