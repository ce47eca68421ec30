"""hostusb: USB devices of the host, of which a folder tells."""

from pathlib import Path

import pytest

from tests.unit.hooks import scene


@pytest.fixture
def sys(tmp_path: Path) -> Path:
    """Return a /sys with three kinds of devices, one of them twice."""
    found = tmp_path / "sys"
    for number, (vendor, product) in enumerate(
        [("1234", "beef"), ("2222", "3333"), ("0bda", "0001"), ("0bda", "0001")]
    ):
        device = found / "bus/usb/devices" / f"1-{number}"
        device.mkdir(parents=True)
        (device / "idVendor").write_text(f"{vendor}\n")
        (device / "idProduct").write_text(f"{product}\n")
    (found / "bus/usb/devices/1-0:1.0").mkdir()  # an interface has no ids
    return found


def _run(
    folder: Path, sys: Path, payload: str | None = None, **properties: str
) -> scene.Outcome:
    given = {"SKERRY_HOOKS_SYS": str(sys), **properties}
    return scene.run("hostusb", "before_vm_start", given, payload, folder=folder)


def test_hostusb_does_nothing_unless_it_is_wanted(tmp_path: Path, sys: Path) -> None:
    assert _run(tmp_path, sys).is_untouched


def test_hostusb_adds_devices(tmp_path: Path, sys: Path) -> None:
    value = "0x1234:0xBEEF&2222:3333"
    outcome = _run(tmp_path, sys, hostusb=value)
    scene.assert_valid(outcome)
    found = outcome.tree.findall("devices/hostdev")
    assert [scene.canonical(each) for each in found] == [
        scene.canonical(
            '<hostdev mode="subsystem" type="usb"><source>'
            f'<vendor id="0x{vendor}"/><product id="0x{product}"/></source></hostdev>'
        )
        for vendor, product in (("1234", "beef"), ("2222", "3333"))
    ]
    assert scene.may_be_set("hostusb", "hostusb", value)


def test_hostusb_twice_is_as_once(tmp_path: Path, sys: Path) -> None:
    once = _run(tmp_path, sys, hostusb="1234:beef")
    again = _run(tmp_path, sys, once.after, hostusb="0x1234:0xbeef&2222:3333")
    assert len(again.tree.findall("devices/hostdev")) == 2


@pytest.mark.parametrize("value", ["ffff:ffff", "1234:beef&ffff:ffff", "0bda:0001"])
def test_hostusb_refuses_what_is_not_there_once(
    tmp_path: Path, sys: Path, value: str
) -> None:
    scene.assert_refused(_run(tmp_path, sys, hostusb=value), "hostusb")


@pytest.mark.parametrize(
    "value",
    [
        "1234",
        "1234:beef&",
        "1234:beef&0x1234:BEEF",
        "1234:beef,2222:3333",
        "12345:beef",
    ],
)
def test_hostusb_refuses_other_values(tmp_path: Path, sys: Path, value: str) -> None:
    scene.assert_refused(_run(tmp_path, sys, hostusb=value), "hostusb")


@scene.hostile
def test_hostusb_refuses_hostile_values(tmp_path: Path, sys: Path, value: str) -> None:
    scene.assert_refused(_run(tmp_path, sys, hostusb=value), "hostusb")
    assert not scene.may_be_set("hostusb", "hostusb", value)
