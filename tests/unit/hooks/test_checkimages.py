"""checkimages: qemu-img looks at images before a start."""

import shutil
import subprocess
from pathlib import Path

import pytest
from lxml import etree

from tests.unit.hooks import scene

QEMU_IMG = shutil.which("qemu-img")
pytestmark = pytest.mark.skipif(QEMU_IMG is None, reason="qemu-img is not installed")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.qcow2"
    assert QEMU_IMG is not None
    argv = [QEMU_IMG, "create", "-q", "-f", "qcow2", str(path), "64M"]
    subprocess.run(argv, check=True, timeout=30)
    return path


def _run(folder: Path, image: Path, **properties: str) -> scene.Outcome:
    domain = scene.domain_xml()
    source = etree.fromstring(domain).find("devices/disk/source")
    assert source is not None
    payload = domain.replace(str(source.get("file")), str(image))
    name, point = "checkimages", "before_vm_start"
    given = {"SKERRY_HOOKS_QEMU_IMG": str(QEMU_IMG), **properties}
    return scene.run(name, point, given, payload, folder=folder)


def _damage(image: Path) -> None:
    """Let the refcount table lie behind the end of the image."""
    with image.open("r+b") as file:
        file.seek(48)
        file.write((1 << 40).to_bytes(8, "big"))


@pytest.mark.parametrize(
    "value", ["true", "True", "true,timeout:30", "true,timeout:1.25"]
)
def test_sound_image_may_start(tmp_path: Path, image: Path, value: str) -> None:
    outcome = _run(tmp_path, image, checkimages=value)
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.is_untouched
    assert scene.may_be_set("checkimages", "checkimages", value)


def test_damaged_image_keeps_the_vm_down(tmp_path: Path, image: Path) -> None:
    _damage(image)
    outcome = _run(tmp_path, image, checkimages="true")
    scene.assert_refused(outcome, "checkimages")
    assert "disk.qcow2 damaged" in outcome.stderr


@pytest.mark.parametrize("properties", [{}, {"checkimages": "false"}], ids=str)
def test_nothing_is_checked_unless_it_is_wanted(
    tmp_path: Path, image: Path, properties: dict[str, str]
) -> None:
    _damage(image)
    assert _run(tmp_path, image, **properties).returncode == 0


def test_check_that_takes_too_long_keeps_the_vm_down(
    tmp_path: Path, image: Path
) -> None:
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    outcome = _run(
        tmp_path,
        image,
        checkimages="true,timeout:0.2",
        SKERRY_HOOKS_QEMU_IMG=str(slow),
    )
    scene.assert_refused(outcome, "checkimages")
    assert "in 0.2 s" in outcome.stderr


def test_room_that_is_lost_is_told(tmp_path: Path, image: Path) -> None:
    leaking = tmp_path / "leaking"
    leaking.write_text("#!/bin/sh\nexit 3\n")
    leaking.chmod(0o755)
    outcome = _run(
        tmp_path, image, checkimages="true", SKERRY_HOOKS_QEMU_IMG=str(leaking)
    )
    assert outcome.returncode == 0
    assert "nobody uses" in outcome.stderr


def test_raw_images_are_left_alone(tmp_path: Path) -> None:
    payload = scene.domain_xml().replace('type="qcow2"', 'type="raw"')
    properties = {"checkimages": "true", "SKERRY_HOOKS_QEMU_IMG": "/bin/false"}
    name, point = "checkimages", "before_vm_start"
    outcome = scene.run(name, point, properties, payload, folder=tmp_path)
    assert outcome.returncode == 0, outcome.stderr


@pytest.mark.parametrize("value", ["yes", "true,", "true,timeout:", "true,timeout:-1"])
def test_other_values_are_refused(tmp_path: Path, image: Path, value: str) -> None:
    scene.assert_refused(_run(tmp_path, image, checkimages=value), "checkimages")


@scene.hostile
def test_hostile_values_are_refused(tmp_path: Path, image: Path, value: str) -> None:
    scene.assert_refused(_run(tmp_path, image, checkimages=value), "checkimages")
    assert not scene.may_be_set("checkimages", "checkimages", value)
