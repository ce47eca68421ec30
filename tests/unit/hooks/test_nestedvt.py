"""nestedvt: VMs inside of VMs, where the host's KVM is set to."""

import os
from pathlib import Path

import pytest

from tests.unit.hooks import scene


def _run(
    folder: Path, payload: str | None = None, *, nested: str | None, **properties: str
) -> scene.Outcome:
    """Run it on a host whose kvm_intel has this setting; None: it has no module."""
    properties["SKERRY_HOOKS_SYS"] = os.fspath(folder)
    if nested is not None:
        setting = folder / "module" / "kvm_intel" / "parameters" / "nested"
        setting.parent.mkdir(parents=True, exist_ok=True)
        setting.write_text(nested)
    return scene.run("nestedvt", "before_vm_start", properties, payload, folder=folder)


def _features(outcome: scene.Outcome) -> list[dict[str, str]]:
    return list(map(scene.attributes, outcome.tree.findall("cpu/feature")))


@pytest.mark.parametrize(
    ("nested", "properties"),
    [(None, {}), ("N\n", {}), ("0\n", {}), ("Y\n", {"nestedvt": "false"})],
    ids=["no-module", "off", "off-as-number", "not-this-vm"],
)
def test_nestedvt_does_nothing_where_it_may_not(
    tmp_path: Path, nested: str | None, properties: dict[str, str]
) -> None:
    outcome = _run(tmp_path, nested=nested, **properties)
    assert outcome.returncode == 0
    assert outcome.is_untouched


@pytest.mark.parametrize("nested", ["Y\n", "1\n"])
@pytest.mark.parametrize("properties", [{}, {"nestedvt": "true"}], ids=str)
def test_nestedvt_requires_the_feature(
    tmp_path: Path, nested: str, properties: dict[str, str]
) -> None:
    outcome = _run(tmp_path, nested=nested, **properties)
    scene.assert_valid(outcome)
    assert _features(outcome) == [{"policy": "require", "name": "vmx"}]


def test_nestedvt_knows_amd(tmp_path: Path) -> None:
    setting = tmp_path / "module" / "kvm_amd" / "parameters" / "nested"
    setting.parent.mkdir(parents=True)
    setting.write_text("1\n")
    outcome = _run(tmp_path, nested=None)
    scene.assert_valid(outcome)
    assert _features(outcome) == [{"policy": "require", "name": "svm"}]


def test_nestedvt_replaces_what_was_said_of_the_feature(tmp_path: Path) -> None:
    payload = scene.domain_xml().replace(
        "</cpu>", '<feature name="vmx" policy="disable"/></cpu>'
    )
    outcome = _run(tmp_path, payload, nested="Y")
    scene.assert_valid(outcome)
    assert _features(outcome) == [{"policy": "require", "name": "vmx"}]


def test_nestedvt_makes_the_processor_that_is_not_described(tmp_path: Path) -> None:
    payload = '<domain type="kvm"><name>a</name></domain>'
    outcome = _run(tmp_path, payload, nested="Y")
    assert outcome.returncode == 0
    assert outcome.tree.xpath("string(cpu/@mode)") == "host-model"
    assert _features(outcome) == [{"policy": "require", "name": "vmx"}]


def test_nestedvt_leaves_emulated_vms(tmp_path: Path) -> None:
    payload = scene.domain_xml().replace('type="kvm"', 'type="qemu"', 1)
    outcome = _run(tmp_path, payload, nested="Y")
    assert outcome.returncode == 0
    assert outcome.is_untouched


def test_nestedvt_is_refused_where_the_host_cannot(tmp_path: Path) -> None:
    scene.assert_refused(_run(tmp_path, nested="N", nestedvt="true"), "nestedvt")


@scene.hostile
def test_nestedvt_refuses_what_is_neither_true_nor_false(
    tmp_path: Path, value: str
) -> None:
    scene.assert_refused(_run(tmp_path, nested="Y", nestedvt=value), "nestedvt")
    assert not scene.may_be_set("nestedvt", "nestedvt", value)
