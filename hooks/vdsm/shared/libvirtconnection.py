"""Be `vdsm.common.libvirtconnection`, and `vdsm.libvirtconnection`."""

from typing import Any


def get(target: object = None, killOnFailure: bool = True) -> Any:
    """Return a connection to the host's libvirt; the arguments mean nothing here."""
    import libvirt  # not in the standard library: needed by who calls this only

    return libvirt.open("qemu:///system")
