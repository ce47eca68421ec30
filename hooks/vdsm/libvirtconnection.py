"""Be `vdsm.libvirtconnection`."""

from vdsm.shared.libvirtconnection import get

__all__ = ["get"]
