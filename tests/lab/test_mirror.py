"""Test that a host's storage fails as told, and that its mirror sees every change."""

import os
import shlex
import signal
import time
from collections import abc
from pathlib import Path

import pytest

from tests.lab import Lab, control, mirror, polling, processes, running, witness

pytestmark = pytest.mark.lab

FOLDER = "/run/shared/mirror-test"
NO_SPACE, INPUT_OUTPUT, READ_ONLY = (
    "No space left",
    "Input/output error",
    "Read-only file",
)


def shell(host: running.Member, script: str) -> str:
    """Run a script in the test's folder; return what it said, errors included."""
    words = f"cd {FOLDER} && {{ {script}\n}} 2>&1"
    return host.exec(["sh", "-c", words]).stdout.strip()


def overwrite(offset: int) -> str:
    """Return the command that writes 4 KiB of `old` past the host's cache."""
    where = f"seek={offset // 4096} conv=notrunc oflag=direct status=none"
    return f"dd if=/dev/zero of=old bs=4096 count=1 {where}"


@pytest.fixture
def host(lab: Lab) -> abc.Iterator[running.Member]:
    """Return h1 with a folder that holds `old`, 64 KiB of data."""
    one = lab.member("h1")
    one.exec(["mkdir", FOLDER])
    shell(one, "head -c 65536 /dev/urandom >old && mkdir images && cp old images")
    yield one
    one.set_fault(mirror.Fault.NONE)
    one.exec(["rm", "-rf", FOLDER])


def shared_pid(host: running.Member) -> int:
    return {state.name: state.pid for state in host.services()}["shared"]


def seen(lab: Lab, name: str) -> list[witness.Change]:
    """Return what any host did to one file of the folder."""
    path = FOLDER.removeprefix("/run/shared") + "/" + name
    return [each for each in witness.read(lab.plan) if path in (each.path, each.other)]


def test_witness_sees_a_write_with_its_time(lab: Lab, host: running.Member) -> None:
    before = time.monotonic_ns()
    assert shell(host, overwrite(8192)) == ""
    after = time.monotonic_ns()
    last = seen(lab, "old")[-1]
    assert (last.host, last.verb, last.offset, last.length, last.result) == (
        *("h1", "write", 8192, 4096),
        4096,
    )
    assert last.end_ns is not None
    assert before < last.begin_ns < last.end_ns < after
    assert last.inode == os.stat(lab.plan.shared / "mirror-test/old").st_ino


