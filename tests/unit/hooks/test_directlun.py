"""directlun: LUNs as disks, for which files stand here."""

from pathlib import Path

import pytest

from tests.unit.hooks import scene

START, ARRIVE = "before_vm_start", "before_vm_migrate_destination"


@pytest.fixture
def mapper(tmp_path: Path) -> Path:
    folder = tmp_path / "mapper"
    folder.mkdir()
    for name in ("360060160f4a03000", "1IET_00010001"):
        (folder / name).touch()
    return folder


def _run(
    folder: Path, mapper: Path, value: str, payload: str | None = None, at: str = START
) -> scene.Outcome:
    given = {"SKERRY_HOOKS_MAPPER": str(mapper), "directlun": value}
    return scene.run("directlun", at, given, payload, folder=folder)


def test_nothing_is_done_unless_it_is_wanted(tmp_path: Path) -> None:
    assert scene.run("directlun", START, {}, folder=tmp_path).is_untouched


def test_luns_become_disks(tmp_path: Path, mapper: Path) -> None:
    value = "360060160f4a03000,1IET_00010001:readonly"
    outcome = _run(tmp_path, mapper, value)
    scene.assert_valid(outcome)
    disks = outcome.tree.findall("devices/disk[@type='block']")
    assert [scene.canonical(each) for each in disks] == [
        scene.canonical(
            '<disk type="block" device="disk" snapshot="no">'
            '<driver name="qemu" type="raw" cache="none" error_policy="stop"/>'
            f'<source dev="{mapper}/{name}"/><target dev="{target}" bus="virtio"/>'
            f"{more}</disk>"
        )
        for name, target, more in (
            ("360060160f4a03000", "vdb", ""),
            ("1IET_00010001", "vdc", "<readonly/>"),
        )
    ]
    assert scene.may_be_set("directlun", "directlun", value)


def test_twice_is_as_once(tmp_path: Path, mapper: Path) -> None:
    once = _run(tmp_path, mapper, "1IET_00010001")
    again = _run(tmp_path, mapper, "1IET_00010001", once.after)
    assert scene.canonical(again.after) == scene.canonical(once.after)


def test_lun_that_is_not_there_keeps_the_vm_away(tmp_path: Path, mapper: Path) -> None:
    for point in (START, ARRIVE):
        outcome = _run(tmp_path, mapper, "1IET_00010001,gone", at=point)
        scene.assert_refused(outcome, "directlun")
    arrived = _run(tmp_path, mapper, "1IET_00010001", at=ARRIVE)
    assert arrived.returncode == 0
    assert arrived.is_untouched


def test_file_is_no_lun(tmp_path: Path) -> None:
    outcome = scene.run("directlun", START, {"directlun": "control"}, folder=tmp_path)
    scene.assert_refused(outcome, "directlun")


@pytest.mark.parametrize(
    "value",
    ["..", "../sda", "a/b", "1IET_00010001,", "a:ro", "1IET_00010001,1IET_00010001"],
)
def test_other_values_are_refused(tmp_path: Path, mapper: Path, value: str) -> None:
    scene.assert_refused(_run(tmp_path, mapper, value), "directlun")


@scene.hostile
def test_hostile_values_are_refused(tmp_path: Path, mapper: Path, value: str) -> None:
    scene.assert_refused(_run(tmp_path, mapper, value), "directlun")
