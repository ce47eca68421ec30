"""Say which oVirt this API speaks as: what its clients compare versions with."""

from typing import Final

from node.model.vm import Firmware, VmSpec

# ovirt-ansible-collection calls anything else no oVirt engine.
PRODUCT: Final = "oVirt Engine"
VENDOR: Final = "Skerry"
# The last API that changed what clients see.
MAJOR: Final = 4
MINOR: Final = 5
BUILD: Final = 6
REVISION: Final = 0
# Cluster level of that engine.
LEVEL_MAJOR: Final = 4
LEVEL_MINOR: Final = 7
BLANK_ID: Final = "00000000-0000-0000-0000-000000000000"
EVENT_ORIGIN: Final = "oVirt"
# Ids of graphics consoles are the protocol's name in hexadecimal.
VNC_ID: Final = "vnc".encode("ascii").hex()


def bios_type(spec: VmSpec) -> str:
    """Return oVirt's name of a machine and what starts it."""
    if spec.firmware is Firmware.UEFI:
        return "q35_ovmf"
    is_old = (spec.machine or "").startswith("pc-i440fx-")
    return "i440fx_sea_bios" if is_old else "q35_sea_bios"
