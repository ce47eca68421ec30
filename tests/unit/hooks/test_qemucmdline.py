"""qemucmdline: arguments for QEMU, as they are."""

import json
from pathlib import Path

import pytest

from tests.unit.hooks import scene

_QEMU = {"qemu": "http://libvirt.org/schemas/domain/qemu/1.0"}


def _run(folder: Path, payload: str | None = None, **properties: str) -> scene.Outcome:
    return scene.run(
        "qemucmdline", "before_vm_start", properties, payload, folder=folder
    )


def _arguments(outcome: scene.Outcome) -> list[str | None]:
    (commandline,) = outcome.tree.findall("qemu:commandline", _QEMU)
    return [each.get("value") for each in commandline.findall("qemu:arg", _QEMU)]


def test_qemucmdline_does_nothing_without_its_property(tmp_path: Path) -> None:
    outcome = _run(tmp_path)
    assert outcome.returncode == 0
    assert outcome.is_untouched


@pytest.mark.parametrize(
    "arguments",
    [
        ["-device", "pvpanic"],
        ["-cdrom", "/a path/with 'quotes'\".iso"],
        ["-name", "$(touch /tmp/hooked);`id`&amp;<x/>"],
        ["é", ""],
    ],
    ids=["as-in-ovirt", "quotes", "shell-and-xml", "letters"],
)
def test_qemucmdline_adds_arguments_as_they_are(
    tmp_path: Path, arguments: list[str]
) -> None:
    value = json.dumps(arguments)
    outcome = _run(tmp_path, qemu_cmdline=value)
    scene.assert_valid(outcome)
    assert _arguments(outcome) == arguments
    assert scene.may_be_set("qemucmdline", "qemu_cmdline", value)


@pytest.mark.parametrize("prefix", ["qemu:", "q:", ""])
def test_qemucmdline_adds_to_what_others_gave(tmp_path: Path, prefix: str) -> None:
    name = f"xmlns:{prefix[:-1]}" if prefix else "xmlns"
    given = (
        f"<{prefix}commandline {name}='{_QEMU['qemu']}'>"
        f"<{prefix}arg value='-S'/></{prefix}commandline></domain>"
    )
    payload = scene.domain_xml().replace("</domain>", given)
    outcome = _run(tmp_path, payload, qemu_cmdline='["-device", "pvpanic"]')
    scene.assert_valid(outcome)
    assert _arguments(outcome) == ["-S", "-device", "pvpanic"]


@scene.hostile
def test_qemucmdline_refuses_what_is_no_list(tmp_path: Path, value: str) -> None:
    scene.assert_refused(_run(tmp_path, qemu_cmdline=value), "qemu_cmdline")
    assert not scene.may_be_set("qemucmdline", "qemu_cmdline", value)


@pytest.mark.parametrize(
    "value",
    [
        "{}",
        "[]",
        "[1]",
        "[null]",
        '[["-S"]]',
        '"-S"',
        '["a\\u0000"]',
        '["a\\nb"]',
        '["\\ud800"]',
        "[" * 50000,
        "['-S']",
    ],
)
def test_qemucmdline_refuses_lists_with_flaws(tmp_path: Path, value: str) -> None:
    scene.assert_refused(_run(tmp_path, qemu_cmdline=value), "qemu_cmdline")
