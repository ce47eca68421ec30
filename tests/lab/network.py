"""Plug the members into one switch, each with a network namespace of its own.

    skerry-<id>-sw:  bridge `switch` SUBNET.254 ── h1-eth0, h1-eth1, h2-eth0, …
    skerry-<id>-h1:  eth0 ── bridge `ovirtmgmt` SUBNET.1 (guests too),  eth1
    skerry-<id>-a1:  eth0 SUBNET.250

Nothing is in the machine's own network namespace. The text for ip(8) is made by
pure functions.
"""

import json
from typing import Any

from tests.lab import command, layout

_SWITCH_BRIDGE = "switch"


def machine_routes() -> list[dict[str, Any]]:
    """Return the machine's own IPv4 routes as ip(8) reports them."""
    return _query("ip", "-4", "-json", "route", "show")


def machine_interfaces() -> list[dict[str, Any]]:
    """Return the machine's own interfaces with their addresses."""
    return _query("ip", "-json", "address", "show")


def namespaces(lab_id: str) -> list[str]:
    """Return the network namespaces of a lab that exist now."""
    names = [entry["name"] for entry in _query("ip", "-json", "netns", "list")]
    return [name for name in names if layout.is_netns_of(name, lab_id)]


def create(lab: layout.Layout, place: layout.Place) -> None:
    """Make a member's namespace afresh and plug it into the switch."""
    command.check(["ip", "netns", "add", lab.netns(place.name)])
    if place.kind is layout.Kind.SWITCH:
        _batch(lab.netns(place.name), switch_commands(lab, place))
    else:
        _batch(lab.netns(layout.SWITCH), cable_commands(lab, place))
        _batch(lab.netns(place.name), card_commands(place))


def unplug(lab: layout.Layout, place: layout.Place) -> None:
    """Remove a member's cables and its namespace, as far as they exist.

    The kernel removes a namespace later, when it likes; a cable goes at once.
    """
    names = namespaces(lab.lab_id)
    if lab.netns(layout.SWITCH) in names:
        ports = {layout.port_name(place, port) for port in place.ports}
        left = [f"link delete {name}" for name in ports & _ports(lab).keys()]
        _batch(lab.netns(layout.SWITCH), left)
    if lab.netns(place.name) in names:
        delete(lab.netns(place.name))


def delete(name: str) -> None:
    """Remove a namespace; its interfaces and their other ends follow."""
    command.check(["ip", "netns", "delete", name])


def set_cables(lab: layout.Layout, place: layout.Place, *, is_up: bool) -> None:
    """Pull a member's cables out of the switch, or put them back."""
    state = "up" if is_up else "down"
    names = [layout.port_name(place, port) for port in place.ports]
    _batch(lab.netns(layout.SWITCH), [f"link set {name} {state}" for name in names])


def plugged_ports(lab: layout.Layout) -> set[str]:
    """Return the switch's ports that are up."""
    return {name for name, flags in _ports(lab).items() if "UP" in flags}


def entering(lab: layout.Layout, name: str) -> list[str]:
    """Return the words that make the command after them use a member's network."""
    return ["nsenter", f"--net=/run/netns/{lab.netns(name)}", "--"]


def switch_commands(lab: layout.Layout, place: layout.Place) -> list[str]:
    """Return what makes the switch, for `ip -batch`."""
    # A bridge without an address of its own takes the lowest of its ports': at a
    # member's boot it may change, and who knows the old one calls it for 45 s.
    mac = layout.switch_mac_address(lab)
    return [
        "link set lo up",
        # Snooping would hold multicast DNS back until somebody asks for the group.
        f"link add {_SWITCH_BRIDGE} address {mac} type bridge mcast_snooping 0",
        f"address add {place.address}/24 dev {_SWITCH_BRIDGE}",
        f"link set {_SWITCH_BRIDGE} up",
    ]


def cable_commands(lab: layout.Layout, place: layout.Place) -> list[str]:
    """Return what plugs a member in, run in the switch's namespace."""
    commands = []
    for port in place.ports:
        name = layout.port_name(place, port)
        mac = layout.mac_address(lab, place, port)
        commands += [
            f"link add {name} type veth"
            f" peer name {port} address {mac} netns {lab.netns(place.name)}",
            f"link set {name} master {_SWITCH_BRIDGE} up",
        ]
    return commands


def card_commands(place: layout.Place) -> list[str]:
    """Return what gives a member its address, run in the member's namespace."""
    if place.kind is layout.Kind.AGGREGATOR:
        return [
            "link set lo up",
            f"address add {place.address}/24 dev eth0",
            "link set eth0 up",
        ]
    bridge = layout.MANAGEMENT_BRIDGE
    return [
        "link set lo up",
        f"link add {bridge} type bridge mcast_snooping 0",
        f"link set eth0 master {bridge} up",
        "link set eth1 up",
        f"address add {place.address}/24 dev {bridge}",
        f"link set {bridge} up",
    ]


def _ports(lab: layout.Layout) -> dict[str, list[str]]:
    """Return the flags of each interface in the switch's namespace."""
    links = _query("ip", "-n", lab.netns(layout.SWITCH), "-json", "link", "show")
    return {link["ifname"]: link["flags"] for link in links}


def _batch(netns: str, commands: list[str]) -> None:
    command.check(["ip", "-n", netns, "-batch", "-"], input="\n".join(commands) + "\n")


def _query(*argv: str) -> list[dict[str, Any]]:
    answer = command.check(argv)
    return json.loads(answer) if answer.strip() else []
