"""Be `vdsm.network.netswitch.configurator`, which cannot be served."""

from typing import NoReturn

from vdsm.refusing import refuse


def netinfo(_compatibility: object = None) -> NoReturn:
    """Refuse to describe the host's networks."""
    refuse("network.netswitch.configurator.netinfo", "read `ip -json link`")
