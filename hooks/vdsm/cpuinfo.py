"""Be `vdsm.cpuinfo`: what the kernel says of the processor."""

from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_NAMES = ("flags", "Features", "features")  # x86, ARM, mainframes


def flags() -> list[str]:
    """Return the features of the first processor, or none."""
    for line in _CPUINFO.read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in _NAMES:
            return value.split()
    return []
