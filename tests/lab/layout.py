"""Decide every name, address and path of one lab.

Pure, but for `read_settings`, which is given the environment. All names carry
the lab's id, so that two labs on one machine never meet.

    SUBNET.1 … .99      hosts h1, h2, …       nodes
    SUBNET.100 … .199   guests                by DHCP
    SUBNET.250 … .253   aggregators a1, a2, …
    SUBNET.254          sw                    the switch, DHCP and DNS
"""

import enum
import hashlib
import json
import re
from collections import abc
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.lab import errors

CHECKOUT = Path(__file__).resolve().parents[2]
VIRTUAL_ENVIRONMENT = CHECKOUT / ".venv"
MIRROR = CHECKOUT / "build" / "mirror" / "mirror"  # mirror.c, compiled

DEFAULT_ID = "lab"
DEFAULT_HOSTS = 3
DEFAULT_AGGREGATORS = 1
HOSTS_MAX = 99  # guests' addresses begin at .100
AGGREGATORS_MAX = 4  # .250 to .253
AGGREGATOR_FIRST = 250
SWITCH = "sw"
SWITCH_NUMBER = 254
MANAGEMENT_BRIDGE = "ovirtmgmt"

# A unix socket's path has at most 107 bytes; the longest below the lab's directory
# is members/h99/control.sock, and QEMU and sanlock need room for theirs.
DIRECTORY_LENGTH_MAX = 64


class Kind(enum.StrEnum):
    """Say what a member of the lab is."""

    HOST = "host"
    AGGREGATOR = "aggregator"
    SWITCH = "switch"


@dataclass(frozen=True, slots=True)
class Place:
    """One member's name and address."""

    name: str
    kind: Kind
    number: int  # the last octet of its address
    address: str
    node_id: str
    ports: tuple[str, ...]  # its network cards, each plugged into the switch


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user asked for through the environment."""

    lab_id: str
    directory: Path
    subnet: str | None  # None: the first free one


@dataclass(frozen=True, slots=True)
class Layout:
    """One lab: its id, where it lies on disk, its network and its size."""

    lab_id: str
    directory: Path
    subnet: str  # the first three octets
    hosts: int
    aggregators: int

    @property
    def prefix(self) -> str:
        """Return what every name of this lab on the machine begins with."""
        return f"skerry-{self.lab_id}"

    @property
    def shared(self) -> Path:
        """Return the directory that all hosts mount as their shared storage."""
        return self.directory / "shared"

    @property
    def witness(self) -> Path:
        """Return the directory where the mirrors of the storage bear witness."""
        return self.directory / "witness"

    @property
    def watchdog(self) -> Path:
        """Return the directory of the stand-in for the hosts' watchdogs."""
        return self.directory / "watchdog"

    @property
    def guest(self) -> Path:
        """Return the directory of the guest's disk, kernel and initial RAM disk."""
        return self.directory / "guest"

    def netns(self, name: str) -> str:
        """Return the name of a member's network namespace."""
        return f"{self.prefix}-{name}"

    def member_directory(self, name: str) -> Path:
        """Return the directory that holds a member's disk and records."""
        return self.directory / "members" / name

    def witness_log(self, name: str) -> Path:
        """Return the log of every change that a host made to the shared storage."""
        return self.witness / f"{name}.log"

    def watchdog_socket(self, name: str) -> Path:
        """Return the socket where a host's sanlock finds its wdmd."""
        return self.watchdog / f"{name}.sock"

    def fault_file(self, name: str) -> Path:
        """Return the file that says how a host's shared storage fails now."""
        return self.witness / f"{name}.fault"


