"""Samples of hooks, seen by real guests: scratch disks, a floppy drive, huge pages.

What needs root goes through the real sudo, by the rules that the samples ship.

Limits of traffic (qos) are not among them: libvirt sets them by a classifier that some
kernels lack (CONFIG_NET_CLS_FW).
"""

import base64
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import waiting
from tests.lab.story.test_hooks import SAMPLES, Hooked, hooked
from tests.lab.story.test_pool_vms import Refused

__all__ = ["hooked"]  # the fixture
pytestmark = pytest.mark.lab

FOLDER = "/var/tmp/skerry-samples"
PAGES = Path("/sys/kernel/mm/hugepages/hugepages-2048kB")
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


@contextlib.contextmanager
def _pages(count: int) -> Iterator[None]:
    """Have the kernel keep huge pages, beside those that it keeps already."""
    file = PAGES / "nr_hugepages"
    if not os.access(file, os.W_OK):
        pytest.skip(f"the machine lets nobody set {file}")
    before = int(file.read_text())
    file.write_text(str(before + count))
    try:
        if int(file.read_text()) < before + count:
            pytest.skip("the machine's memory is in pieces: no huge pages to be had")
        yield
    finally:
        file.write_text(str(before))


def _count() -> int:
    return int((PAGES / "nr_hugepages").read_text())


def _free() -> int:
    return int((PAGES / "free_hugepages").read_text())


@pytest.fixture
def paged(hooked: Hooked) -> Hooked:
    """Have the sample, and where libvirt finds huge pages."""
    hooked.put_sample("hugepages")
    hooked.shell(
        "mkdir -p /dev/hugepages && mount -t hugetlbfs hugetlbfs /dev/hugepages"
    )
    # libvirt looks for such file systems when it starts.
    hooked.member.stop_service("libvirtd")
    hooked.member.start_service("libvirtd")
    status = "/status"
    waiting.until("libvirt", lambda: not hooked.h1.call("GET", status).get("problems"))
    return hooked


def _put_rules(hooked: Hooked, name: str) -> None:
    """Put a sample's rules in place on the host, as its administrator does."""
    data = base64.b64encode((SAMPLES / name / "sudoers").read_bytes()).decode()
    path = f"/etc/sudoers.d/{name}"
    hooked.shell(f"echo {data} | base64 -d >{path} && chmod 0440 {path}")


def test_pages_are_added_by_the_rules_of_the_hook(paged: Hooked) -> None:
    with _pages(0):
        before = _count()
        paged.give(hugepages="64")
        with pytest.raises(Refused) as caught:
            paged.act("start")
        code, message = caught.value.args
        assert code == "hook_failed"
        assert "50_hugepages: " in message
        assert "sudo: a password is required" in message
        assert _count() == before
        _put_rules(paged, "hugepages")
        paged.act("start")
        assert _count() == before + 64
        paged.act("stop", manner="force")
        waiting.until("the pages given back", lambda: _count() == before)


def test_rules_let_nothing_else_through(hooked: Hooked) -> None:
    for name in ("promisc", "ethtool_options", "hugepages"):
        _put_rules(hooked, name)
    where = "dev red0 ingress pref 20001"
    mirror = "protocol all u32 match u8 0 0 action mirred egress mirror dev vnet0"
    for allowed in (
        "ip link set dev red0 promisc on",
        "tc qdisc replace dev red0 clsact",
        f"tc filter del {where}",
        f"tc filter add {where} {mirror}",
        "/usr/sbin/ethtool -K eth0 rx on lro off",
        "tee /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
    ):
        assert _may(hooked, allowed), allowed
    for forbidden in (
        "ip netns exec x /bin/sh",
        "ip link set dev red0 promisc on down",
        "ip link set dev 'red0 down' promisc on",
        "ip -batch /tmp/x",
        "tc -batch /tmp/x",
        f"tc filter add {where} bpf object-file /tmp/x",
        "tc qdisc del dev red0 clsact",
        "/usr/sbin/ethtool -f eth0 firmware",
        "/usr/sbin/ethtool -E eth0 magic 1",
        "tee /etc/shadow",
        "/bin/sh",
    ):
        assert not _may(hooked, forbidden), forbidden


def _may(hooked: Hooked, words: str) -> bool:
    """Ask sudo whether the user of hooks may run a command as root."""
    user = "setpriv --reuid=36 --regid=36 --clear-groups"
    asked = f"{user} sudo -n -l {words} >/dev/null 2>&1 && echo yes || echo no"
    return hooked.shell(asked).strip() == "yes"


def test_memory_lies_in_huge_pages(paged: Hooked) -> None:
    hooked = paged
    hooked.give(hugepages="2048")
    with _pages(256):
        free = _free()
        hooked.act("start")
        waiting.until("pages in use", lambda: _free() < free)
        hooked.act("stop", manner="force")
        waiting.until("all pages free", lambda: _free() == free)
