"""Choose the lab's network so that it hides nothing the machine can reach.

Pure: the caller reads `ip -j route` and `ip -j address`.
"""

import ipaddress
from collections import abc
from typing import Any

from tests.lab import errors

DEFAULT = "10.77.0"
_SECOND_OCTETS = 256


def used_networks(
    routes: abc.Iterable[abc.Mapping[str, Any]],
    interfaces: abc.Iterable[abc.Mapping[str, Any]],
) -> list[ipaddress.IPv4Network]:
    """Return the IPv4 networks the machine has a route to or an address in.

    The default route is none of them: it leads everywhere.
    """
    texts = [route["dst"] for route in routes if route.get("dst") != "default"]
    for interface in interfaces:
        texts += [
            f"{address['local']}/{address['prefixlen']}"
            for address in interface.get("addr_info", ())
            if address["family"] == "inet"
        ]
    networks = (ipaddress.ip_network(text, strict=False) for text in texts)
    return [net for net in networks if isinstance(net, ipaddress.IPv4Network)]


def choose(wanted: str | None, used: abc.Sequence[ipaddress.IPv4Network]) -> str:
    """Return the wanted subnet, or the default, or the next free 10.N.0.

    Raises `Collision` if the wanted one is in use: the user's choice is not changed.
    """
    if wanted is not None:
        blocker = _blocker(wanted, used)
        if blocker is not None:
            raise errors.Collision(
                "network",
                f"the subnet {wanted}.0/24 meets {blocker} on this machine",
                remedy="set SKERRY_LAB_SUBNET to a free one, or unset it",
            )
        return wanted
    first = int(DEFAULT.split(".")[1])
    for step in range(_SECOND_OCTETS):
        subnet = f"10.{(first + step) % _SECOND_OCTETS}.0"
        if _blocker(subnet, used) is None:
            return subnet
    raise errors.Collision(
        "network",
        "every 10.N.0.0/24 meets a network of this machine",
        remedy="set SKERRY_LAB_SUBNET to three octets that are free here",
    )


def _blocker(
    subnet: str, used: abc.Iterable[ipaddress.IPv4Network]
) -> ipaddress.IPv4Network | None:
    wanted = ipaddress.IPv4Network(f"{subnet}.0/24")
    return next((network for network in used if network.overlaps(wanted)), None)
