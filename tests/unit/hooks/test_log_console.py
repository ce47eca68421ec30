"""log_console: what a VM writes to its serial port, kept."""

import re
from pathlib import Path

import pytest

from tests.unit.hooks import scene


def _run(folder: Path, payload: str | None = None, **properties: str) -> scene.Outcome:
    return scene.run(
        "log_console", "before_vm_start", properties, payload, folder=folder
    )


def _without_log(name: str = "web") -> str:
    """Return a domain as others build it: its serial port has no log."""
    xml = re.sub("<log [^>]*>", "", scene.domain_xml())
    return xml.replace("<name>web</name>", f"<name>{name}</name>")


def _logs(outcome: scene.Outcome) -> list[dict[str, str]]:
    return list(map(scene.attributes, outcome.tree.findall("devices/serial/log")))


@pytest.mark.parametrize(
    "properties",
    [
        {},
        {"log_console": "off"},
        {"log_console": "off", "log_console_vm_regexp": "web"},
        {"log_console_vm_regexp": "b$"},
    ],
    ids=["unset", "off", "off-goes-first", "another-name"],
)
def test_log_console_does_nothing_unless_it_is_wanted(
    tmp_path: Path, properties: dict[str, str]
) -> None:
    outcome = _run(tmp_path, _without_log(), **properties)
    assert outcome.returncode == 0
    assert outcome.is_untouched


@pytest.mark.parametrize(
    "properties",
    [
        {"log_console": "on"},
        {"log_console": "on", "log_console_vm_regexp": "db"},
        {"log_console_vm_regexp": "w.b$"},
    ],
    ids=["on", "on-goes-first", "its-name"],
)
def test_log_console_adds_a_log(tmp_path: Path, properties: dict[str, str]) -> None:
    outcome = _run(tmp_path, _without_log(), **properties)
    scene.assert_valid(outcome)
    file = "/var/log/libvirt/qemu/web-console.log"
    assert _logs(outcome) == [{"file": file, "append": "on"}]
    for name, value in properties.items():
        assert scene.may_be_set("log_console", name, value)


def test_log_console_leaves_the_log_of_the_node(tmp_path: Path) -> None:
    outcome = _run(tmp_path, log_console="on")
    assert outcome.returncode == 0
    assert outcome.is_untouched


def test_log_console_does_nothing_without_a_port(tmp_path: Path) -> None:
    payload = re.sub("<serial type.*?</serial>", "", _without_log(), flags=re.DOTALL)
    outcome = _run(tmp_path, payload, log_console="on")
    assert outcome.returncode == 0
    assert outcome.is_untouched


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("../../etc/x", ".._.._etc_x-console.log"),
        ("a&lt;b'\"", "a<b'\"-console.log"),
        ("$(id) é", "$(id) é-console.log"),
    ],
    ids=["path", "xml", "shell"],
)
def test_log_console_stays_in_its_folder(tmp_path: Path, name: str, file: str) -> None:
    outcome = _run(tmp_path, _without_log(name), log_console="on")
    scene.assert_valid(outcome)
    assert _logs(outcome)[0]["file"] == f"/var/log/libvirt/qemu/{file}"


@scene.hostile
def test_log_console_refuses_what_is_neither_on_nor_off(
    tmp_path: Path, value: str
) -> None:
    outcome = _run(tmp_path, _without_log(), log_console=value)
    scene.assert_refused(outcome, "log_console")
    assert not scene.may_be_set("log_console", "log_console", value)


@pytest.mark.parametrize("value", ["(", "[", "*", "(" * 4000, "a{99999999999}", "(?P<"])
def test_log_console_refuses_what_is_no_expression(tmp_path: Path, value: str) -> None:
    outcome = _run(tmp_path, _without_log(), log_console_vm_regexp=value)
    scene.assert_refused(outcome, "log_console_vm_regexp")
