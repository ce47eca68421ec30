"""faqemu: VMs without KVM."""

import os
from pathlib import Path

import pytest

from tests.unit.hooks import scene


def _run(
    folder: Path,
    payload: str | None = None,
    *,
    configuration: str = "",
    point: str = "before_vm_start",
    **properties: str,
) -> scene.Outcome:
    file = folder / "vdsm.conf"
    if configuration:
        file.write_text(f"[vars]\n{configuration}\n")
    properties["SKERRY_HOOKS_CONF"] = os.fspath(file)
    return scene.run("faqemu", point, properties, payload, folder=folder)


@pytest.mark.parametrize(
    ("configuration", "properties"),
    [
        ("", {}),
        ("ssl = true", {}),
        ("fake_kvm_support = false", {}),
        ("fake_kvm_support = true", {"fake_kvm_support": "false"}),
        ("", {"fake_kvm_memory": "20480"}),
    ],
    ids=["no-file", "not-set", "off", "property-goes-first", "memory-alone"],
)
def test_faqemu_does_nothing_unless_it_is_wanted(
    tmp_path: Path, configuration: str, properties: dict[str, str]
) -> None:
    outcome = _run(tmp_path, configuration=configuration, **properties)
    assert outcome.returncode == 0
    assert outcome.is_untouched


@pytest.mark.parametrize(
    ("configuration", "properties"),
    [
        ("fake_kvm_support = true", {}),
        ("fake_kvm_support = TRUE\npassword = 50%", {}),
        ("", {"fake_kvm_support": "true"}),
        ("fake_kvm_support = false", {"fake_kvm_support": "1"}),
    ],
    ids=["file", "percent", "property", "property-goes-first"],
)
def test_faqemu_emulates_the_processor(
    tmp_path: Path, configuration: str, properties: dict[str, str]
) -> None:
    outcome = _run(tmp_path, configuration=configuration, **properties)
    scene.assert_valid(outcome)
    assert outcome.tree.get("type") == "qemu"
    (cpu,) = outcome.tree.findall("cpu")
    assert scene.attributes(cpu) == {"mode": "maximum", "check": "none"}
    assert [part.tag for part in cpu] == ["topology"]
    assert outcome.tree.findtext("memory") == "524288"


def test_faqemu_takes_away_what_only_kvm_has(tmp_path: Path) -> None:
    payload = (
        scene.domain_xml()
        .replace("<apic/>", "<apic/><hyperv><relaxed state='on'/></hyperv>")
        .replace("</cpu>", "<feature name='vmx' policy='require'/></cpu>")
    )
    outcome = _run(tmp_path, payload, fake_kvm_support="true")
    scene.assert_valid(outcome)
    assert [part.tag for part in outcome.tree.findall("features/*")] == ["acpi", "apic"]
    assert outcome.tree.findall("cpu/feature") == []


@pytest.mark.parametrize("place", ["configuration", "property"])
def test_faqemu_sets_the_memory(tmp_path: Path, place: str) -> None:
    payload = scene.domain_xml().replace(
        "<vcpu", '<currentMemory unit="MiB">512</currentMemory><vcpu'
    )
    configuration, properties = "fake_kvm_support = true", {}
    if place == "configuration":
        configuration += "\nfake_kvm_memory = 20480"
    else:
        properties = {"fake_kvm_memory": "20480"}
    outcome = _run(tmp_path, payload, configuration=configuration, **properties)
    scene.assert_valid(outcome)
    for name in ("memory", "currentMemory"):
        assert outcome.tree.findtext(name) == "20480"
        assert outcome.tree.xpath(f"string({name}/@unit)") == "KiB"


def test_faqemu_twice_is_as_once(tmp_path: Path) -> None:
    once = _run(tmp_path, fake_kvm_support="true")
    assert _run(tmp_path, once.after, fake_kvm_support="true").after == once.after


@scene.hostile
@pytest.mark.parametrize("name", ["fake_kvm_support", "fake_kvm_memory"])
def test_faqemu_refuses_hostile_values(tmp_path: Path, name: str, value: str) -> None:
    properties = {"fake_kvm_support": "true", name: value}
    scene.assert_refused(_run(tmp_path, None, **properties), name)
    assert not scene.may_be_set("faqemu", name, value)


@pytest.mark.parametrize(
    ("configuration", "expected"),
    [
        ("", False),
        ("fake_kvm_support = false", False),
        ("fake_kvm_support = true", True),
    ],
    ids=["no-file", "off", "on"],
)
def test_faqemu_claims_kvm_if_it_is_configured(
    tmp_path: Path, configuration: str, expected: bool
) -> None:
    outcome = _run(
        tmp_path,
        '{"kvmEnabled": false, "cpuCores": "2"}',
        configuration=configuration,
        point="after_get_caps",
    )
    assert outcome.returncode == 0
    assert outcome.is_untouched is not expected
    assert outcome.json == {"kvmEnabled": expected, "cpuCores": "2"}
