"""Decide which kernel modules stay."""

import pytest
from imagebuild import modules
from imagebuild.modules import ModuleRule

NET = "kernel/drivers/net/ethernet/intel"
NEEDS = modules.parse_dependencies(
    f"{NET}/ice/ice.ko.xz: kernel/net/core/devlink.ko.xz\n"
    f"{NET}/e1000.ko.xz:\n"
    "kernel/net/core/devlink.ko.xz: kernel/lib/crc.ko.xz\n"
    "kernel/lib/crc.ko.xz:\n"
    "kernel/sound/snd.ko.xz: kernel/lib/crc.ko.xz\n"
)


def rule(pattern: str, *, is_kept: bool = True) -> ModuleRule:
    return ModuleRule(pattern, is_kept, "why")


def test_choose_keeps_what_kept_modules_need() -> None:
    kept = modules.choose([rule("drivers/net/ethernet/intel/ice")], NEEDS)
    assert kept == {
        f"{NET}/ice/ice.ko.xz",
        "kernel/net/core/devlink.ko.xz",
        "kernel/lib/crc.ko.xz",
    }


def test_choose_leaves_out_what_is_denied_unless_it_is_needed() -> None:
    rules = [rule("drivers/net"), rule("net", is_kept=False), rule("lib")]
    denied = rule("drivers/net/ethernet/intel/ice", is_kept=False)
    assert "kernel/net/core/devlink.ko.xz" in modules.choose(rules, NEEDS)
    assert modules.choose([*rules, denied], NEEDS) == {
        f"{NET}/e1000.ko.xz",
        "kernel/lib/crc.ko.xz",
    }


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        pytest.param("drivers/net", True, id="folder"),
        pytest.param("drivers/ne", False, id="whole-names"),
        pytest.param("drivers/ne*", True, id="beginning"),
        pytest.param("drivers/net/ethernet/intel/e1000", True, id="module"),
        pytest.param("e1000", False, id="bare-name"),
    ],
)
def test_rule_fits_folders_and_names(pattern: str, fits: bool) -> None:
    assert rule(pattern).fits(f"{NET}/e1000.ko.xz") is fits


def test_idle_rules_are_told() -> None:
    rules = [rule("sound"), rule("drivers/gone")]
    assert modules.idle(rules, NEEDS) == (rules[1],)


def test_name_is_what_modprobe_says() -> None:
    assert modules.name("kernel/drivers/usb/host/xhci-pci.ko.xz") == "xhci_pci"
