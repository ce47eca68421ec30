"""Be `vdsm.common.cpuarch`: which processor the host has, and VMs are to see."""

import os
import platform

from vdsm.shared.config import config

X86_64 = "x86_64"
PPC64 = "ppc64"
PPC64LE = "ppc64le"
AARCH64 = "aarch64"
S390X = "s390x"

SUPPORTED_ARCHITECTURES = (X86_64, PPC64, PPC64LE, AARCH64, S390X)
PAGE_SIZE_BYTES = os.sysconf("SC_PAGESIZE")


class UnsupportedArchitecture(Exception):
    """Nobody knows how to run VMs on this processor."""

    def __str__(self) -> str:
        return f"{self.args[0]} is not an architecture that VMs run on"


def real() -> str:
    """Return the architecture of the host."""
    return _supported(platform.machine())


def effective() -> str:
    """Return the architecture of VMs: the host's, or the one to be faked."""
    if config.getboolean("vars", "fake_kvm_support"):
        return _supported(config.get("vars", "fake_kvm_architecture"))
    return real()


def is_ppc(arch: str) -> bool:
    """Return whether it is POWER."""
    return arch in (PPC64, PPC64LE)


def is_x86(arch: str) -> bool:
    """Return whether it is x86."""
    return arch == X86_64


def is_arm(arch: str) -> bool:
    """Return whether it is ARM."""
    return arch == AARCH64


def is_s390(arch: str) -> bool:
    """Return whether it is a mainframe."""
    return arch == S390X


def _supported(arch: str) -> str:
    if arch not in SUPPORTED_ARCHITECTURES:
        raise UnsupportedArchitecture(arch)
    return arch
