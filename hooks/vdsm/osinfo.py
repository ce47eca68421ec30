"""Be `vdsm.osinfo`, of which scripts use whether VMs may run VMs."""

import os
from pathlib import Path
from typing import NamedTuple

# A test puts another folder here.
_MODULES = Path(os.environ.get("SKERRY_HOOKS_SYS", "/sys"), "module")


class NestedVirtualization(NamedTuple):
    enabled: bool
    kvm_module: str | None


def nested_virtualization() -> NestedVirtualization:
    """Return whether KVM is set to pass virtualization on, and which module is."""
    for module in ("kvm_intel", "kvm_amd", "kvm"):
        setting = _MODULES / module / "parameters" / "nested"
        if setting.exists() and setting.read_text().strip() in ("Y", "1"):
            return NestedVirtualization(True, module)
    return NestedVirtualization(False, None)
