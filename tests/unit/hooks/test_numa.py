"""numa: a VM's memory from some nodes of the host."""

from pathlib import Path

import pytest

from tests.unit.hooks import scene


def _run(folder: Path, payload: str | None = None, **properties: str) -> scene.Outcome:
    return scene.run("numa", "before_vm_start", properties, payload, folder=folder)


def test_numa_does_nothing_without_its_property(tmp_path: Path) -> None:
    outcome = _run(tmp_path)
    assert outcome.returncode == 0
    assert outcome.is_untouched


@pytest.mark.parametrize(
    ("value", "mode", "nodes"),
    [
        ("strict:1-4,^3", "strict", "1-4,^3"),
        ("interleave:0,1", "interleave", "0,1"),
        ("preferred:0", "preferred", "0"),
    ],
)
def test_numa_tunes_the_memory(
    tmp_path: Path, value: str, mode: str, nodes: str
) -> None:
    outcome = _run(tmp_path, numa=value)
    scene.assert_valid(outcome)
    (memory,) = outcome.tree.findall("numatune/memory")
    assert scene.attributes(memory) == {"mode": mode, "nodeset": nodes}
    assert scene.may_be_set("numa", "numa", value)


def test_numa_takes_exclusions_from_all_nodes(tmp_path: Path) -> None:
    online = Path("/sys/devices/system/node/online").read_text().strip()
    outcome = _run(tmp_path, numa="strict:^3")
    scene.assert_valid(outcome)
    assert outcome.tree.xpath("string(numatune/memory/@nodeset)") == f"{online},^3"


def test_numa_refuses_a_vm_that_is_tuned_already(tmp_path: Path) -> None:
    once = _run(tmp_path, numa="strict:0")
    assert once.returncode == 0
    scene.assert_refused(_run(tmp_path, once.after, numa="strict:0"), "numa")


@scene.hostile
@pytest.mark.parametrize("form", ["{}", "strict:{}", "{}:0"])
def test_numa_refuses_what_is_no_mode_and_nodes(
    tmp_path: Path, form: str, value: str
) -> None:
    wanted = form.format(value)
    scene.assert_refused(_run(tmp_path, numa=wanted), "numa")
    assert not scene.may_be_set("numa", "numa", wanted)


@pytest.mark.parametrize(
    "value",
    ["preferred:0-1", "strict:0-3,^1-2", "strict:4-1", "restrictive:0", "0", "strict"],
)
def test_numa_refuses_what_qemu_does_not_do(tmp_path: Path, value: str) -> None:
    scene.assert_refused(_run(tmp_path, numa=value), "numa")
