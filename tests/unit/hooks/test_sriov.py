"""sriov: virtual functions of the host's cards, of which a folder tells."""

from pathlib import Path

import pytest

from tests.unit.hooks import scene

MAC = "56:6f:00:00:00:05"


@pytest.fixture
def sys(tmp_path: Path) -> Path:
    """Return a /sys with a card eth0, and its functions eth5 and eth6."""
    found = tmp_path / "sys"
    pci = found / "devices/pci0000:00"
    (pci / "0000:03:00.0").mkdir(parents=True)
    (found / "class/net").mkdir(parents=True)
    for name, address, mac in (
        ("eth0", "0000:03:00.0", MAC),
        ("eth5", "0000:03:10.2", MAC),
        ("eth6", "000a:83:1f.7", "00:00:00:00:00:00"),
    ):
        card = pci / address / "net" / name
        card.mkdir(parents=True)
        (card / "address").write_text(f"{mac}\n")
        (card / "device").symlink_to(pci / address)
        (found / "class/net" / name).symlink_to(card)
        if name != "eth0":
            (pci / address / "physfn").symlink_to(pci / "0000:03:00.0")
    return found


def _run(
    folder: Path, sys: Path, payload: str | None = None, **properties: str
) -> scene.Outcome:
    given = {"SKERRY_HOOKS_SYS": str(sys), **properties}
    return scene.run("sriov", "before_vm_start", given, payload, folder=folder)


def test_sriov_does_nothing_unless_it_is_wanted(tmp_path: Path, sys: Path) -> None:
    assert _run(tmp_path, sys).is_untouched


def test_sriov_adds_a_card_for_each_function(tmp_path: Path, sys: Path) -> None:
    outcome = _run(tmp_path, sys, sriov="eth5,eth6")
    scene.assert_valid(outcome)
    cards = outcome.tree.findall("devices/interface[@type='hostdev']")
    assert [scene.canonical(each) for each in cards] == [
        scene.canonical(
            f'<interface type="hostdev" managed="yes">{mac}<source><address type="pci" '
            f'domain="{domain}" bus="{bus}" slot="{slot}" function="{function}"/>'
            "</source></interface>"
        )
        for mac, domain, bus, slot, function in (
            (f'<mac address="{MAC}"/>', "0x0000", "0x03", "0x10", "0x2"),
            ("", "0x000a", "0x83", "0x1f", "0x7"),
        )
    ]
    assert scene.may_be_set("sriov", "sriov", "eth5,eth6")


def test_sriov_twice_is_as_once(tmp_path: Path, sys: Path) -> None:
    once = _run(tmp_path, sys, sriov="eth5")
    again = _run(tmp_path, sys, once.after, sriov="eth5")
    assert scene.canonical(again.after) == scene.canonical(once.after)


@pytest.mark.parametrize("value", ["eth0", "eth7", "eth5,eth7"])
def test_sriov_refuses_what_is_no_function_or_gone(
    tmp_path: Path, sys: Path, value: str
) -> None:
    scene.assert_refused(_run(tmp_path, sys, sriov=value), "sriov")


@pytest.mark.parametrize(
    "value", ["..", "../../x", "eth5/", "eth5,", "eth5,eth5", "e" * 16, "eth5 eth6"]
)
def test_sriov_refuses_what_is_no_list_of_names(
    tmp_path: Path, sys: Path, value: str
) -> None:
    scene.assert_refused(_run(tmp_path, sys, sriov=value), "sriov")


@scene.hostile
def test_sriov_refuses_hostile_values(tmp_path: Path, sys: Path, value: str) -> None:
    scene.assert_refused(_run(tmp_path, sys, sriov=value), "sriov")
