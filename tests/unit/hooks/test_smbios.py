"""smbios: what a VM reads of its maker."""

from pathlib import Path

import pytest

from tests.unit.hooks import scene


def _run(folder: Path, payload: str | None = None, **properties: str) -> scene.Outcome:
    return scene.run("smbios", "before_vm_start", properties, payload, folder=folder)


def _entries(outcome: scene.Outcome) -> dict[str, str | None]:
    """Return the text of each entry by its table and name."""
    return {
        f"{table.tag}/{entry.get('name')}": entry.text
        for table in outcome.tree.findall("sysinfo[@type='smbios']/*")
        for entry in table
    }


def test_smbios_does_nothing_without_its_property(tmp_path: Path) -> None:
    outcome = _run(tmp_path)
    assert outcome.returncode == 0
    assert outcome.is_untouched


@pytest.mark.parametrize(
    ("value", "entries"),
    [
        (
            "{'serial':'1234'}^{'vendor':'oVirt'}",
            {"system/serial": "1234", "bios/vendor": "oVirt"},
        ),
        (
            "{'version':'7','date':'11/22/2026','release':'1'} ^ {'product': \"x's\"}",
            {
                "bios/version": "7",
                "bios/date": "11/22/2026",
                "bios/release": "1",
                "system/product": "x's",
            },
        ),
        (
            "{'manufacturer':'<a>&lt;$(id)','sku':'é','family':'f'}",
            {
                "system/manufacturer": "<a>&lt;$(id)",
                "system/sku": "é",
                "system/family": "f",
            },
        ),
    ],
    ids=["as-in-ovirt", "several", "signs"],
)
def test_smbios_sets_entries(
    tmp_path: Path, value: str, entries: dict[str, str]
) -> None:
    outcome = _run(tmp_path, smbios=value)
    scene.assert_valid(outcome)
    assert _entries(outcome) == entries
    assert outcome.tree.xpath("string(os/smbios/@mode)") == "sysinfo"
    assert scene.may_be_set("smbios", "smbios", value)


def test_smbios_replaces_what_is_set(tmp_path: Path) -> None:
    once = _run(tmp_path, smbios="{'serial':'1','sku':'2'}")
    again = _run(tmp_path, once.after, smbios="{'serial':'3'}")
    scene.assert_valid(again)
    assert _entries(again) == {"system/serial": "3", "system/sku": "2"}
    assert len(again.tree.findall("sysinfo")) == 1
    assert len(again.tree.findall("os/smbios")) == 1


@scene.hostile
@pytest.mark.parametrize(
    "form",
    ["%s", "{%s}", "{'serial':%s}", "{'%s':'1'}"],
    ids=["all", "dictionary", "value", "name"],
)
def test_smbios_refuses_what_is_no_dictionary(
    tmp_path: Path, form: str, value: str
) -> None:
    wanted = form.replace("%s", value)
    scene.assert_refused(_run(tmp_path, smbios=wanted), "smbios")
    assert not scene.may_be_set("smbios", "smbios", wanted)


@pytest.mark.parametrize(
    "text", ["", " ", "a\\nb", "a\\x00b", "\\ud800", "a^b", "9" * 256, "\x1b[31m"]
)
def test_smbios_refuses_values_that_cannot_be_shown(tmp_path: Path, text: str) -> None:
    scene.assert_refused(_run(tmp_path, smbios=f"{{'serial':'{text}'}}"), "smbios")


@pytest.mark.parametrize("name", ["uuid", "Serial", "asset", ""])
def test_smbios_refuses_names_that_it_does_not_set(tmp_path: Path, name: str) -> None:
    scene.assert_refused(_run(tmp_path, smbios=f"{{'{name}':'1'}}"), "smbios")


@pytest.mark.parametrize("date", ["today", "22/11/2026", "1/32/26", "1/1/1776", "1/1"])
def test_smbios_refuses_what_is_no_date(tmp_path: Path, date: str) -> None:
    scene.assert_refused(_run(tmp_path, smbios=f"{{'date':'{date}'}}"), "smbios")


@pytest.mark.parametrize("date", ["1/2/26", "01/02/1999", "12/31/2026"])
def test_smbios_sets_a_date(tmp_path: Path, date: str) -> None:
    outcome = _run(tmp_path, smbios=f"{{'date':'{date}'}}")
    scene.assert_valid(outcome)
    assert _entries(outcome) == {"bios/date": date}
