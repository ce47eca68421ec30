"""Test what is read of /proc."""

import os

import pytest

from tests.scale import processes
from tests.scale.processes import Usage

STAT = (
    "1234 (a) b) S 77 1234 1234 0 -1 4194560 900 0 3 0 250 50 0 0 20 0 9 0 1000 0 0\n"
)


def test_parse_ticks_adds_user_and_system_time() -> None:
    assert processes.parse_ticks(STAT) == 300


def test_parse_busy_ticks_leaves_out_what_is_idle() -> None:
    text = "cpu  1 2 4 1000 2000 8 16 32 64 0\ncpu0 1 2 4 1000 2000 8 16 32 64 0\n"
    assert processes.parse_busy_ticks(text) == 63


def test_machine_cpu_is_more_than_this_process_used() -> None:
    assert processes.machine_cpu_s() > processes.usage(os.getpid()).cpu_s


def test_parse_sizes_reads_kilobytes_only() -> None:
    text = "Name:\tpython\nVmHWM:\t  2048 kB\nThreads:\t9\nPss:   1 kB\n"
    assert processes.parse_sizes(text) == {"VmHWM": 2048 * 1024, "Pss": 1024}


def test_parse_threads_reads_the_count() -> None:
    assert processes.parse_threads("Name:\tx\nThreads:\t9\n") == 9


def test_parse_threads_rejects_another_text() -> None:
    with pytest.raises(ValueError, match="threads"):
        processes.parse_threads("Name:\tx\n")


def test_cpu_percent_is_of_one_core() -> None:
    before = Usage(10.0, 1.0, 0, 0, 0, 1)
    after = Usage(14.0, 3.0, 0, 0, 0, 1)
    assert processes.cpu_percent(before, after) == 50.0


def test_usage_reads_this_process() -> None:
    found = processes.usage(os.getpid())
    assert 0 < found.pss_bytes <= found.rss_bytes <= found.highest_rss_bytes
    assert found.cpu_s > 0
    assert found.threads >= 1


def test_usage_fails_for_a_process_that_is_gone() -> None:
    with pytest.raises(FileNotFoundError):
        processes.usage(2**22 + 1)  # above the kernel's highest pid


def test_parent_reads_the_fourth_field() -> None:
    assert processes.parent(os.getpid()) == os.getppid()
    assert processes.parent(2**22 + 1) == 0
