"""smartcard: the card of the user at the display, in the VM."""

from pathlib import Path

import pytest

from tests.unit.hooks import scene


def _with_spice() -> str:
    devices = '<devices><graphics type="spice" autoport="yes"/>'
    return scene.domain_xml().replace("<devices>", devices)


def _run(folder: Path, payload: str | None = None, **properties: str) -> scene.Outcome:
    return scene.run("smartcard", "before_vm_start", properties, payload, folder=folder)


@pytest.mark.parametrize(
    "properties",
    [{}, *({"smartcard": value} for value in ("false", "False", "no", "off", "0"))],
    ids=str,
)
def test_smartcard_does_nothing_unless_it_is_wanted(
    tmp_path: Path, properties: dict[str, str]
) -> None:
    outcome = _run(tmp_path, _with_spice(), **properties)
    assert outcome.returncode == 0
    assert outcome.is_untouched


@pytest.mark.parametrize("value", ["true", "True", "yes", "on", "1"])
def test_smartcard_adds_a_reader(tmp_path: Path, value: str) -> None:
    outcome = _run(tmp_path, _with_spice(), smartcard=value)
    scene.assert_valid(outcome)
    (reader,) = outcome.tree.findall("devices/smartcard")
    assert scene.attributes(reader) == {"mode": "passthrough", "type": "spicevmc"}
    assert scene.may_be_set("smartcard", "smartcard", value)


def test_smartcard_twice_is_as_once(tmp_path: Path) -> None:
    once = _run(tmp_path, _with_spice(), smartcard="true")
    assert _run(tmp_path, once.after, smartcard="true").after == once.after


def test_smartcard_is_refused_without_spice(tmp_path: Path) -> None:
    outcome = _run(tmp_path, smartcard="true")
    scene.assert_refused(outcome, "smartcard")
    assert "SPICE" in outcome.stderr


@scene.hostile
def test_smartcard_refuses_what_is_neither_yes_nor_no(
    tmp_path: Path, value: str
) -> None:
    scene.assert_refused(_run(tmp_path, _with_spice(), smartcard=value), "smartcard")
    assert not scene.may_be_set("smartcard", "smartcard", value)
