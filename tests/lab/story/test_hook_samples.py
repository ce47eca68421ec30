"""Samples of hooks, seen by real guests: scratch disks, a floppy drive.

Limits of traffic (qos) are not among them: libvirt sets them by a classifier that some
kernels lack (CONFIG_NET_CLS_FW).
"""

from collections.abc import Iterator

import pytest

from tests.lab import waiting
from tests.lab.story.test_hooks import Hooked, hooked

__all__ = ["hooked"]  # the fixture
pytestmark = pytest.mark.lab

FOLDER = "/var/tmp/skerry-samples"
# The controller of floppy drives, as the firmware tells the guest's kernel of it.
_DRIVES = "echo drives $(ls /sys/bus/acpi/devices | grep -c PNP0700) >/dev/ttyS0"


@pytest.fixture
def folder(hooked: Hooked) -> Iterator[str]:
    """Yield a folder on the host that the hooks' user may write to."""
    hooked.shell(f"install -d -o 36 -g 36 -m 0770 {FOLDER}")
    yield FOLDER
    hooked.shell(f"rm -rf {FOLDER}")


def _says(hooked: Hooked, script: str, word: str) -> None:
    """Run a script in the guest, and wait until its console shows a word."""
    hooked.h1.guest(hooked.three.vm, script)
    waiting.until(word, lambda: word in hooked.serial())


def test_scratch_disk_lasts_until_the_vm_ends(hooked: Hooked, folder: str) -> None:
    hooked.put_sample("scratchpad")
    hooked.give(scratchpad=f"64M,{folder}/a")
    hooked.act("start")
    sectors = 64 * 1024 * 1024 // 512
    script = "echo sizes $(cat /sys/block/vd*/size) >/dev/ttyS0"
    _says(hooked, script, str(sectors))
    assert hooked.shell(f"ls {folder}").split() == ["a"]
    hooked.act("stop", manner="force")
    gone = f"ls {folder}"
    waiting.until("its removal", lambda: hooked.shell(gone).split() == [])


def test_guest_has_a_floppy_drive(hooked: Hooked, folder: str) -> None:
    hooked.put_sample("floppy")
    hooked.shell(f"truncate -s 1440K {folder}/f && chown 36:36 {folder}/f")
    hooked.shell(f"chmod 0660 {folder}/f")
    hooked.act("start")
    _says(hooked, _DRIVES, "drives 0")
    hooked.act("stop", manner="force")
    hooked.give(floppy=f"{folder}/f")
    hooked.act("start")
    _says(hooked, _DRIVES, "drives 1")
    hooked.act("stop", manner="force")
