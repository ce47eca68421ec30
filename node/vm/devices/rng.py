"""Attach a source of randomness, so that a guest's first boot does not wait.

Pure.
"""

from lxml import etree

from node.vm.devices import element, pci

ALIAS = "rng"


def build(place: pci.Place) -> etree._Element:
    """Return the generator at its place."""
    return element.make(
        "rng",
        element.make("backend", text="/dev/urandom", model="random"),
        pci.address(place),
        model="virtio",
    )
