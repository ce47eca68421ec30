"""Test the choice of the lab's network."""

import ipaddress
from typing import Any

import pytest

from tests.lab import errors, subnet


def networks(*texts: str) -> list[ipaddress.IPv4Network]:
    return [ipaddress.IPv4Network(text) for text in texts]


@pytest.mark.parametrize(
    ("wanted", "used", "expected"),
    [
        (None, [], "10.77.0"),
        ("172.16.5", ["10.77.0.0/24"], "172.16.5"),
        (None, ["192.0.2.0/24"], "10.77.0"),
        (None, ["10.77.0.0/24"], "10.78.0"),
        (None, ["10.76.0.0/15"], "10.78.0"),
        (None, ["10.77.0.9/32", "10.78.0.0/16"], "10.79.0"),
        (None, ["10.64.0.0/10", "10.128.0.0/9"], "10.0.0"),
    ],
    ids=["free", "wanted", "elsewhere", "next", "wider", "two", "wraps"],
)
def test_choose_takes_the_first_free(
    wanted: str | None, used: list[str], expected: str
) -> None:
    assert subnet.choose(wanted, networks(*used)) == expected


@pytest.mark.parametrize(
    ("wanted", "used"),
    [("10.77.0", "10.0.0.0/8"), (None, "10.0.0.0/8")],
    ids=["wanted-is-used", "all-are-used"],
)
def test_choose_refuses_to_hide_a_network(wanted: str | None, used: str) -> None:
    with pytest.raises(errors.Collision, match="SKERRY_LAB_SUBNET"):
        subnet.choose(wanted, networks(used))


def test_used_networks_are_routes_and_addresses_but_no_default() -> None:
    routes = [{"dst": "default"}, {"dst": "10.1.0.0/16"}, {"dst": "10.9.9.9"}]
    interfaces: list[dict[str, Any]] = [
        {
            "addr_info": [
                {"family": "inet", "local": "192.0.2.7", "prefixlen": 24},
                {"family": "inet6", "local": "fd00::7", "prefixlen": 64},
            ]
        },
        {"ifname": "no-address"},
    ]
    assert subnet.used_networks(routes, interfaces) == networks(
        "10.1.0.0/16", "10.9.9.9/32", "192.0.2.0/24"
    )