def read_settings(environment: abc.Mapping[str, str]) -> Settings:
    """Return what the environment asks for; refuse what no name can carry."""
    lab_id = environment.get("SKERRY_LAB_ID") or DEFAULT_ID
    directory = environment.get("SKERRY_LAB_DIR") or f"/srv/skerry-{lab_id}"
    subnet = environment.get("SKERRY_LAB_SUBNET") or None
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,23}", lab_id):
        raise _bad_setting(
            f"the lab id {lab_id!r} is not 1 to 24 of a-z, 0-9 and '-'",
            "set SKERRY_LAB_ID to a plain word",
        )
    # A comma or a colon would end a mount option; a blank, a word of the launcher.
    if not re.fullmatch(r"(/[A-Za-z0-9._-]+)+", directory):
        raise _bad_setting(
            f"the directory {directory!r} is not a plain absolute path",
            "set SKERRY_LAB_DIR to one of letters, digits and . _ - only",
        )
    if len(directory) > DIRECTORY_LENGTH_MAX:
        raise _bad_setting(
            f"the directory {directory!r} is longer than {DIRECTORY_LENGTH_MAX} bytes",
            "set SKERRY_LAB_DIR to a shorter one: unix sockets lie below it",
        )
    if subnet is not None and not _is_subnet(subnet):
        raise _bad_setting(
            f"the subnet {subnet!r} is not three octets such as 10.77.0",
            "set SKERRY_LAB_SUBNET to three octets",
        )
    return Settings(lab_id, Path(directory), subnet)


def check_size(hosts: int, aggregators: int) -> None:
    """Refuse a number of members that the address plan has no room for."""
    if not 1 <= hosts <= HOSTS_MAX or not 0 <= aggregators <= AGGREGATORS_MAX:
        raise _bad_setting(
            f"{hosts} hosts and {aggregators} aggregators do not fit",
            f"ask for 1 to {HOSTS_MAX} hosts and 0 to {AGGREGATORS_MAX} aggregators",
        )


def places(layout: Layout) -> tuple[Place, ...]:
    """Return every member: the switch first, since the others plug into it."""
    numbers = [(SWITCH, Kind.SWITCH, SWITCH_NUMBER)]
    numbers += [(f"h{n}", Kind.HOST, n) for n in range(1, layout.hosts + 1)]
    numbers += [
        (f"a{n + 1}", Kind.AGGREGATOR, AGGREGATOR_FIRST + n)
        for n in range(layout.aggregators)
    ]
    ports = {Kind.SWITCH: (), Kind.HOST: ("eth0", "eth1"), Kind.AGGREGATOR: ("eth0",)}
    return tuple(
        Place(
            name=name,
            kind=kind,
            number=number,
            address=f"{layout.subnet}.{number}",
            node_id=f"11111111-2222-4333-8444-{number:012d}",
            ports=ports[kind],
        )
        for name, kind, number in numbers
    )


def port_name(place: Place, port: str) -> str:
    """Return the switch's end of a member's network card."""
    return f"{place.name}-{port}"


def mac_address(layout: Layout, place: Place, port: str) -> str:
    """Return a card's address: the same at every boot, other in every lab."""
    prefix = _mac_prefix(layout.lab_id)
    return f"{prefix}:{place.number:02x}:{place.ports.index(port):02x}"


def switch_mac_address(layout: Layout) -> str:
    """Return the switch's own address, of which no card has the like."""
    return f"{_mac_prefix(layout.lab_id)}:{SWITCH_NUMBER:02x}:00"


def is_mac_of(mac: str, lab_id: str) -> bool:
    """Tell whether a card's address is one of this lab's."""
    return mac.startswith(f"{_mac_prefix(lab_id)}:")


def is_netns_of(name: str, lab_id: str) -> bool:
    """Tell whether a network namespace belongs to this lab, and to no other.

    "skerry-lab-h1-h1" belongs to the lab "lab-h1", not to the lab "lab".
    """
    return bool(re.fullmatch(rf"skerry-{re.escape(lab_id)}-(sw|[ah]\d+)", name))


def dump(layout: Layout) -> str:
    """Return the layout as the text that `parse` reads."""
    return json.dumps({**asdict(layout), "directory": str(layout.directory)})


def parse(text: str) -> Layout:
    """Return the layout that `dump` wrote."""
    fields = json.loads(text)
    return Layout(**{**fields, "directory": Path(fields["directory"])})


def _mac_prefix(lab_id: str) -> str:
    digest = hashlib.sha256(lab_id.encode()).digest()
    return f"02:{digest[0]:02x}:{digest[1]:02x}:{digest[2]:02x}"


def _is_subnet(text: str) -> bool:
    octets = text.split(".")
    return len(octets) == 3 and all(
        re.fullmatch(r"\d{1,3}", octet) and int(octet) < 256 for octet in octets
    )


def _bad_setting(problem: str, remedy: str) -> errors.BadSetting:
    return errors.BadSetting("settings", problem, remedy=remedy)
