"""The commands on custom properties: which there are, and which a VM has."""

import click

from aggregator.api import property_model as model
from aggregator.cli import render
from aggregator.cli.context import Context, pass_context
from aggregator.policies.properties import Level
from node.commands import property_options, terminal
from node.model.properties import CustomProperty
from node.model.requests import SetProperties
from node.policy import properties as policy

level_option = click.option(
    "--level",
    type=click.Choice([each.value for each in Level]),
    default=Level.VM.value,
    show_default=True,
    help="What has the property.",
)


@click.group("property")
def declared() -> None:
    """Look after custom properties: what VMs may tell hooks."""


@declared.command("list")
@pass_context
def property_list(context: Context) -> None:
    """List the custom properties that are declared, with their patterns."""
    reply = context.client.property_list()
    context.show(reply, lambda: render.properties(reply))


@declared.command("declare")
@click.argument("name")
@click.argument("pattern")
@level_option
@click.option("--help-text", help="What people read who give it a value.")
@click.option(
    "--needs-hook",
    metavar="POINT/SCRIPT",
    help="Place VMs that have it only where this script is.",
)
@pass_context
def property_declare(
    context: Context,
    name: str,
    pattern: str,
    level: str,
    help_text: str | None,
    needs_hook: str | None,
) -> None:
    """Let VMs have a property NAME, whose values match PATTERN from end to end.

    A property that is there already gets the new pattern, and what else is named; VMs
    keep their values.
    """
    words = (Level(level), name, pattern, help_text, needs_hook)
    request = model.DeclareProperty(*words)
    reply = context.client.property_declare(request)
    context.show(reply, lambda: f"{reply.name} was declared.")


@declared.command("remove")
@click.argument("name")
@level_option
@pass_context
def property_remove(context: Context, name: str, level: str) -> None:
    """Remove the declaration of a property that no VM has."""
    reply = context.client.property_remove(model.RemoveProperty(Level(level), name))
    context.show(reply, lambda: f"{name} was removed.")


@click.command("edit")
@click.argument("vm")
@property_options.change_option
@property_options.device_option
@terminal.generation_option
@pass_context
def vm_edit(
    context: Context,
    vm: str,
    changes: tuple[CustomProperty, ...],
    device: str | None,
    generation: int | None,
) -> None:
    """Change custom properties of a VM; a guest that runs gets them later.

    It does at its next start.
    """
    vm_id = context.find_vm(vm)
    known = context.client.vm_show(vm_id).entry.vm
    device_id = property_options.device_id(known.spec, device)
    wanted = policy.edited(policy.of(known.spec, device_id), changes)
    # What is not changed was read from this generation.
    based_on = known.generation if generation is None else generation
    request = SetProperties(wanted, device_id, generation=based_on)
    context.follow(context.client.vm_set_properties(vm_id, request))
