"""Test what members are made of."""

import configparser
import json
from pathlib import Path

import pytest

from tests.lab import layout, members, network

LAB = layout.Layout("x", Path("/srv/skerry-x"), "10.77.0", 2, 1)
PLACES = {place.name: place for place in layout.places(LAB)}


@pytest.mark.parametrize("name", PLACES)
def test_specification_survives_json(name: str) -> None:
    made = members.specification(LAB, PLACES[name])
    assert json.loads(json.dumps(made))["name"] == name


@pytest.mark.parametrize("name", PLACES)
def test_services_have_one_name_each(name: str) -> None:
    names = [service.name for service in members.services(LAB, PLACES[name])]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("name", "path", "expected"),
    [
        (
            "h2",
            "/etc/skerry/node.conf",
            {
                "node": {
                    "node_id": "11111111-2222-4333-8444-000000000002",
                    "name": "h2",
                    "address": "10.77.0.2",
                    "fetch_gap_s": "1",
                    "guest_wait_s": "3",
                    "permits_scratch_storage": "yes",
                }
            },
        ),
        (
            "a1",
            "/etc/skerry/aggregator.conf",
            {
                "aggregator": {
                    "name": "a1",
                    "address": "10.77.0.250",
                    "upkeep_interval_s": "2",
                }
            },
        ),
    ],
    ids=["host", "aggregator"],
)
def test_files_configure_the_product(
    name: str, path: str, expected: dict[str, dict[str, str]]
) -> None:
    parser = configparser.ConfigParser()
    parser.read_string(members.files(LAB, PLACES[name])[path])
    found = {section: dict(parser[section]) for section in parser.sections()}
    assert found == expected


def test_libvirt_listens_on_its_socket_only() -> None:
    place = PLACES["h1"]
    assert "listen_" not in members.files(LAB, place)["/etc/libvirt/libvirtd.conf"]
    argv = {s.name: s.argv for s in members.services(LAB, place)}["libvirtd"]
    assert argv == ("libvirtd",)


def test_cables_lead_from_the_switch_to_each_card() -> None:
    commands = "\n".join(network.cable_commands(LAB, PLACES["h1"]))
    assert "add h1-eth0 type veth peer name eth0" in commands
    assert "add h1-eth1 type veth peer name eth1" in commands
    assert commands.count("netns skerry-x-h1") == 2


def test_card_commands_give_a_host_a_bridge_and_an_aggregator_none() -> None:
    host = network.card_commands(PLACES["h1"])
    assert "address add 10.77.0.1/24 dev ovirtmgmt" in host
    assert "link set eth0 master ovirtmgmt up" in host
    aggregator = network.card_commands(PLACES["a1"])
    assert "address add 10.77.0.250/24 dev eth0" in aggregator
