"""Kill what is in a cgroup of the machine, and nothing else."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.storage.process import cgroup, kill
from node.storage.process.cgroup import Group
from node.system import cgroups
from tests.fakes import storage_process

END_S = 20.0


@pytest.fixture
def path() -> Iterator[Path]:
    if why_not := storage_process.why_not():
        pytest.skip(why_not)
    path = cgroups.find_hierarchy() / f"skerry-test-{uuid.uuid4().hex[:12]}"
    yield path
    kill.kill_all(str(path), END_S)
    for folder, _, _ in os.walk(path, topdown=False):
        os.rmdir(folder)


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "1000"])
    yield process
    process.kill()
    process.wait(END_S)


def sleeper(group: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(["sleep", "1000"])
    (group / "cgroup.procs").write_text(str(process.pid))
    return process


def test_kill_ends_what_needs_the_lockspace_and_nothing_else(
    path: Path, bystander: subprocess.Popen[bytes]
) -> None:
    group = Group(path)
    many = [f"space-{number}" for number in range(100)]
    lost = [("a",), ("b", "a"), many]
    kept = [(), ("b",), ("aa",)]
    dying = [sleeper(group.make_child(each)) for each in lost]
    living = [sleeper(group.make_child(each)) for each in kept]
    words = [str(path), "1", "never", cgroup.tag("a")]
    command = [sys.executable, "-I", "-S", kill.__file__, *words]
    assert subprocess.run(command, timeout=END_S, check=False).returncode == 0
    assert [process.wait(END_S) for process in dying] == [-signal.SIGKILL] * 3
    assert [process.poll() for process in (*living, bystander)] == [None] * 4
    assert kill.kill_all(str(path), END_S)
    assert [process.wait(END_S) for process in living] == [-signal.SIGKILL] * 3


def test_kill_tagged_is_done_where_there_is_no_group(tmp_path: Path) -> None:
    assert kill.kill_tagged(str(tmp_path / "none"), cgroup.tag("a"), 0.0)


def test_kill_tells_only_the_process_that_it_was_told_of(
    bystander: subprocess.Popen[bytes],
) -> None:
    began = kill.start_time(bystander.pid)
    kill.tell(bystander.pid, str(int(began) + 1))
    kill.tell(bystander.pid, "")
    with pytest.raises(subprocess.TimeoutExpired):
        bystander.wait(0.3)
    kill.tell(bystander.pid, began)
    assert bystander.wait(END_S) == -signal.SIGUSR1


def test_kill_all_is_done_where_there_is_no_group(tmp_path: Path) -> None:
    assert kill.kill_all(str(tmp_path / "none"), 0.0)


def test_group_ends_what_an_earlier_process_left(path: Path) -> None:
    earlier = Group(path)
    left = sleeper(earlier.make_child())
    later = Group(path)
    assert left.wait(END_S) == -signal.SIGKILL
    assert [each for each in path.iterdir() if each.is_dir()] == []
    assert later.make_child() == path / "1"


def test_is_removed_removes_a_group_with_its_processes(path: Path) -> None:
    child = Group(path).make_child()
    left = sleeper(child)
    while not cgroup.is_removed(child):
        continue
    assert left.wait(END_S) == -signal.SIGKILL
    assert cgroup.is_removed(child)


def test_killpath_fits_what_sanlock_keeps() -> None:
    # The product's folder on the image, and the group's on cgroup v2 or beside v1.
    words = "-I -S /usr/lib/skerry/node/storage/process/kill.py"
    group = f"/sys/fs/cgroup/unified/{cgroup.NAME}"
    assert len(f"{words} {group} 4194304 99999999999 {cgroup.tag('space')}") < 127
