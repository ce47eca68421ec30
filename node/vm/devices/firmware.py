"""Choose what starts a guest: SeaBIOS, or OVMF with variables of its own. Pure.

Source: Debian's package ovmf, which has the same paths in 12 and 13.
"""

from pathlib import Path

from lxml import etree

from node.model.vm import Firmware
from node.vm.devices import element

OVMF_CODE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
OVMF_VARIABLES = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")  # what a VM's own start as


def build(firmware: Firmware, machine: str, nvram: Path | None) -> etree._Element:
    """Return the os element; `nvram` has the variables of a VM with UEFI."""
    result = element.make(
        "os", element.make("type", text="hvm", arch="x86_64", machine=machine)
    )
    if firmware is Firmware.UEFI:
        assert nvram is not None, "UEFI has variables"
        code = OVMF_CODE.as_posix()
        loader = element.make("loader", text=code, readonly="yes", type="pflash")
        result.append(loader)
        result.append(element.make("nvram", text=nvram.as_posix()))
    return result
