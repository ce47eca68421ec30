"""ethtool_options: what ethtool is run with; a script stands for it."""

import json
from pathlib import Path

import pytest

from tests.unit.hooks import scene

EXAMPLE = "--coalesce em1 rx-usecs 14 sample-interval 3 --offload * rx on lro on"


@pytest.fixture
def ethtool(tmp_path: Path) -> Path:
    """Return a program that notes its arguments, and cannot do what card em9 asks."""
    path = tmp_path / "ethtool"
    path.write_text(
        f'#!/bin/sh\necho "$@" >>{tmp_path}/said\n'
        'case "$*" in *em9*) echo "not supported" >&2; exit 92;; esac\n'
    )
    path.chmod(0o755)
    return path


def _run(folder: Path, ethtool: Path, networks: object) -> scene.Outcome:
    bond = folder / "sys/class/net/bond0/bonding"
    bond.mkdir(parents=True, exist_ok=True)
    (bond / "slaves").write_text("em1 em2\n")
    sudo = folder / "programs"
    sudo.mkdir(exist_ok=True)
    (sudo / "sudo").write_text('#!/bin/sh\nshift\nexec "$@"\n')
    (sudo / "sudo").chmod(0o755)
    given = {
        "SKERRY_HOOKS_ETHTOOL": str(ethtool),
        "SKERRY_HOOKS_SYS": str(folder / "sys"),
    }
    payload = json.dumps({"request": {"networks": networks}})
    name, point = "ethtool_options", "after_network_setup"
    return scene.run(name, point, given, payload, folder=folder, programs=sudo)


def _network(options: str, **attributes: object) -> dict[str, object]:
    return {"lan": {"custom": {"ethtool_opts": options}, **attributes}}


def _said(folder: Path) -> list[str]:
    said = folder / "said"
    return said.read_text().splitlines() if said.exists() else []


def test_options_are_set_on_each_card(tmp_path: Path, ethtool: Path) -> None:
    outcome = _run(tmp_path, ethtool, _network(EXAMPLE, bonding="bond0"))
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.is_untouched
    assert _said(tmp_path) == [
        "-C em1 rx-usecs 14 sample-interval 3",
        "-K em1 rx on lro on",
        "-K em2 rx on lro on",
    ]
    assert scene.may_be_set("ethtool_options", "ethtool_opts", EXAMPLE)


@pytest.mark.parametrize(
    "networks",
    [
        {},
        {"lan": {"nic": "em1"}},
        {"lan": {"nic": "em1", "custom": {}}},
        {"lan": {"remove": True, "custom": {"ethtool_opts": EXAMPLE}}},
    ],
    ids=["none", "no-custom", "no-options", "removed"],
)
def test_nothing_is_set_unless_it_is_wanted(
    tmp_path: Path, ethtool: Path, networks: object
) -> None:
    assert _run(tmp_path, ethtool, networks).returncode == 0
    assert _said(tmp_path) == []


def test_card_of_another_network_is_refused(tmp_path: Path, ethtool: Path) -> None:
    outcome = _run(tmp_path, ethtool, _network(EXAMPLE, nic="em2"))
    scene.assert_refused(outcome, "ethtool_opts")
    scene.assert_refused(_run(tmp_path, ethtool, _network("-K * rx on")), "no cards")
    assert _said(tmp_path) == []


def test_what_a_card_cannot_do_is_told(tmp_path: Path, ethtool: Path) -> None:
    outcome = _run(tmp_path, ethtool, _network("-K em9 rx on -A * rx off", nic="em9"))
    assert outcome.returncode == 1
    assert "em9: ethtool -K failed (92): not supported" in outcome.stderr
    assert len(_said(tmp_path)) == 2


@pytest.mark.parametrize(
    "options",
    [
        "em1 rx on",
        "-K em1",
        "-f em1 firmware.bin",
        "--flash em1 firmware.bin",
        "-K em1 rx on -f em1 x",
        "-K em1 /etc/passwd",
        "-K em1 rx on;id",
        "-K $(id) rx on",
        "-K ../em1 rx on",
        "-K em1 " + "rx on " * 64,
    ],
)
def test_other_options_are_refused(tmp_path: Path, ethtool: Path, options: str) -> None:
    outcome = _run(tmp_path, ethtool, _network(options, nic="em1"))
    scene.assert_refused(outcome, "ethtool_opts")
    assert _said(tmp_path) == []


@scene.hostile
def test_hostile_options_are_refused(tmp_path: Path, ethtool: Path, value: str) -> None:
    outcome = _run(tmp_path, ethtool, _network(value, nic="em1"))
    scene.assert_refused(outcome, "ethtool_opts")
    assert _said(tmp_path) == []
