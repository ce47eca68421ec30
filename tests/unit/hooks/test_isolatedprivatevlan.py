"""isolatedprivatevlan: a filter before each card."""

from pathlib import Path

import pytest
from lxml import etree

from tests.unit.hooks import scene

GATEWAY = "00:11:22:33:44:55"
FILTERS = sorted((scene.HOOKS / "isolatedprivatevlan").glob("*.xml"))
_SCHEMA = Path("/usr/share/libvirt/schemas/nwfilter.rng")


def _run(folder: Path, value: str, payload: str | None = None) -> scene.Outcome:
    name = "isolatedprivatevlan"
    return scene.run(name, "before_vm_start", {name: value}, payload, folder=folder)


def _filters(outcome: scene.Outcome) -> list[str]:
    scene.assert_valid(outcome)
    found = outcome.tree.findall("devices/interface/filterref")
    return [scene.canonical(each) for each in found]


def test_cards_get_a_filter_with_the_gateway(tmp_path: Path) -> None:
    outcome = _run(tmp_path, GATEWAY.upper().replace("A", "a"))
    expected = scene.canonical(
        '<filterref filter="isolatedprivatevlan-vdsm">'
        f'<parameter name="GATEWAY_MAC" value="{GATEWAY}"/></filterref>'
    )
    assert _filters(outcome) == [expected] * 2


def test_cards_get_one_that_keeps_the_address(tmp_path: Path) -> None:
    value = f"{GATEWAY},192.0.2.7"
    outcome = _run(tmp_path, value)
    expected = scene.canonical(
        '<filterref filter="isolatedprivatevlan-address-vdsm">'
        f'<parameter name="GATEWAY_MAC" value="{GATEWAY}"/>'
        '<parameter name="IP" value="192.0.2.7"/></filterref>'
    )
    assert _filters(outcome) == [expected] * 2
    assert scene.may_be_set("isolatedprivatevlan", "isolatedprivatevlan", value)


def test_twice_is_as_once_and_the_last_counts(tmp_path: Path) -> None:
    once = _run(tmp_path, GATEWAY)
    again = _run(tmp_path, f"{GATEWAY},192.0.2.7", once.after)
    back = _run(tmp_path, GATEWAY, again.after)
    assert scene.canonical(back.after) == scene.canonical(once.after)


@pytest.mark.parametrize(
    "value",
    [
        f"{GATEWAY},",
        f"{GATEWAY},192.0.2.256",
        f"{GATEWAY},192.0.2.07",
        f"{GATEWAY},2001:db8::1",
        f"{GATEWAY},192.0.2.7,192.0.2.8",
        f"{GATEWAY} ",
        "192.0.2.7",
    ],
)
def test_other_values_are_refused(tmp_path: Path, value: str) -> None:
    scene.assert_refused(_run(tmp_path, value), "isolatedprivatevlan")


@scene.hostile
def test_hostile_values_are_refused(tmp_path: Path, value: str) -> None:
    scene.assert_refused(_run(tmp_path, value), "isolatedprivatevlan")
    assert not scene.may_be_set("isolatedprivatevlan", "isolatedprivatevlan", value)


@pytest.mark.parametrize("path", FILTERS, ids=lambda path: path.name)
def test_filter_is_one_that_libvirt_takes(path: Path) -> None:
    if not _SCHEMA.exists():
        pytest.skip(f"libvirt's schema of filters is missing: {_SCHEMA}")
    schema = etree.RelaxNG(etree.parse(_SCHEMA))
    tree = etree.parse(path)
    assert schema.validate(tree), schema.error_log
    assert tree.getroot().get("name") == path.stem
