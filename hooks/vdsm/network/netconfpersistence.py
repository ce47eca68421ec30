"""Be `vdsm.network.netconfpersistence`, which cannot be served."""

from vdsm.refusing import refuse

_INSTEAD = "networks of this node are documents of the fleet, not VDSM's files"


class RunningConfig:
    def __init__(self) -> None:
        refuse("network.netconfpersistence.RunningConfig", _INSTEAD)


class PersistentConfig:
    def __init__(self) -> None:
        refuse("network.netconfpersistence.PersistentConfig", _INSTEAD)
