"""Let QEMU run only while it has the VM's lease: sanlock's, through libvirt. Pure."""

from lxml import etree

from node.contract.volumes import VmLease
from node.vm.devices import element


def build(lease: VmLease) -> etree._Element:
    """Return the lease."""
    return element.make(
        "lease",
        element.make("lockspace", text=lease.lockspace),
        element.make("key", text=lease.key),
        element.make("target", path=lease.path.as_posix(), offset=lease.offset),
    )
