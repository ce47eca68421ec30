"""Read links, addresses and routes from the kernel: the door to pyroute2.

Only the library's codec and its socket are loaded. Source: rtnetlink(7).
"""

import importlib
import importlib.util
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from node.errors import Failed
from node.system import files

log = logging.getLogger(__name__)

_NET: Final = Path("/sys/class/net")
_MEGABIT: Final = 1_000_000
_FAMILIES: Final = {2: 4, 10: 6}  # AF_INET, AF_INET6
_SCOPE_GLOBAL: Final = 0
_TABLE_MAIN: Final = 254


class NetlinkFailed(Failed):
    code = "netlink_failed"
    remedy = "Read the kernel's log; the agent needs CAP_NET_ADMIN."


@dataclass(frozen=True, slots=True)
class Link:
    index: int
    name: str
    kind: str  # bridge, veth, tun, …; empty for a real card
    mac: str
    mtu: int
    is_up: bool  # it is switched on and has a carrier
    is_loopback: bool = False
    bridge: str = ""  # the bridge or bond that it is a port of
    is_peer_elsewhere: bool = False  # the other end is in another namespace
    driver: str = ""
    speed_bps: int = 0  # 0: not known


@dataclass(frozen=True, slots=True)
class Address:
    address: str
    link: str
    version: int  # of IP
    is_global: bool


@dataclass(frozen=True, slots=True)
class Route:
    """A default route."""

    link: str
    version: int
    source: str  # empty: the kernel chooses an address of the link
    metric: int


class Netlink(Protocol):
    def links(self) -> tuple[Link, ...]: ...

    def addresses(self) -> tuple[Address, ...]: ...

    def default_routes(self) -> tuple[Route, ...]: ...


def _load(name: str) -> Any:
    """Import one module of pyroute2 past its package's own __init__.

    That would load every protocol, a database and a shell: 170 modules, 9 MB.
    """
    if "pyroute2" not in sys.modules:
        spec = importlib.util.find_spec("pyroute2")
        assert spec is not None, "pyroute2 is installed"
        sys.modules["pyroute2"] = importlib.util.module_from_spec(spec)
    return importlib.import_module(f"pyroute2.{name}")


_netlink: Final = _load("netlink")
_rtnl: Final = _load("netlink.rtnl")
_NetlinkError: Final[type[Exception]] = _load("netlink.exceptions").NetlinkError
_NetlinkSocket: Final = _load("netlink.nlsocket").NetlinkSocket
_LinkMessage: Final = _load("netlink.rtnl.ifinfmsg").ifinfmsg
_AddressMessage: Final = _load("netlink.rtnl.ifaddrmsg").ifaddrmsg
_RouteMessage: Final = _load("netlink.rtnl.rtmsg").rtmsg


class KernelNetlink:
    """The kernel, in the network namespace we run in."""

    def links(self) -> tuple[Link, ...]:
        with _open() as kernel:
            found = [dict(_attributes(each), **each) for each in _links(kernel)]
        names = {each["index"]: each["IFLA_IFNAME"] for each in found}
        return tuple(_link(each, names) for each in found)

    def addresses(self) -> tuple[Address, ...]:
        with _open() as kernel:
            names = _names(kernel)
            return tuple(
                Address(
                    attributes.get("IFA_LOCAL") or attributes["IFA_ADDRESS"],
                    names.get(each["index"], ""),
                    _FAMILIES[each["family"]],
                    each["scope"] == _SCOPE_GLOBAL,
                )
                for each in _dump(kernel, _AddressMessage(), _rtnl.RTM_GETADDR)
                if each["family"] in _FAMILIES
                for attributes in [_attributes(each)]
            )

    def default_routes(self) -> tuple[Route, ...]:
        with _open() as kernel:
            names = _names(kernel)
            return tuple(
                Route(
                    names.get(attributes["RTA_OIF"], ""),
                    version,
                    attributes.get("RTA_PREFSRC", ""),
                    attributes.get("RTA_PRIORITY", 0),
                )
                for family, version in _FAMILIES.items()
                for each in _routes(kernel, family)
                for attributes in [_attributes(each)]
                if each["dst_len"] == 0
                and attributes.get("RTA_TABLE") == _TABLE_MAIN
                and "RTA_OIF" in attributes
            )


@contextmanager
def _open() -> Iterator[Any]:
    try:
        with _NetlinkSocket(_netlink.NETLINK_ROUTE) as kernel:
            kernel.register_policy(
                {
                    _rtnl.RTM_NEWLINK: _LinkMessage,
                    _rtnl.RTM_NEWADDR: _AddressMessage,
                    _rtnl.RTM_NEWROUTE: _RouteMessage,
                }
            )
            kernel.bind()
            yield kernel
    except (_NetlinkError, OSError) as error:
        raise NetlinkFailed(f"netlink: {error}", detail=str(error)) from error


def _dump(kernel: Any, request: Any, kind: int) -> tuple[Any, ...]:
    flags = _netlink.NLM_F_REQUEST | _netlink.NLM_F_DUMP
    return tuple(kernel.nlm_request(request, msg_type=kind, msg_flags=flags))


def _links(kernel: Any) -> tuple[Any, ...]:
    return _dump(kernel, _LinkMessage(), _rtnl.RTM_GETLINK)


def _routes(kernel: Any, family: int) -> tuple[Any, ...]:
    request = _RouteMessage()
    request["family"] = family
    return _dump(kernel, request, _rtnl.RTM_GETROUTE)


def _names(kernel: Any) -> dict[int, str]:
    return {each["index"]: each.get_attr("IFLA_IFNAME") for each in _links(kernel)}


def _attributes(message: Any) -> dict[str, Any]:
    return dict(message["attrs"])


def _link(message: dict[str, Any], names: dict[int, str]) -> Link:
    name = message["IFLA_IFNAME"]
    info = message.get("IFLA_LINKINFO")
    kind = (info.get_attr("IFLA_INFO_KIND") or "") if info is not None else ""
    return Link(
        message["index"],
        name,
        kind,
        message.get("IFLA_ADDRESS", ""),
        message["IFLA_MTU"],
        message.get("IFLA_OPERSTATE") == "UP",
        bool(message["flags"] & 0x8),  # IFF_LOOPBACK
        names.get(message.get("IFLA_MASTER", 0), ""),
        "IFLA_LINK_NETNSID" in message,
        _driver(name) or kind,
        _speed_bps(name),
    )


def _driver(name: str) -> str:
    try:
        return (_NET / name / "device" / "driver").readlink().name
    except OSError:
        return ""


def _speed_bps(name: str) -> int:
    """Return the speed; the kernel says -1, or nothing, if it knows none."""
    text = files.read_text(_NET / name / "speed")
    return int(text) * _MEGABIT if text.isdecimal() else 0
