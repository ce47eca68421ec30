"""vmfex: cards under a port profile of the switch."""

from pathlib import Path

import pytest

from tests.unit.hooks import scene

GOOD = f"{{'{scene.MAC.upper()}':'Profile-1'}}"


def _run(folder: Path, payload: str | None = None, **properties: str) -> scene.Outcome:
    return scene.run("vmfex", "before_vm_start", properties, payload, folder=folder)


def test_vmfex_does_nothing_unless_it_is_wanted(tmp_path: Path) -> None:
    assert _run(tmp_path).is_untouched


def test_vmfex_moves_the_card_that_is_named(tmp_path: Path) -> None:
    outcome = _run(tmp_path, vmfex=GOOD)
    scene.assert_valid(outcome)
    moved, other = outcome.tree.findall("devices/interface")
    assert moved.get("type") == "network"
    (source,) = moved.findall("source")
    assert scene.attributes(source) == {"network": "direct-pool"}
    (port,) = moved.findall("virtualport")
    assert scene.canonical(port) == scene.canonical(
        '<virtualport type="802.1Qbh"><parameters profileid="Profile-1"/></virtualport>'
    )
    assert other.get("type") == "bridge"
    assert scene.may_be_set("vmfex", "vmfex", GOOD)


def test_vmfex_moves_several(tmp_path: Path) -> None:
    value = f'{{"{scene.MAC}": "a", "{scene.OTHER_MAC}": "b"}}'
    outcome = _run(tmp_path, vmfex=value)
    scene.assert_valid(outcome)
    profiles = outcome.tree.findall("devices/interface/virtualport/parameters")
    assert [each.get("profileid") for each in profiles] == ["a", "b"]
    assert scene.may_be_set("vmfex", "vmfex", value)


def test_vmfex_twice_is_as_once(tmp_path: Path) -> None:
    once = _run(tmp_path, vmfex=GOOD)
    again = _run(tmp_path, once.after, vmfex=GOOD)
    assert scene.canonical(again.after) == scene.canonical(once.after)


def test_vmfex_refuses_a_card_that_is_not_there(tmp_path: Path) -> None:
    value = "{'52:54:00:ff:ff:ff':'a'}"
    scene.assert_refused(_run(tmp_path, vmfex=value), "vmfex")


@pytest.mark.parametrize(
    "value",
    [
        "{}",
        "[]",
        f"{{'{scene.MAC}':'{'p' * 40}'}}",
        f"{{'{scene.MAC}':'a b'}}",
        f"{{'{scene.MAC}':7}}",
        "{7:'a'}",
        "{'eth0':'a'}",
    ],
)
def test_vmfex_refuses_what_names_no_profiles(tmp_path: Path, value: str) -> None:
    scene.assert_refused(_run(tmp_path, vmfex=value), "vmfex")
    assert not scene.may_be_set("vmfex", "vmfex", value)


@scene.hostile
def test_vmfex_refuses_hostile_values(tmp_path: Path, value: str) -> None:
    scene.assert_refused(_run(tmp_path, vmfex=value), "vmfex")
    assert not scene.may_be_set("vmfex", "vmfex", value)