@pytest.mark.parametrize(
    ("script", "verbs"),
    [
        (": >new", ["create"]),
        (": >old", ["truncate"]),
        ("truncate -s 9 old", ["truncate"]),
        ("fallocate -p -o 4096 -l 4096 old", ["fallocate"]),
        ("mv old new", ["rename"]),
        ("ln old new", ["link"]),
        ("ln -s old new", ["symlink"]),
        ("rm old", ["unlink"]),
        ("mkdir new && rmdir new", ["mkdir", "rmdir"]),
        ("chmod 600 old", ["chmod"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_witness_sees_every_kind_of_change(
    lab: Lab, host: running.Member, script: str, verbs: list[str]
) -> None:
    before = time.monotonic_ns()
    assert shell(host, script) == ""
    changes = [c for c in witness.read(lab.plan, "h1") if c.begin_ns > before]
    mine = [c for c in changes if c.path.startswith("/mirror-test/")]
    assert [c.verb for c in mine] == verbs
    assert all(c.result == 0 for c in mine)


def test_witness_tells_hosts_apart(lab: Lab, host: running.Member) -> None:
    for each in (host, lab.member("h2"), host):
        assert shell(each, overwrite(0)) == ""
    writes = [c for c in seen(lab, "old") if c.verb == "write"]
    assert [turn.host for turn in witness.turns(writes)] == ["h1", "h2", "h1"]
    assert witness.overlaps(writes) == []


@pytest.mark.parametrize(
    ("fault", "script", "refusal"),
    [
        (mirror.Fault.ENOSPC, overwrite(65536), NO_SPACE),
        (mirror.Fault.ENOSPC, "touch new", NO_SPACE),
        (mirror.Fault.ENOSPC, overwrite(4096), ""),
        (mirror.Fault.ENOSPC, "rm old", ""),
        (mirror.Fault.EIO, overwrite(4096), INPUT_OUTPUT),
        (mirror.Fault.EIO, "dd if=old iflag=direct of=/dev/null", INPUT_OUTPUT),
        (mirror.Fault.EIO, "mv old new", INPUT_OUTPUT),
        (mirror.Fault.READONLY, overwrite(4096), READ_ONLY),
        (mirror.Fault.READONLY, "rm old", READ_ONLY),
        (mirror.Fault.READONLY, "dd if=old of=/dev/null status=none", ""),
    ],
    ids=[
        *("enospc-append", "enospc-create", "enospc-overwrite", "enospc-remove"),
        *("eio-write", "eio-read", "eio-rename"),
        *("readonly-write", "readonly-remove", "readonly-read"),
    ],
)
def test_fault_hits_one_host_until_it_ends(
    lab: Lab, host: running.Member, fault: mirror.Fault, script: str, refusal: str
) -> None:
    host.set_fault(fault)
    said = shell(host, script)
    assert refusal in said if refusal else said == ""
    assert shell(lab.member("h2"), "touch other && cat other") == ""
    host.set_fault(mirror.Fault.NONE)
    assert shell(host, "touch old new && cat old >/dev/null") == ""


def test_fault_spares_paths_that_do_not_match(host: running.Member) -> None:
    host.set_fault(mirror.Fault.EIO, "*/images/*")
    assert INPUT_OUTPUT in shell(host, "dd if=images/old iflag=direct of=/dev/null")
    assert shell(host, overwrite(0)) == ""


def test_fault_survives_the_mirror(host: running.Member) -> None:
    host.set_fault(mirror.Fault.READONLY)
    os.kill(host.service_pid("shared"), signal.SIGKILL)
    assert polling.until(lambda: READ_ONLY in shell(host, "touch new"), 10.0)


def test_stuck_request_does_not_die_until_the_fault_ends(
    lab: Lab, host: running.Member
) -> None:
    host.set_fault(mirror.Fault.STUCK)
    host.add_service("stuck", ["dd", f"of={FOLDER}/old", "if=/dev/zero", "count=1"])
    pid = host.service_pid("stuck")
    identity = processes.identify(pid)
    assert identity is not None
    waits = Path(f"/proc/{pid}/wchan")
    assert polling.until(lambda: waits.read_text() == "request_wait_answer", 10.0)
    os.kill(pid, signal.SIGKILL)
    assert polling.until(lambda: processes.is_uninterruptible(pid), 10.0)
    assert processes.is_alive(identity)
    host.set_fault(mirror.Fault.NONE)
    assert processes.wait_gone(identity, 10.0)


def test_qemu_works_on_the_mirror_without_the_cache(
    lab: Lab, host: running.Member
) -> None:
    script = """
    qemu-img create -q -f qcow2 image 64M
    qemu-io -t none -c 'write -P 7 1M 4M' -c flush image >/dev/null
    qemu-img convert -t none -T none -O raw image copy
    qemu-io -r -t none -f raw -c 'read -P 7 1M 4M' copy | grep -c verification
    qemu-img check -q image"""
    assert shell(host, script) == "0"
    assert {c.host for c in seen(lab, "copy")} == {"h1"}
    assert sum(c.length for c in seen(lab, "copy") if c.verb == "write") >= 4 << 20


def test_files_belong_to_who_makes_them(host: running.Member) -> None:
    made = "chmod 777 . && setpriv --reuid=36 --regid=36 --clear-groups sh -c "
    look = "stat -c %u:%g:%a file folder"
    inner = shlex.quote(f"umask 007; touch file; mkdir folder; {look}")
    assert shell(host, "rm -r * && " + made + inner) == "36:36:660\n36:36:770"


def test_libvirt_takes_it_for_shared_storage(host: running.Member) -> None:
    done = host.exec(["findmnt", "-nro", "FSTYPE,SOURCE", "/run/shared"])
    assert done.stdout.split() == ["fuse.glusterfs", "nas.lab:/shared"]


def test_storage_is_refused_while_the_mirror_is_dead(host: running.Member) -> None:
    control.stop(host.directory / "control.sock", "shared", signal.SIGKILL)
    assert polling.until(lambda: not shared_pid(host), 10.0)
    done = host.exec(["ls", FOLDER])
    assert "Transport endpoint is not connected" in done.stderr
