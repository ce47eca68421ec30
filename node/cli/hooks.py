"""The commands on hooks."""

import difflib

import click

from node.cli.context import Context, pass_context
from node.commands import terminal
from node.errors import Invalid
from node.model.hooks import HookPoint, HookScript, HookTrial, TryHook
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
    context.show(reply, lambda: _scripts(reply.scripts, reply.folders))


@hooks.command("points")
@pass_context
def hook_points(context: Context) -> None:
    """List the points, and what their scripts can do."""
    reply = context.client.hook_list()
    headers = ("POINT", "PAYLOAD", "MAY ABORT", "EDITS COUNT", "TIMEOUT", "WAITS FOR")
    cells = [
        (
            each.point,
            each.payload,
            "yes" if each.may_abort else "",
            "yes" if each.counts else "",
            f"{each.timeout_s:g} s",
            each.waits_for,
        )
        for each in reply.points
    ]
    context.show(reply.points, lambda: terminal.table(headers, cells))


_VM = click.option("--vm", help="What the point is about.")
_SET = click.option(
    "--set", "words", multiple=True, help="NAME=VALUE, in place of the VM's property."
)


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


def _scripts(scripts: tuple[HookScript, ...], folders: tuple[str, ...]) -> str:
    if not scripts:
        return "There are no hooks in " + " or ".join(folders) + "."
    headers = ("POINT", "SCRIPT", "SIZE", "SHA-256", "DOES NOT RUN")
    cells = [
        (each.point, each.name, str(each.size_bytes), each.sha256[:16], each.refused)
        for each in scripts
    ]
    return terminal.table(headers, cells)


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
