"""macspoof: cards that may send from other MAC addresses."""

from pathlib import Path

import pytest

from tests.unit.hooks import scene

_DEVICE_POINTS = ("before_device_create", "before_nic_hotplug")


def _filtered(xml: str, filter_name: str) -> str:
    """Return the XML with this filter on every card."""
    return xml.replace(
        "</interface>", f'<filterref filter="{filter_name}"/></interface>'
    )


def _run(
    folder: Path, payload: str, point: str = "before_vm_start", **properties: str
) -> scene.Outcome:
    return scene.run("macspoof", point, properties, payload, folder=folder)


@pytest.mark.parametrize(
    "properties",
    [{}, {"macspoof": "false"}, {"macspoof": "0"}, {"ifacemacspoof": "False"}],
    ids=str,
)
def test_macspoof_does_nothing_unless_it_is_wanted(
    tmp_path: Path, properties: dict[str, str]
) -> None:
    payload = _filtered(scene.domain_xml(), "vdsm-no-mac-spoofing")
    outcome = _run(tmp_path, payload, **properties)
    assert outcome.returncode == 0
    assert outcome.is_untouched


@pytest.mark.parametrize("value", ["true", "True", "1"])
@pytest.mark.parametrize("name", ["vdsm-no-mac-spoofing", "no-mac-spoofing"])
def test_macspoof_takes_the_filter_from_all_cards(
    tmp_path: Path, name: str, value: str
) -> None:
    outcome = _run(tmp_path, _filtered(scene.domain_xml(), name), macspoof=value)
    scene.assert_valid(outcome)
    assert scene.canonical(outcome.after) == scene.canonical(scene.domain_xml())


def test_macspoof_leaves_other_filters(tmp_path: Path) -> None:
    payload = _filtered(scene.domain_xml(), "clean-traffic")
    outcome = _run(tmp_path, payload, macspoof="true")
    assert outcome.returncode == 0
    assert outcome.is_untouched


def test_macspoof_has_nothing_to_do_on_what_the_node_builds(tmp_path: Path) -> None:
    outcome = _run(tmp_path, scene.domain_xml(), macspoof="true")
    assert outcome.returncode == 0
    assert outcome.is_untouched


@pytest.mark.parametrize("point", _DEVICE_POINTS)
@pytest.mark.parametrize("name", ["macspoof", "ifacemacspoof"])
def test_macspoof_takes_the_filter_from_a_card(
    tmp_path: Path, point: str, name: str
) -> None:
    card = scene.element_xml("devices/interface")
    payload = _filtered(card, "vdsm-no-mac-spoofing")
    outcome = _run(tmp_path, payload, point, **{name: "true"})
    assert outcome.returncode == 0
    assert scene.canonical(outcome.after) == scene.canonical(card)


@scene.hostile
@pytest.mark.parametrize("name", ["macspoof", "ifacemacspoof"])
def test_macspoof_refuses_what_is_neither_true_nor_false(
    tmp_path: Path, name: str, value: str
) -> None:
    payload = _filtered(scene.domain_xml(), "vdsm-no-mac-spoofing")
    scene.assert_refused(_run(tmp_path, payload, **{name: value}), name)
    assert not scene.may_be_set("macspoof", name, value)
