"""Attach the memory balloon, which also tells how much the guest uses. Pure."""

from lxml import etree

from node.vm.devices import element, pci

ALIAS = "balloon"
_PERIOD_S = 10  # more often than statistics are taken (15 s)


def build(place: pci.Place) -> etree._Element:
    """Return the balloon at its place."""
    return element.make(
        "memballoon",
        element.make("stats", period=_PERIOD_S),
        pci.address(place),
        model="virtio",
        freePageReporting="on",
    )
