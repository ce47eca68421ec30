"""Test that a host loses its power when its watchdog would fire, and only then."""

import os
import signal
from collections import abc

import pytest

from tests.lab import Lab, mirror, polling, processes, running, watchdog

pytestmark = pytest.mark.lab

IO_TIMEOUT_S = 3  # a lease fails 8 times that after its renewal
SPEED = 6
# 84 of sanlock's seconds after the last renewal at the latest, and a busy machine.
FIRES_WITHIN_S = (8 * IO_TIMEOUT_S + 60) / SPEED + 10.0
RECOVERY_TIMEOUT_S = 30.0
IDS, LEASES = "/run/shared/dog-ids", "/run/shared/dog-leases"
HELD = "/run/shared/dog-held"
LEASE = f"DOG:vm:{LEASES}:0"
# Holds a lease, and every access of it to the storage hangs with the storage.
HOLDER = f"while :; do date >{HELD}; sleep 0.1; done"


@pytest.fixture
def host(lab: Lab) -> abc.Iterator[running.Member]:
    """Return h1, a member of a fresh lockspace."""
    one = lab.member("h1")
    space, whole = f"DOG:1:{IDS}:0", f"DOG:0:{IDS}:0"
    for argv in (
        ["truncate", "-s", "1M", IDS, LEASES],
        ["sanlock", "direct", "init", "-s", whole, "-o", str(IO_TIMEOUT_S)],
        ["sanlock", "direct", "init", "-r", LEASE],
        ["sanlock", "client", "add_lockspace", "-s", space, "-o", str(IO_TIMEOUT_S)],
    ):
        done = one.exec(argv)
        assert done.returncode == 0, done.stdout + done.stderr + one.log("sanlock")
    yield one
    lab.restore()
    one.exec(["sanlock", "client", "rem_lockspace", "-s", space])
    one.exec(["rm", "-f", IDS, LEASES, HELD])


@pytest.fixture
def holder(host: running.Member) -> running.Member:
    """Return h1 with a process that holds a lease and writes all the time."""
    words = ["sanlock", "client", "command", "-r", LEASE, "-c"]
    host.add_service("holder", [*words, "/bin/sh", "-c", HOLDER])
    assert polling.until(
        lambda: host.exec(["test", "-s", HELD]).returncode == 0, 20.0
    ), host.log("holder")
    return host


def fired(lab: Lab) -> list[watchdog.Firing]:
    return watchdog.firings(lab.plan)


def said(lab: Lab) -> str:
    return (lab.plan.watchdog / "log").read_text()


def assert_cut_in_time(lab: Lab, host: running.Member, before: int) -> None:
    assert polling.until(lambda: len(fired(lab)) > before, FIRES_WITHIN_S), said(lab)
    firing = fired(lab)[-1]
    print(firing)
    assert (firing.host, firing.client) == (host.name, "sanlock_DOG:1")
    fails_after_s = 8 * IO_TIMEOUT_S
    # Its clock is known to a second, and a busy machine may wake it late.
    assert fails_after_s + 49 <= firing.after_renewal_s - firing.late_s
    assert firing.after_renewal_s - firing.late_s <= fails_after_s + 61
    assert firing.late_s < SPEED
    assert polling.until(lambda: not host.is_alive(), 5.0)
    assert not host.is_plugged()


def test_host_is_cut_when_its_storage_hangs_below_a_lease(
    lab: Lab, holder: running.Member
) -> None:
    before = len(fired(lab))
    holder.set_fault(mirror.Fault.STUCK)
    assert_cut_in_time(lab, holder, before)
    holder.set_fault(mirror.Fault.NONE)
    holder.boot()  # a dead host's watchdog does not bite the next boot
    assert holder.exec(["sanlock", "client", "status"]).returncode == 0


def test_host_is_cut_when_its_sanlock_freezes(lab: Lab, holder: running.Member) -> None:
    before = len(fired(lab))
    os.kill(holder.service_pid("sanlock"), signal.SIGSTOP)
    assert_cut_in_time(lab, holder, before)


def test_host_is_cut_when_its_sanlock_dies(lab: Lab, holder: running.Member) -> None:
    before = len(fired(lab))
    os.kill(holder.service_pid("sanlock"), signal.SIGKILL)
    assert_cut_in_time(lab, holder, before)


def test_host_that_heals_in_time_lives(lab: Lab, holder: running.Member) -> None:
    before, seen = len(fired(lab)), len(said(lab))
    holder.set_fault(mirror.Fault.STUCK)
    assert polling.until(lambda: "h1 fails" in said(lab)[seen:], FIRES_WITHIN_S)
    holder.set_fault(mirror.Fault.NONE)
    assert polling.until(lambda: "h1 is well" in said(lab)[seen:], RECOVERY_TIMEOUT_S)
    assert len(fired(lab)) == before
    assert holder.is_alive()


def test_host_that_holds_nothing_lives(lab: Lab, host: running.Member) -> None:
    before, seen = len(fired(lab)), len(said(lab))
    host.hang_storage()
    # sanlock gives the lockspace up and takes its expiry back.
    assert polling.until(
        lambda: "wdmd_test_live 0 0 to disable" in host.log("sanlock"), FIRES_WITHIN_S
    )
    assert polling.until(lambda: "h1 is well" in said(lab)[seen:], RECOVERY_TIMEOUT_S)
    assert len(fired(lab)) == before
    assert host.is_alive()


def test_stand_in_returns_with_up_when_it_was_killed(lab: Lab) -> None:
    record = lab.plan.watchdog / watchdog.RECORD
    first = processes.read_record(record)
    assert first is not None
    processes.send(first, signal.SIGKILL)
    assert processes.wait_gone(first, 10.0)
    lab.restore()
    assert processes.read_record(record) not in (None, first)
