"""floppy: an image in the VM's drive."""

from pathlib import Path

import pytest

from tests.unit.hooks import scene


def _run(folder: Path, payload: str | None = None, **properties: str) -> scene.Outcome:
    return scene.run("floppy", "before_vm_start", properties, payload, folder=folder)


@pytest.fixture
def image(tmp_path: Path) -> str:
    path = tmp_path / "driver's & co.vfd"
    path.write_bytes(bytes(1440 * 1024))
    return str(path)


def test_floppy_does_nothing_unless_it_is_wanted(tmp_path: Path) -> None:
    assert _run(tmp_path).is_untouched


def test_floppy_adds_a_drive(tmp_path: Path, image: str) -> None:
    outcome = _run(tmp_path, floppy=image)
    scene.assert_valid(outcome)
    (disk,) = outcome.tree.findall("devices/disk[@device='floppy']")
    assert scene.canonical(disk) == scene.canonical(
        '<disk type="file" device="floppy"><driver name="qemu" type="raw"/>'
        f'<source file="{image.replace("&", "&amp;")}"/>'
        '<target dev="fda" bus="fdc"/></disk>'
    )
    assert scene.may_be_set("floppy", "floppy", image)


def test_floppy_twice_is_as_once(tmp_path: Path, image: str) -> None:
    once = _run(tmp_path, floppy=image)
    assert _run(tmp_path, once.after, floppy=image).is_untouched


def test_floppy_leaves_another_disk_in_the_drive(tmp_path: Path, image: str) -> None:
    once = _run(tmp_path, floppy=image)
    other = tmp_path / "other.vfd"
    other.touch()
    scene.assert_refused(_run(tmp_path, once.after, floppy=str(other)), "floppy")


@pytest.mark.parametrize("name", ["missing.vfd", "."])
def test_floppy_needs_an_image_that_is_there(tmp_path: Path, name: str) -> None:
    scene.assert_refused(_run(tmp_path, floppy=f"{tmp_path}/{name}"), "floppy")


@scene.hostile
def test_floppy_refuses_what_is_no_path(tmp_path: Path, value: str) -> None:
    scene.assert_refused(_run(tmp_path, floppy=value), "floppy")
    assert not scene.may_be_set("floppy", "floppy", value)


def test_floppy_refuses_a_way_round(tmp_path: Path, image: str) -> None:
    scene.assert_refused(_run(tmp_path, floppy=f"/tmp/..{image}"), "floppy")


@pytest.mark.parametrize("name", ["floppy", "sriov", "scratchpad", "hostusb"])
def test_vm_with_what_is_of_its_host_stays_there(tmp_path: Path, name: str) -> None:
    point = "before_vm_migrate_source"
    outcome = scene.run(name, point, {name: "x"}, folder=tmp_path)
    scene.assert_refused(outcome, name)
    assert scene.run(name, point, {}, folder=tmp_path).returncode == 0
