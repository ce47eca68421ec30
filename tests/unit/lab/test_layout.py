"""Test the names, addresses and paths of a lab."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.lab import errors, layout

LAB = layout.Layout("x", Path("/srv/skerry-x"), "10.77.0", 3, 2)
IDS = st.from_regex(r"\A[a-z0-9][a-z0-9-]{0,23}\Z")


def test_places_are_the_address_plan() -> None:
    assert [(p.name, p.address) for p in layout.places(LAB)] == [
        ("sw", "10.77.0.254"),
        ("h1", "10.77.0.1"),
        ("h2", "10.77.0.2"),
        ("h3", "10.77.0.3"),
        ("a1", "10.77.0.250"),
        ("a2", "10.77.0.251"),
    ]


@given(st.integers(1, layout.HOSTS_MAX), st.integers(0, layout.AGGREGATORS_MAX))
def test_places_never_meet(hosts: int, aggregators: int) -> None:
    layout.check_size(hosts, aggregators)
    lab = layout.Layout("x", Path("/x"), "10.0.0", hosts, aggregators)
    places = layout.places(lab)
    guests = range(100, 200)
    assert len({p.name for p in places}) == len(places)
    assert len({p.node_id for p in places}) == len(places)
    assert len({p.number for p in places} - set(guests)) == len(places)


@pytest.mark.parametrize(
    ("hosts", "aggregators"),
    [(0, 1), (100, 1), (3, -1), (3, 5)],
    ids=["no-host", "meets-guests", "negative", "meets-switch"],
)
def test_check_size_refuses_what_has_no_address(hosts: int, aggregators: int) -> None:
    with pytest.raises(errors.BadSetting):
        layout.check_size(hosts, aggregators)


def test_read_settings_returns_defaults_when_nothing_is_set() -> None:
    settings = layout.read_settings({"SKERRY_LAB_SUBNET": ""})
    assert settings == layout.Settings("lab", Path("/srv/skerry-lab"), None)


def test_read_settings_names_the_directory_after_the_lab() -> None:
    settings = layout.read_settings({"SKERRY_LAB_ID": "b"})
    assert settings.directory == Path("/srv/skerry-b")


@pytest.mark.parametrize(
    "environment",
    [
        {"SKERRY_LAB_ID": "A b"},
        {"SKERRY_LAB_ID": "../etc"},
        {"SKERRY_LAB_ID": "x" * 25},
        {"SKERRY_LAB_DIR": "relative"},
        {"SKERRY_LAB_DIR": "/with,comma"},
        {"SKERRY_LAB_DIR": "/with:colon"},
        {"SKERRY_LAB_DIR": "/with blank"},
        {"SKERRY_LAB_DIR": "/" + "long" * 20},
        {"SKERRY_LAB_SUBNET": "10.77"},
        {"SKERRY_LAB_SUBNET": "10.77.256"},
        {"SKERRY_LAB_SUBNET": "10.77.0.0"},
    ],
    ids=lambda environment: "=".join(*environment.items())[:40],
)
def test_read_settings_refuses_what_no_name_can_carry(
    environment: dict[str, str],
) -> None:
    with pytest.raises(errors.BadSetting) as refusal:
        layout.read_settings(environment)
    assert next(iter(environment)) in refusal.value.remedy


@given(IDS, IDS)
def test_no_lab_owns_a_netns_of_another(one: str, other: str) -> None:
    lab = layout.Layout(one, Path("/x"), "10.0.0", 2, 1)
    names = [lab.netns(place.name) for place in layout.places(lab)]
    assert all(layout.is_netns_of(name, one) for name in names)
    assert one == other or not any(layout.is_netns_of(name, other) for name in names)


def test_mac_addresses_are_unicast_local_and_unique() -> None:
    other = layout.Layout("y", Path("/y"), "10.77.0", 3, 2)
    macs = [
        layout.mac_address(lab, place, port)
        for lab in (LAB, other)
        for place in layout.places(lab)
        for port in place.ports
    ]
    macs += [layout.switch_mac_address(lab) for lab in (LAB, other)]
    assert len(set(macs)) == len(macs)
    assert all(mac.startswith("02:") and len(mac) == 17 for mac in macs)
    ours = [mac for mac in macs if layout.is_mac_of(mac, "x")]
    theirs = [mac for mac in macs if layout.is_mac_of(mac, "y")]
    assert sorted(ours + theirs) == sorted(macs)
    assert len(ours) == len(theirs)


@given(IDS, st.integers(1, 9), st.integers(0, 4))
def test_parse_returns_what_was_dumped(lab_id: str, hosts: int, number: int) -> None:
    lab = layout.Layout(lab_id, Path("/srv/x"), "10.1.0", hosts, number)
    assert layout.parse(layout.dump(lab)) == lab
