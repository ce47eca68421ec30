"""Be `vdsm.network.netinfo`."""

from vdsm.network.netinfo import cache

__all__ = ["cache"]
