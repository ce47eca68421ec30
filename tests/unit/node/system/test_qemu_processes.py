"""What the kernel says of QEMUs."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.model.ids import VmId
from node.system import qemu_processes
from node.system.hypervisor import QemuProcess

VM_ID = "aaaaaaaa-0000-4000-8000-000000000001"
STATUS = """\
Name:\tqemu-system-x86
State:\t{state}
Tgid:\t4711
voluntary_ctxt_switches:\t40
nonvoluntary_ctxt_switches:\t2
"""


def _put(
    folder: Path, *, pid: str = "4711", argv: str, state: str = "T (stopped)"
) -> None:
    (folder / "run").mkdir()
    (folder / "run/web.pid").write_text(pid)
    (folder / pid).mkdir()
    (folder / pid / "cmdline").write_text(argv.replace(" ", "\0") + "\0")
    (folder / pid / "status").write_text(STATUS.format(state=state))


def test_read_finds_the_process_of_a_vm(tmp_path: Path) -> None:
    _put(tmp_path, argv=f"qemu-system-x86_64 -uuid {VM_ID} -S")
    found = qemu_processes.read(tmp_path / "run", tmp_path)
    assert found == {VM_ID: QemuProcess(4711, "T", 42)}


@pytest.mark.parametrize(
    "argv",
    [
        pytest.param("qemu-system-x86_64 -S", id="no-uuid"),
        pytest.param("qemu-system-x86_64 -uuid", id="uuid-cut-off"),
        pytest.param("", id="just-ended"),
    ],
)
def test_read_passes_over_what_is_no_vm(tmp_path: Path, argv: str) -> None:
    _put(tmp_path, argv=argv)
    assert qemu_processes.read(tmp_path / "run", tmp_path) == {}


def test_read_passes_over_a_process_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / "web.pid").write_text("4711")
    (tmp_path / "odd.pid").write_text("../1")
    assert qemu_processes.read(tmp_path, tmp_path) == {}


def test_parse_status_reads_the_kernels_own() -> None:
    text = Path("/proc/self/status").read_text()
    process = qemu_processes.parse_status(os.getpid(), text)
    assert process is not None
    assert process.state == "R"
    assert process.switches > 0


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Return a process that calls itself the QEMU of the VM."""
    script = "import time; print('up', flush=True); time.sleep(60)"
    argv = ["qemu-system-x86_64", "-c", script, "-uuid", VM_ID]
    process = subprocess.Popen(argv, executable=sys.executable, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    (tmp_path / "web.pid").write_text(str(process.pid))
    yield process
    process.kill()
    process.communicate()


def test_kill_ends_the_process_at_once(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    assert qemu_processes.kill(VmId(VM_ID), tmp_path)
    assert sleeper.wait(10) == -signal.SIGKILL


def test_kill_says_that_there_is_none(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    assert not qemu_processes.kill(VmId("another"), tmp_path)
    assert sleeper.poll() is None
