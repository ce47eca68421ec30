"""Root ports and the slots behind them."""

from node.vm.devices import pci


def test_root_ports_share_a_slot_by_eights() -> None:
    ports = pci.root_ports(9)[1:]
    places = [port.find("address") for port in ports]
    told = [
        (place.get("slot"), place.get("function"), place.get("multifunction"))
        for place in places
        if place is not None
    ]
    assert told[0] == ("0x02", "0x0", "on")
    assert told[7] == ("0x02", "0x7", None)
    assert told[8] == ("0x03", "0x0", "on")


def test_assign_gives_new_devices_slots_never_used() -> None:
    assert pci.assign(("a", "c"), (("a", 1), ("b", 7))) == (
        ("a", 1),
        ("b", 7),
        ("c", 8),
    )


def test_assign_takes_slots_that_were_left_when_an_old_bus_is_used_up() -> None:
    aliases = tuple(f"d{number}" for number in range(29))
    full = pci.assign(aliases, (), "pc-i440fx-10.0")
    assert sorted(slot for _, slot in full) == list(range(1, 30))
    rest = tuple(each for each in full if each[0] != "d4")
    told = dict(pci.assign(("new",), rest, "pc-i440fx-10.0"))
    assert told["new"] == dict(full)["d4"]


def test_place_is_behind_a_port_or_on_the_one_bus() -> None:
    assert pci.place("pc-q35-10.0", 3) == pci.Place(3, 0)
    assert pci.place("pc-i440fx-10.0", 1) == pci.Place(0, 3)
    assert pci.place("pc-i440fx-10.0", 29) == pci.Place(0, 31)
