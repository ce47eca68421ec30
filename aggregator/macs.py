"""Choose MAC addresses that no VM of the fleet has. Pure.

They start with 56:6f, oVirt's default range: locally administered, and its
users' firewalls and DHCP servers know it.
"""

import hashlib
from typing import Final

from aggregator.federation.view import View

PREFIX: Final = "56:6f"
FIRST: Final = "56:6f:00:00:00:00"
LAST: Final = "56:6f:ff:ff:ff:ff"


def free_mac(view: View, seed: str) -> str:
    """Return an address that the View knows nobody to have.

    `seed` is the id of what it is for: the same id gets the same address, and
    two that are created at once get different ones.
    """
    number = 0
    while is_taken(view, mac := _mac(seed, number)):
        number += 1
    return mac


def is_taken(view: View, mac: str) -> bool:
    """Tell whether a VM has an address; it reads the definitions as they are."""
    needle = mac.encode("ascii")
    return any(needle in vm.vm_document for vm in view.vms.values())


def _mac(seed: str, number: int) -> str:
    tail = hashlib.sha256(f"{seed}/{number}".encode()).digest()[:4]
    return ":".join((PREFIX, *(f"{byte:02x}" for byte in tail)))
