"""What the netlink door promises: on the fake, and in a namespace of our own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from node import wire
from node.system.netlink import Address, KernelNetlink, Link, Netlink, Route
from tests.fakes.netlink import LOOPBACK, FakeNetlink, make_link

_NAMESPACE = f"netlink-test-{os.getpid()}"
_OTHER = f"{_NAMESPACE}-other"
_ROOT = Path(__file__).parents[2]
_SETUP = f"""
ip netns add {_NAMESPACE}
ip netns add {_OTHER}
ip -n {_NAMESPACE} link add ovirtmgmt type bridge
ip -n {_NAMESPACE} link add eth0 mtu 1400 type veth peer name peer netns {_OTHER}
ip -n {_NAMESPACE} link set eth0 master ovirtmgmt
ip -n {_OTHER} link set peer up
ip -n {_NAMESPACE} link set eth0 up
ip -n {_NAMESPACE} link set ovirtmgmt up
ip -n {_NAMESPACE} address add 10.77.0.1/24 dev ovirtmgmt
ip -n {_NAMESPACE} route add default via 10.77.0.254 src 10.77.0.1 metric 7
"""
# The door is opened by a process inside the namespace, and its answers come out.
_ASK = """
import sys
from node import wire
from node.system.netlink import KernelNetlink
door = KernelNetlink()
sys.stdout.buffer.write(wire.encode(
    [door.links(), door.addresses(), door.default_routes()]))
"""


def _read_inside() -> FakeNetlink:
    """Return what the real door says in a namespace made for the purpose."""
    result = subprocess.run(
        ["ip", "netns", "exec", _NAMESPACE, sys.executable, "-c", _ASK],
        cwd=_ROOT,
        check=True,
        capture_output=True,
        timeout=60,
    )
    links, addresses, routes = wire.parse(result.stdout)
    return FakeNetlink(
        tuple(wire.from_json(Link, each) for each in links),
        tuple(wire.from_json(Address, each) for each in addresses),
        tuple(wire.from_json(Route, each) for each in routes),
    )


@pytest.fixture(scope="module")
def real() -> Iterator[Netlink]:
    if os.geteuid() != 0:
        pytest.skip("only root can make a network namespace")
    try:
        for line in _SETUP.strip().splitlines():
            subprocess.run(line.split(), check=True, timeout=30)
        yield _read_inside()
    finally:
        for name in (_NAMESPACE, _OTHER):
            subprocess.run(["ip", "netns", "del", name], check=False, timeout=30)


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.real)])
def netlink(request: pytest.FixtureRequest) -> Netlink:
    if request.param == "real":
        door: Netlink = request.getfixturevalue("real")
        return door
    return FakeNetlink(
        (
            LOOPBACK,
            make_link(
                "eth0",
                "veth",
                mtu=1400,
                bridge="ovirtmgmt",
                is_peer_elsewhere=True,
                driver="veth",
            ),
            make_link("ovirtmgmt", "bridge", driver="bridge"),
        ),
        routes=(Route("ovirtmgmt", 4, "10.77.0.1", 7),),
    )


def _link(netlink: Netlink, name: str) -> Link:
    return next(link for link in netlink.links() if link.name == name)


def test_links_tell_the_loopback(netlink: Netlink) -> None:
    assert [each.name for each in netlink.links() if each.is_loopback] == ["lo"]


def test_links_tell_bridges_and_their_ports(netlink: Netlink) -> None:
    assert _link(netlink, "ovirtmgmt").kind == "bridge"
    assert _link(netlink, "eth0").bridge == "ovirtmgmt"


def test_links_tell_a_card_that_leads_out(netlink: Netlink) -> None:
    card = _link(netlink, "eth0")
    assert (card.kind, card.is_peer_elsewhere, card.mtu) == ("veth", True, 1400)
    assert (card.is_up, card.driver, len(card.mac)) == (True, "veth", 17)


def test_addresses_say_where_they_are_and_how_far_they_reach(netlink: Netlink) -> None:
    assert Address("10.77.0.1", "ovirtmgmt", 4, True) in netlink.addresses()


def test_default_routes_say_how_they_leave(netlink: Netlink) -> None:
    assert netlink.default_routes() == (Route("ovirtmgmt", 4, "10.77.0.1", 7),)


def test_door_loads_little_of_its_library() -> None:
    """All of pyroute2 would take a tenth of what the agent may take."""
    script = "import sys, node.system.netlink; print(*sys.modules)"
    argv = [sys.executable, "-c", script]
    result = subprocess.run(
        argv, cwd=_ROOT, check=True, capture_output=True, text=True, timeout=60
    )
    loaded = [each for each in result.stdout.split() if each.startswith("pyroute2.")]
    assert 0 < len(loaded) < 40


def test_links_of_this_machine_can_be_read() -> None:
    assert any(link.is_loopback for link in KernelNetlink().links())
