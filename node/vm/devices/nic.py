"""Attach a network card: virtio, on the bridge that is named like its network.

Pure.
"""

from lxml import etree

from node.model.ids import NicId
from node.model.vm import Nic
from node.vm.devices import element, pci


def alias(nic_id: NicId) -> str:
    """Return the name that a card has for us and, after ua-, in libvirt."""
    return f"nic-{nic_id}"


def build(nic: Nic, place: pci.Place, boot_order: int | None) -> etree._Element:
    """Return the interface; its boot ROM is there only if the VM boots from it."""
    result = element.make(
        "interface",
        element.make("mac", address=nic.mac),
        element.make("source", bridge=nic.network),
        element.make("model", type="virtio"),
        element.make("link", state="up" if nic.is_linked else "down"),
        type="bridge",
    )
    if boot_order is None:
        result.append(element.make("rom", enabled="no"))
    else:
        result.append(element.make("boot", order=boot_order))
    result.append(element.make("alias", name=f"ua-{alias(nic.nic_id)}"))
    result.append(pci.address(place))
    return result
