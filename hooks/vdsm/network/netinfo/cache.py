"""Be `vdsm.network.netinfo.cache`, which cannot be served."""

from vdsm.refusing import refuse


class NetInfo:
    def __init__(self, _netinfo: object = None) -> None:
        refuse("network.netinfo.cache.NetInfo", "read `ip -json link`")
