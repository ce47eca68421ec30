"""Let hooks act on the devices of a VM: on cards that have custom properties.

So VDSM has it: a card without properties is no script's matter, and disks have points
of their own. What scripts make of a card takes its place in the domain.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Final

from lxml import etree

from node.contract.hooks import Describe, Edited, Hooks
from node.model.hooks import HookPoint
from node.model.properties import CustomProperty
from node.model.vm import Disk, Vm
from node.vm.devices import disk as disk_device
from node.vm.devices import nic as nic_device

_DEVICES: Final = "devices"


def edit(hooks: Hooks, vm: Vm, xml: str) -> Edited:
    """Return a domain with its cards as scripts want them; HookFailed."""
    domain = Edited(xml)
    for alias, properties in _cards(vm):
        card = of(domain.text, alias)
        point = HookPoint.BEFORE_DEVICE_CREATE
        edited = hooks.edit(point, vm, card, properties)
        for script, after in edited.edits:
            whole = _with(domain.text, alias, after)
            domain = replace(domain, edits=(*domain.edits, (script, whole)))
        if edited.edits:
            domain = replace(domain, text=_with(domain.text, alias, edited.text))
    return domain


def ask(hooks: Hooks, point: HookPoint, vm: Vm, describe: Describe) -> None:
    """Let scripts forbid what is about to become of a domain's cards; HookFailed."""
    for alias, properties in _cards(vm):
        hooks.ask(point, vm, partial(_described, describe, alias), properties)


def tell(hooks: Hooks, point: HookPoint, vm: Vm, describe: Describe) -> None:
    """Let scripts know what has become of a domain's cards."""
    for alias, properties in _cards(vm):
        hooks.tell(point, vm, partial(_described, describe, alias), properties)


def of(xml: str, alias: str) -> str:
    """Return a device of a domain by its alias; one that is not there is empty."""
    found = _find(etree.fromstring(xml), alias)
    if found is None:
        return "<device/>"
    return etree.tostring(found, encoding="unicode", with_tail=False)


def of_disk(xml: str, disk: Disk) -> str:
    """Return a disk of a domain."""
    return of(xml, disk_device.alias(disk.disk_id))


def _described(describe: Describe, alias: str) -> str:
    return of(describe(), alias)


def _cards(vm: Vm) -> Iterator[tuple[str, tuple[CustomProperty, ...]]]:
    for nic in vm.spec.nics:
        if nic.custom_properties:
            yield nic_device.alias(nic.nic_id), nic.custom_properties


def _find(domain: etree._Element, alias: str) -> etree._Element | None:
    devices = domain.find(_DEVICES)
    for each in devices if devices is not None else ():
        found = each.find("alias")
        if found is not None and found.get("name") in (alias, f"ua-{alias}"):
            return each
    return None


def _with(xml: str, alias: str, device: str) -> str:
    """Return a domain with another device in place of one."""
    domain = etree.fromstring(xml)
    devices, before = domain.find(_DEVICES), _find(domain, alias)
    assert devices is not None, "the domain is built with devices"
    assert before is not None, "the domain is built with this one"
    devices.replace(before, etree.fromstring(device))
    return etree.tostring(domain, encoding="unicode")
