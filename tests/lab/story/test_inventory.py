"""A device comes and goes: the node hears of it from udev, and the fleet sees it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import ovirtsdk4
import pytest

from tests.lab import fleet, waiting
from tests.lab.story.conftest import Story

HOST: Final = "h1"
CARD: Final = "spare0"
# Well under what the node lets pass between two looks of its own (60 s): two changes
# in two such times are not both seen by looking.
TOLD_S: Final = 25.0
# Listeners to devices in /proc/net/netlink: the protocol, and the group of udev.
_UEVENT: Final = "15"
_UDEV_GROUP: Final = "00000002"


@pytest.fixture
def beside(story: Story) -> Iterator[str]:
    """Return a network namespace within the host, for the other end of a card."""
    name = "beside"
    member = story.lab.member(HOST)
    assert member.exec(["ip", "netns", "add", name]).returncode == 0
    yield name
    assert member.exec(["ip", "netns", "delete", name]).returncode == 0


@pytest.fixture
def connection(story: Story, tmp_path: Path) -> Iterator[ovirtsdk4.Connection]:
    """Return a connection that sees what the aggregator's View has of a node."""
    ca_file = tmp_path / "ca.pem"
    ca_file.write_text(story.fleet.session().ca_certificate)
    connection = ovirtsdk4.Connection(
        url=f"https://localhost:{story.fleet.port}/ovirt-engine/api",
        username=fleet.USER,
        password=fleet.PASSWORD,
        ca_file=str(ca_file),
    )
    yield connection
    connection.close()


def test_card_that_comes_and_goes_is_told_by_udev(
    story: Story, beside: str, connection: ovirtsdk4.Connection
) -> None:
    assert _UDEV_GROUP in _groups_of_agent(story)
    hosts = connection.system_service().hosts_service()
    nics = hosts.host_service(story.node_id(HOST)).nics_service()

    def agree(*, is_there: bool) -> bool:
        """Tell whether the node itself and the aggregator both say so."""
        own = story.fleet.node_json(HOST, "devices")["devices"]
        told = {each["name"] for each in own}, {each.name for each in nics.list()}
        return all((CARD in names) is is_there for names in told)

    assert agree(is_there=False)
    _ip(story, "link", "add", CARD, "type", "veth", "peer", "far", "netns", beside)
    waiting.until("the card", lambda: agree(is_there=True), timeout_s=TOLD_S)
    _ip(story, "link", "delete", CARD)
    waiting.until("no such card", lambda: agree(is_there=False), timeout_s=TOLD_S)


def _ip(story: Story, *words: str) -> None:
    result = story.lab.member(HOST).exec(["ip", *words])
    assert result.returncode == 0, result.stderr


def _groups_of_agent(story: Story) -> set[str]:
    """Return to which groups of device events the host's agent listens."""
    member = story.lab.member(HOST)
    (pid,) = (each.pid for each in member.services() if each.name == "agent")
    lines = member.exec(["cat", "/proc/net/netlink"]).stdout.splitlines()
    rows = [line.split() for line in lines[1:]]
    return {row[3] for row in rows if row[1] == _UEVENT and row[2] == str(pid)}
