"""Read what QEMU's guest agent replies. Pure.

A guest is a stranger: whatever it says is bounded and checked.
Source: qga/qapi-schema.json of QEMU.
"""

import ipaddress
from typing import Any

INTERFACES = "guest-network-get-interfaces"
HOST_NAME = "guest-get-host-name"
OS = "guest-get-osinfo"

_TEXT_MAX = 255
_ADDRESSES_MAX = 64


def read_addresses(reply: Any) -> tuple[str, ...]:
    """Return the addresses of all cards, without loopback and link-local ones."""
    found: dict[str, None] = {}
    for card in _objects(reply):
        for entry in _objects(card.get("ip-addresses")):
            address = _address(entry.get("ip-address"))
            if address is not None:
                found[address] = None
    return tuple(found)[:_ADDRESSES_MAX]


def read_host_name(reply: Any) -> str:
    """Return the guest's name; empty if it does not say."""
    return _text(reply.get("host-name")) if isinstance(reply, dict) else ""


def read_os(reply: Any) -> str:
    """Return the operating system as it names itself; empty if it does not."""
    if not isinstance(reply, dict):
        return ""
    return _text(reply.get("pretty-name")) or _text(reply.get("name"))


def _objects(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        return []
    return [each for each in value if isinstance(each, dict)]


def _address(value: Any) -> str | None:
    if not isinstance(value, str):
        return None
    try:
        address = ipaddress.ip_address(value.partition("%")[0])
    except ValueError:
        return None
    if address.is_loopback or address.is_link_local or address.is_unspecified:
        return None
    return str(address)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        return ""
    return "".join(letter for letter in value if letter.isprintable())[:_TEXT_MAX]
