"""Be `vdsm.network.ipwrapper`: where `ip` is, and of which kind a device is."""

import os
from pathlib import Path

from vdsm.shared.cmdutils import CommandPath

_IP_BINARY = CommandPath("ip", "/usr/sbin/ip", "/sbin/ip")

# A test puts another folder here.
_DEVICES = Path(os.environ.get("SKERRY_HOOKS_SYS", "/sys"), "class", "net")


class Link:
    """A device of the host's network."""

    @staticmethod
    def _detectType(name: str) -> str:
        """Return bridge, or nic for all else."""
        return "bridge" if (_DEVICES / name / "bridge").exists() else "nic"
