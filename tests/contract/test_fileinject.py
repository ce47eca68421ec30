"""The sample fileinject with the real libguestfs, as the user of hooks, in bounds."""

import glob
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.hooks import runner
from node.hooks.points import POINTS
from node.hooks.runner import HookFailed, Occasion, Runner
from node.system.confined import User
from node.units import GiB
from tests.unit.hooks import scene

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(os.geteuid() != 0, reason="scripts become uid 36: needs root"),
    pytest.mark.skipif(
        shutil.which("guestfish") is None or not glob.glob("/boot/vmlinuz-*"),
        reason="libguestfs-tools, or a kernel in /boot for it, is not installed",
    ),
]

USER = User(36, 36)
GROUP = f"skerry-test-fileinject-{os.getpid()}"
POINT = "before_vm_start"


@pytest.fixture
def folder() -> Iterator[Path]:
    """Yield a folder that uid 36 reaches: pytest's own are for root."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture
def image(folder: Path) -> Path:
    """Return a disk with as little of a system as makes one."""
    root = folder / "root"
    for each in ("etc", "bin", "lib", "usr/bin", "var", "tmp"):
        (root / each).mkdir(parents=True)
    (root / "etc/os-release").write_text('ID=debian\nVERSION_ID="12"\n')
    (root / "etc/debian_version").write_text("12.5\n")
    (root / "etc/fstab").write_text("/dev/sda / ext4 defaults 0 1\n")
    shutil.copy("/bin/true", root / "bin/sh")
    made = folder / "disk.raw"
    with made.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-d", root, made], check=True)
    os.chown(made, USER.uid, USER.gid)
    return made


@pytest.fixture
def hooks(folder: Path) -> Iterator[Runner]:
    confinement = runner.confine(GROUP, USER)
    yield Runner(
        POINTS,
        lambda: [scene.HOOKS / "fileinject"],
        folder / "run",
        confinement,
        USER,
        {POINT: 280.0},
        GiB,
    )
    confinement.clear()


def _inject(hooks: Runner, image: Path, value: str) -> None:
    disk = f"<driver type='raw'/><source file='{image}'/>"
    xml = f"<domain><devices><disk device='disk'>{disk}</disk></devices></domain>"
    hooks.run(Occasion(POINT, xml.encode(), {"fileinject": value}, "vm"))


def test_file_is_in_the_guests_system(hooks: Runner, image: Path) -> None:
    _inject(hooks, image, "/etc/motd:Welcome; $(id) `id`")
    shown = ["debugfs", "-R", "cat /etc/motd", str(image)]
    done = subprocess.run(shown, check=True, capture_output=True, text=True)
    assert done.stdout == "Welcome; $(id) `id`"


def test_disk_without_a_system_keeps_the_vm_down(hooks: Runner, image: Path) -> None:
    subprocess.run(["mkfs.ext4", "-qF", image], check=True)
    with pytest.raises(HookFailed, match="fileinject cannot write /etc/motd"):
        _inject(hooks, image, "/etc/motd:Welcome")
