"""What the procfs door promises: on the fake, and on this machine."""

from pathlib import Path

import pytest

from node.system.procfs import KernelProcfs, Procfs, Traffic
from tests.fakes.procfs import FakeProcfs


@pytest.fixture(params=["fake", "real"])
def procfs(request: pytest.FixtureRequest) -> Procfs:
    if request.param == "fake":
        return FakeProcfs(
            counters={"lo": Traffic(1, 1)},
            texts={
                "/proc/cpuinfo": "processor : 0\n",
                "/proc/version": "Linux version 6.1\n",
            },
        )
    return KernelProcfs()


def test_cpu_times_are_busy_for_a_part_of_the_total(procfs: Procfs) -> None:
    times = procfs.cpu_times()
    assert 0 < times.busy_s <= times.total_s


def test_memory_is_available_up_to_the_total(procfs: Procfs) -> None:
    memory = procfs.memory()
    assert 0 < memory.available_bytes <= memory.total_bytes
    assert memory.swap_used_bytes >= 0


def test_traffic_names_the_cards(procfs: Procfs) -> None:
    assert procfs.traffic()["lo"].rx_bytes >= 0


def test_file_system_is_that_of_the_nearest_parent(procfs: Procfs) -> None:
    inside = procfs.file_system(Path("/no/such/folder"))
    # Others write meanwhile: what is free differs from look to look.
    assert inside.size_bytes == procfs.file_system(Path("/no")).size_bytes
    assert 0 <= inside.free_bytes <= inside.size_bytes


def test_machine_has_started_and_says_what_it_runs(procfs: Procfs) -> None:
    assert procfs.booted_at_s() > 0
    assert procfs.load_5min() >= 0
    assert procfs.kernel()
    assert procfs.host_name()


def test_text_is_stripped(procfs: Procfs) -> None:
    text = procfs.text("/proc/version")
    assert text.startswith("Linux version")
    assert text == text.strip()


def test_text_is_empty_when_the_file_cannot_be_read(procfs: Procfs) -> None:
    assert procfs.text("/proc/no/such/file") == ""


def test_paths_are_those_that_match(procfs: Procfs) -> None:
    assert procfs.paths("/proc", "cpuin*") == ("/proc/cpuinfo",)
    assert procfs.paths("/no/such/folder", "*") == ()
