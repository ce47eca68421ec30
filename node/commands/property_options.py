"""Ask for custom properties at a terminal, and show them: for both command lines."""

from collections.abc import Iterator
from typing import Any, Final

import click

from node.commands import terminal
from node.errors import NotFound
from node.model.properties import CustomProperty
from node.model.vm import VmSpec

TITLE: Final = "custom properties"


class NoSuchDevice(NotFound):
    code = "no_such_device"
    remedy = "See what `vm show` tells of its cards and disks."


class Property(click.ParamType):
    """A custom property such as pincpu=1-4; the value may have more of the signs."""

    name = "name=value"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> CustomProperty:
        name, sign, text = str(value).partition("=")
        if not name or not sign:
            self.fail(f"{value!r} is no property such as pincpu=1-4", param, ctx)
        return CustomProperty(name, text)


property_option = click.option(
    "--property",
    "properties",
    type=Property(),
    multiple=True,
    help="Give it a custom property, which hooks read; may be said again.",
)
change_option = click.option(
    "--property",
    "changes",
    type=Property(),
    multiple=True,
    required=True,
    help="Give it a custom property, or take it away (NAME=); may be said again.",
)
device_option = click.option(
    "--device", help="Of this card or disk of the VM, by its name or id."
)


def device_id(spec: VmSpec, name: str | None) -> str | None:
    """Return the id of a VM's card or disk; NoSuchDevice. None: the VM itself."""
    if name is None:
        return None
    devices = [(str(each.nic_id), each.name) for each in spec.nics]
    devices += [(str(each.disk_id), each.name) for each in spec.disks]
    found = terminal.find(name, devices, lambda each: each[0], lambda each: each[1])
    if found is None:
        raise NoSuchDevice(f"VM {spec.name} has no card or disk {name}")
    return found[0]


def rows(spec: VmSpec) -> Iterator[tuple[str, str]]:
    """Yield what a description of a VM shows of its custom properties."""
    held = [("", spec.custom_properties)]
    held += [(f" of {each.name}", each.custom_properties) for each in spec.nics]
    held += [(f" of {each.name}", each.custom_properties) for each in spec.disks]
    for of, properties in held:
        for number, each in enumerate(properties):
            yield ("" if number else f"{TITLE}{of}", f"{each.name}={each.value}")
