"""promisc: traffic that is copied to a VM's card; what is run, programs note."""

from pathlib import Path

import pytest
from lxml import etree

from tests.unit.hooks import scene

START, END = "after_vm_start", "after_vm_destroy"


def _domain() -> str:
    """Return the XML of a VM that runs: its cards have their ends on the host."""
    parts = scene.domain_xml().split("</interface>")
    return "</interface>".join(
        f'{part}<target dev="tap{number}"/>' if number < len(parts) - 1 else part
        for number, part in enumerate(parts)
    )


def _bridges() -> list[str]:
    found = etree.fromstring(_domain()).findall("devices/interface/source")
    return [str(each.get("bridge")) for each in found]


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """Return a folder with an ip, a tc and a sudo that note what they are run with."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in ("ip", "tc"):
        path = folder / name
        path.write_text(f'#!/bin/sh\necho {name} "$@" >>{tmp_path}/said\n')
        path.chmod(0o755)
    sudo = folder / "sudo"
    sudo.write_text('#!/bin/sh\nshift\nexec "$@"\n')
    sudo.chmod(0o755)
    return folder


def _run(folder: Path, programs: Path, at: str, **properties: str) -> scene.Outcome:
    payload = _domain()
    return scene.run(
        "promisc", at, properties, payload, folder=folder, programs=programs
    )


def _said(folder: Path) -> list[str]:
    said = folder / "said"
    lines = said.read_text().splitlines() if said.exists() else []
    said.unlink(missing_ok=True)
    return lines


def test_nothing_is_done_unless_it_is_wanted(tmp_path: Path, programs: Path) -> None:
    assert _run(tmp_path, programs, START).returncode == 0
    assert _run(tmp_path, programs, END).returncode == 0
    assert _said(tmp_path) == []


def test_traffic_is_mirrored_until_the_vm_ends(tmp_path: Path, programs: Path) -> None:
    bridge = _bridges()[0]
    value = f"{bridge}:mirror"
    started = _run(tmp_path, programs, START, promisc=value)
    assert started.returncode == 0, started.stderr
    assert started.is_untouched
    said = _said(tmp_path)
    assert said[:2] == [
        f"ip link set dev {bridge} promisc on",
        f"tc qdisc replace dev {bridge} clsact",
    ]
    added = [line for line in said if line.startswith("tc filter add")]
    assert [line.split()[5] for line in added] == ["ingress", "egress"]
    assert all(line.endswith("mirred egress mirror dev tap0") for line in added)
    preference = said[2].split()[7]
    assert _run(tmp_path, programs, END).returncode == 0
    assert _said(tmp_path) == [
        f"tc filter del dev {bridge} ingress pref {preference}",
        f"tc filter del dev {bridge} egress pref {preference}",
        f"ip link set dev {bridge} promisc off",
    ]
    _run(tmp_path, programs, END)
    assert _said(tmp_path) == []
    assert scene.may_be_set("promisc", "promisc", value)


def test_network_that_another_vm_watches_stays_open(
    tmp_path: Path, programs: Path
) -> None:
    bridge = _bridges()[0]
    _run(tmp_path, programs, START, promisc=f"{bridge}:mirror")
    (tmp_path / "hooks/promisc-other").write_text(f"{bridge} 20001\n")
    _said(tmp_path)
    _run(tmp_path, programs, END)
    assert not any("promisc off" in line for line in _said(tmp_path))


def test_network_without_a_card_is_refused(tmp_path: Path, programs: Path) -> None:
    outcome = _run(tmp_path, programs, START, promisc="nowhere:mirror")
    scene.assert_refused(outcome, "promisc")
    assert _said(tmp_path) == []


@pytest.mark.parametrize(
    "value", ["lan0", "lan0:redirect", "lan0:mirror,", "../x:mirror"]
)
def test_other_values_are_refused(tmp_path: Path, programs: Path, value: str) -> None:
    scene.assert_refused(_run(tmp_path, programs, START, promisc=value), "promisc")


@scene.hostile
def test_hostile_values_are_refused(tmp_path: Path, programs: Path, value: str) -> None:
    scene.assert_refused(_run(tmp_path, programs, START, promisc=value), "promisc")
    assert _said(tmp_path) == []
    assert not scene.may_be_set("promisc", "promisc", value)
