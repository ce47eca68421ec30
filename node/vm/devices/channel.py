"""Attach the channel that the guest agent answers on. Pure.

Source: docs/interop/qemu-ga.rst of QEMU.
"""

from lxml import etree

from node.vm.devices import element, pci

ALIAS = "virtio-serial"
NAME = "org.qemu.guest_agent.0"


def build(place: pci.Place) -> list[etree._Element]:
    """Return the controller and the channel on it."""
    controller = element.make(
        "controller", pci.address(place), type="virtio-serial", index=0
    )
    agent = element.make(
        "channel",
        element.make("source", mode="bind"),
        element.make("target", type="virtio", name=NAME),
        element.make("address", type="virtio-serial", controller=0, bus=0, port=1),
        type="unix",
    )
    return [controller, agent]
