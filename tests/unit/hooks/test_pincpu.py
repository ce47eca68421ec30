"""pincpu: a VM's processors on processors of the host."""

from pathlib import Path

import pytest

from tests.unit.hooks import scene


def _run(folder: Path, **properties: str) -> scene.Outcome:
    return scene.run("pincpu", "before_vm_start", properties, folder=folder)


def test_pincpu_does_nothing_without_its_property(tmp_path: Path) -> None:
    outcome = _run(tmp_path)
    assert outcome.returncode == 0
    assert outcome.is_untouched


@pytest.mark.parametrize("value", ["0", "1-4", "1-4,^3,6", "0,2,4-7,^5,^6"])
def test_pincpu_sets_the_cpuset(tmp_path: Path, value: str) -> None:
    outcome = _run(tmp_path, pincpu=value)
    scene.assert_valid(outcome)
    vcpu = outcome.tree.find("vcpu")
    assert vcpu is not None
    assert scene.attributes(vcpu) == {"placement": "static", "cpuset": value}
    assert vcpu.text == "2"
    assert scene.may_be_set("pincpu", "pincpu", value)


def test_pincpu_takes_exclusions_from_all_processors(tmp_path: Path) -> None:
    online = Path("/sys/devices/system/cpu/online").read_text().strip()
    outcome = _run(tmp_path, pincpu="^3")
    scene.assert_valid(outcome)
    assert outcome.tree.xpath("string(vcpu/@cpuset)") == f"{online},^3"


def test_pincpu_changes_nothing_else(tmp_path: Path) -> None:
    outcome = _run(tmp_path, pincpu="0")
    tree = outcome.tree
    for vcpu in tree.findall("vcpu"):
        del vcpu.attrib["cpuset"]
    assert scene.canonical(tree) == scene.canonical(outcome.before)


def test_pincpu_twice_is_as_once(tmp_path: Path) -> None:
    once = _run(tmp_path, pincpu="0")
    twice = scene.run(
        "pincpu", "before_vm_start", {"pincpu": "0"}, once.after, folder=tmp_path
    )
    assert twice.after == once.after


@scene.hostile
def test_pincpu_refuses_what_is_no_list(tmp_path: Path, value: str) -> None:
    scene.assert_refused(_run(tmp_path, pincpu=value), "pincpu")
    assert not scene.may_be_set("pincpu", "pincpu", value)


@pytest.mark.parametrize(
    "value", ["4-7,^5-6", "0,4-1", "1,", ",1", "1 2", "1-", "^", "1-2-3", "12345"]
)
def test_pincpu_refuses_lists_with_flaws(tmp_path: Path, value: str) -> None:
    scene.assert_refused(_run(tmp_path, pincpu=value), "pincpu")
