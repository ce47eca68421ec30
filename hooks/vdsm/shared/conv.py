"""Be `vdsm.common.conv`."""

from hooking import tobool

__all__ = ["tobool"]
