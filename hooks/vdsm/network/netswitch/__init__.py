"""Be `vdsm.network.netswitch`."""

from vdsm.network.netswitch import configurator

__all__ = ["configurator"]
