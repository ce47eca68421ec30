"""What is the same for all sample hooks: how their folders look."""

import json
import os
import re
import stat
from pathlib import Path

import pytest

from tests.unit.hooks import scene

_SAMPLES = sorted(path.parent for path in scene.HOOKS.glob("*/properties.json"))
_SCRIPTS = sorted(scene.HOOKS.glob("*/*/[0-9][0-9]_*"))
_SUDOERS = sorted(scene.HOOKS.glob("*/sudoers"))

samples = pytest.mark.parametrize("sample", _SAMPLES, ids=lambda path: path.name)
scripts = pytest.mark.parametrize(
    "script", _SCRIPTS, ids=lambda path: os.fspath(path.relative_to(scene.HOOKS))
)


@samples
def test_sample_tells_about_itself(sample: Path) -> None:
    text = (sample / "README.md").read_text()
    assert text.startswith(f"# {sample.name}: ")
    assert "**Limits.**" in text
    assert "**Native.**" in text


@samples
def test_sample_declares_its_properties(sample: Path) -> None:
    text = (sample / "README.md").read_text()
    for each in json.loads((sample / "properties.json").read_text()):
        assert each.keys() == {"level", "name", "pattern", "help"}
        assert each["level"] in ("vm", "nic", "disk", "network")
        assert f"`{each['name']}`" in text
        re.compile(each["pattern"])
        assert each["pattern"].startswith("^")
        assert each["pattern"].endswith("$")


@scripts
def test_script_is_one_that_the_runner_takes(script: Path) -> None:
    mode = script.lstat().st_mode
    assert stat.S_ISREG(mode)
    assert mode & stat.S_IXUSR
    assert not mode & (stat.S_IWGRP | stat.S_IWOTH)
    assert script.name == f"50_{script.parent.parent.name}"


@scripts
def test_script_runs_in_the_python_of_the_machine(script: Path) -> None:
    assert script.read_text().startswith('#!/usr/bin/python3\n"""')


@scripts
def test_script_has_no_shell_and_evaluates_nothing(script: Path) -> None:
    found = re.findall(
        r"shell=|os\.system|os\.popen|\beval\(|\bexec\(|getoutput", script.read_text()
    )
    assert found == []


@pytest.mark.parametrize("sudoers", _SUDOERS, ids=lambda path: path.parent.name)
def test_sudoers_lets_the_agent_run_exact_commands(sudoers: Path) -> None:
    rules = [
        line for line in sudoers.read_text().splitlines() if line and line[:2] != "# "
    ]
    for rule in rules:
        # A wildcard matches blanks as well, so it lets any argument follow; and a
        # command alone may have any.
        known = r"/\S+ ([^*?\[!^]+|\^[^*]+\$)"
        assert re.fullmatch(rf"#36 ALL=\(root\) NOPASSWD: {known}", rule), rule


def test_scripts_of_several_points_are_the_same() -> None:
    for name, points in {
        "macspoof": ("before_vm_start", "before_device_create", "before_nic_hotplug"),
        "hugepages": ("before_vm_start", "before_vm_migrate_destination"),
        "directlun": ("before_vm_start", "before_vm_migrate_destination"),
    }.items():
        texts = {
            (scene.HOOKS / name / each / f"50_{name}").read_text() for each in points
        }
        assert len(texts) == 1, name
