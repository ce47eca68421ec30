"""Storage that fails, hangs or is gone, and writers that are killed: nothing is lost.

A fleet with a pool of two storage domains; what its guest calls written must be
there, and by the witness no volume has two writers.
"""

import contextlib
import functools
import itertools
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aggregator.api import storage_verbs as verbs
from aggregator.api.storage_model import MovePoolMaster
from node.errors import Error, NotFound
from node.model.ids import DiskId, NodeId
from node.model.job import JobState
from node.model.storage_requests import CopyDisk
from node.storage.data import choice
from node.units import MiB
from tests.lab import (
    command,
    fleet,
    members,
    soak_break,
    soak_pool_look,
    soak_pool_stage,
    waiting,
    witness,
)
from tests.lab.agents import Refused
from tests.lab.lab import Lab
from tests.lab.mirror import Fault
from tests.lab.soak_pool_plan import Task, Work
from tests.lab.soak_pool_stage import Stage

pytestmark = pytest.mark.lab

HOSTS = {"h1", "h2", "h3"}
# A host without storage is dead to the others after 140 s of sanlock's.
TAKEN_S = (8 * 10 + 60) / members.SANLOCK_SPEED + 60.0
AWAY_S = 20.0  # of a host without power: its leases are free after 14 s
SOON_S = 60.0  # on a machine that others use too
SLOW_BYTES = 256 * MiB  # its copy takes a second and more
TRIES = 4  # to break it off in the middle
ENDS = frozenset({"vm_lease_lost", "vm_lease_moved", "vm_crashed", "vm_end_unknown"})


@pytest.fixture(scope="module")
def stages(whole_lab: Lab) -> Iterator[list[Stage]]:
    """Return the stage that the last test has left: none if it is not whole."""
    made: list[Stage] = []
    yield made
    for each in made:
        each.remove()


@pytest.fixture
def stage(whole_lab: Lab, story_port: int, stages: list[Stage]) -> Iterator[Stage]:
    """Return a pool that is whole, with a VM that is down on a beta of its own."""
    whole_lab.restore()
    if not stages:
        fresh = soak_pool_stage.gather(fleet.Fleet(whole_lab, story_port))
        stages.append(fresh)
        fresh.home, fresh.fixed_bytes = "beta", SLOW_BYTES
        fresh.make()
    (one,) = stages
    yield one
    try:
        whole_lab.restore()
        if stages:
            one.stop_vm()
            _wait_whole(one)
    except (Error, Refused):
        stages.clear()
    if not stages:
        one.remove()


@pytest.mark.parametrize("service", ["agent", "skerry-storage"])
def test_second_writer_of_a_copy_begins_after_the_first_has_ended(
    stage: Stage, service: str
) -> None:
    for _ in range(TRIES):
        copied = DiskId(str(uuid.uuid4()))
        manager = stage.lab.member(stage.manager())
        order = stage.ask(Task(Work.COPY, copied, "beta"))
        waiting.until(
            "the copy", functools.partial(_copying, stage, copied), poll_s=0.02
        )
        killed_ns = time.monotonic_ns()
        soak_break.kill(manager.service_pid(service))
        ended = stage.finish(order)
        writers = _writers(stage, copied)
        if killed_ns < max(last for _, last in writers):
            break  # else the copy was complete before the kill: it shows nothing
    assert writers[0][0] < killed_ns < max(last for _, last in writers)
    # An agent's copy goes on without it; what a storage process left is made anew.
    if service == "agent":
        assert (ended.state, len(writers)) == (JobState.DONE, 1)
    for (_, last), (first, _) in itertools.pairwise(writers):
        assert last <= first
    _wait_whole(stage)
    assert soak_pool_look.losses(stage) == []
    # A storage process that dies may end the copy for good: it is undone then.
    with contextlib.suppress(NotFound):
        stage.finish(stage.ask(Task(Work.DELETE, copied)))


@pytest.mark.parametrize(
    "accident", ["none", "agent", "skerry-storage", "power", "manager"]
)
def test_copy_of_another_node_has_one_writer_at_a_time(
    stage: Stage, accident: str
) -> None:
    """The node moves the data; it, or the manager, is struck in the middle."""
    manager = stage.lab.member(stage.manager())
    other = stage.lab.member(min(HOSTS - {manager.place.name}))
    waiting.until(
        f"{manager.place.name} hears {other.place.name}",
        lambda: _is_heard(stage, other.place.node_id),
        timeout_s=SOON_S,
    )
    copied = DiskId(str(uuid.uuid4()))
    copy = CopyDisk(
        *(copied, stage.domain_ids["beta"], copied[:8]),
        data_node_id=NodeId(other.place.node_id),
    )
    order = stage.client.disk_act(verbs.DISK_COPY, copy, stage.fixed)
    waiting.until("the copy", lambda: _copying(stage, copied), poll_s=0.02)
    if accident == "manager":
        soak_break.power(manager, AWAY_S, time.sleep)
    elif accident == "power":
        soak_break.power(other, AWAY_S, time.sleep)
    elif accident != "none":
        soak_break.kill(other.service_pid(accident))
    ended = stage.finish(order)
    writes = _data_writes(stage, copied)
    hosts = [turn.host for turn in witness.turns(writes)]
    print(f"{accident}: {ended.state}, written by {hosts}")
    assert hosts[0] == other.place.name
    assert witness.overlaps(writes) == []
    writers = _writers(stage, copied)
    for (_, last), (first, _) in itertools.pairwise(writers):
        assert last <= first
    if accident in ("none", "agent"):
        assert (ended.state, hosts) == (JobState.DONE, [other.place.name])
    _wait_whole(stage)
    assert soak_pool_look.losses(stage) == []
    assert ended.state is JobState.DONE
    stage.finish(stage.ask(Task(Work.DELETE, copied)))


def test_guest_is_paused_while_its_storage_fails_and_goes_on_by_itself(
    stage: Stage,
) -> None:
    other = min(HOSTS - {stage.manager()})
    stage.start_vm(other)
    member, took_s = stage.lab.member(other), {}
    pattern = f"*/images/{stage.data}/*"
    for fault in (Fault.ENOSPC, Fault.READONLY):
        member.set_fault(fault, pattern)
        waiting.until(f"{fault}", lambda: stage.runs()[other] == "paused")
        reason = waiting.until(
            "the details", functools.partial(_detailed, stage, other)
        )
        assert reason["code"] == "vm_paused_by_error"
        member.set_fault(Fault.NONE)
        took_s[fault.name] = _until_stamps(stage)
    member.hang_storage()
    waiting.until("a moment", _after(5.0), timeout_s=10.0)
    assert stage.runs()[other] == "up"
    member.resume_storage()
    took_s["hang"] = _until_stamps(stage)
    print(f"stamps again after {took_s}")
    assert _ends(stage, other) == []
    _wait_whole(stage)
    assert soak_pool_look.losses(stage) == []


@pytest.mark.parametrize("fault", [Fault.EIO, Fault.ENOSPC], ids=["eio", "enospc"])
def test_guest_that_failed_here_and_runs_there_does_not_go_on_here(
    stage: Stage, fault: Fault
) -> None:
    """Nobody is left who keeps its lease: it is started elsewhere by force."""
    here, there = sorted(HOSTS - {stage.manager()})
    stage.start_vm(here)
    member = stage.lab.member(here)
    member.set_fault(fault, f"*/images/{stage.data}/*")
    waiting.until("the pause", lambda: stage.runs()[here] == "paused")
    for service in ("agent", "skerry-storage"):
        member.stop_service(service)
    _take_over(stage, there)
    member.set_fault(Fault.NONE)
    for service in ("skerry-storage", "agent"):
        member.start_service(service)
    waiting.until("its end", lambda: _ends(stage, here), timeout_s=SOON_S)
    assert _ends(stage, here) == ["vm_lease_moved"]
    stage.stop_vm()
    (leaf,) = stage.files(stage.data)
    command.check(["qemu-img", "check", "-q", "-f", "qcow2", str(leaf)])
    _wait_whole(stage)
    assert soak_pool_look.losses(stage) == []


def test_guest_without_its_storage_is_killed_and_says_so(stage: Stage) -> None:
    here, there = sorted(HOSTS - {stage.manager()})
    stage.start_vm(here)
    member = stage.lab.member(here)
    member.hang_storage()
    began = time.monotonic()
    _take_over(stage, there)
    took_s = time.monotonic() - began
    print(f"{took_s:.1f} s, {took_s * members.SANLOCK_SPEED:.0f} of sanlock's")
    if member.is_alive():
        member.resume_storage()
        waiting.until("its end", lambda: _ends(stage, here), timeout_s=SOON_S)
        assert _ends(stage, here) == ["vm_lease_lost"]
    stage.lab.restore()
    _wait_whole(stage)
    # Nothing but the order above has started it again.
    assert stage.runs() == {here: "down", there: "up", stage.manager(): "down"}
    assert soak_pool_look.losses(stage) == []


def test_vms_elsewhere_outlive_a_master_that_is_destroyed(
    stage: Stage, stages: list[Stage]
) -> None:
    stages.clear()  # it is of no use to others afterwards
    runner = min(HOSTS - {stage.manager()})
    stage.start_vm(runner)
    count = _count(stage)
    for name in HOSTS:
        stage.lab.member(name).set_fault(Fault.EIO, f"{soak_pool_stage.FOLDER}/alpha/*")
    command.check(["rm", "-rf", str(stage.root_folder() / "alpha")])
    waiting.until("no manager", lambda: not _is_managed(stage), timeout_s=SOON_S)
    beta = stage.domain_ids["beta"]
    request = MovePoolMaster(beta, is_reconstruction=True)

    def reconstructed() -> bool:
        act = stage.client.pool_act
        line = act(verbs.POOL_MOVE_MASTER, request, stage.pool().pool_id)
        return stage.finish(line).state is JobState.DONE

    waiting.until("another master", reconstructed, timeout_s=TAKEN_S, poll_s=2.0)
    waiting.until("a manager", lambda: _is_managed(stage), timeout_s=SOON_S)
    assert stage.pool().master == "beta"
    assert stage.runs()[runner] == "up"
    assert _count(stage) > count
    stage.stop_vm()
    other = max(HOSTS - {runner})
    stage.start_vm(other)
    acks = stage.acks().values()
    assert soak_pool_look.lost_stamps(stage) == []
    assert {ack.slot for ack in acks} == set(range(stage.slots))


def _copying(stage: Stage, disk_id: DiskId) -> bool:
    """Tell whether a program writes the data of a copy, by the witness."""
    return witness.is_written(stage.lab.plan, disk_id)


def _data_writes(stage: Stage, disk_id: DiskId) -> list[witness.Change]:
    return [
        change
        for change in witness.read(stage.lab.plan)
        if disk_id in change.path
        and "." not in change.path
        and change.verb == "write"
        and change.is_done
    ]


def _writers(stage: Stage, disk_id: DiskId) -> list[tuple[int, int]]:
    """Return the first and the last moment of each file that a copy was written to.

    What a killed program left is made anew: another file, of the same name.
    """
    found: dict[int, tuple[int, int]] = {}
    for change in _data_writes(stage, disk_id):
        end_ns = change.end_ns or change.begin_ns
        first, last = found.get(change.inode, (change.begin_ns, end_ns))
        found[change.inode] = (min(first, change.begin_ns), max(last, end_ns))
    return sorted(found.values())


def _take_over(stage: Stage, name: str) -> None:
    """Start the VM elsewhere as soon as it may."""

    def is_started() -> bool:
        try:
            stage.start_vm(name)
        except Refused as error:
            if error.args[0] not in ("vm_runs_elsewhere", "lease_busy"):
                raise
            return False
        return True

    waiting.until(f"the VM on {name}", is_started, timeout_s=TAKEN_S)


def _count(stage: Stage) -> int:
    """Return how many stamps the guest that runs now has called written."""
    return stage.acks()[stage.slots - 1].number


def _until_stamps(stage: Stage) -> float:
    """Wait until the guest writes on; return how long that took."""
    began, count = time.monotonic(), _count(stage)
    # Two may have been under way when it stopped.
    waiting.until("stamps", lambda: _count(stage) > count + 2, timeout_s=SOON_S)
    return round(time.monotonic() - began, 1)


def _after(seconds: float) -> Callable[[], bool]:
    over = time.monotonic() + seconds
    return lambda: time.monotonic() > over


def _ends(stage: Stage, name: str) -> list[str]:
    """Return how the VM's last run there ended on a host, unless we ended it."""
    try:
        events = stage.agent(name).get("/events")["events"]
    except Refused:
        return []
    of_vm = [each for each in events if each.get("vm_id") == stage.vm]
    starts = [n for n, each in enumerate(of_vm) if each["code"] == "vm_started"]
    last = of_vm[starts[-1] :] if starts else of_vm
    return [each["code"] for each in last if each["code"] in ENDS]


def _detailed(stage: Stage, name: str) -> Any:
    """Return why the VM pauses on a host, once it is told in full; a moment later."""
    reason = stage.agent(name).get(f"/vms/{stage.vm}")["run"]["reason"]
    return reason if reason.get("fields") else None


def _is_managed(stage: Stage) -> bool:
    pool = stage.pool()
    return bool(pool.manager) and pool.stale is None and pool.state == "up"


def _is_heard(stage: Stage, node_id: str) -> bool:
    """Tell whether the manager would give a node work, by what it read last."""
    pool = stage.agent(stage.manager()).get(f"/pools/{stage.pool().pool_id}")
    return any(
        each["node_id"] == node_id
        and each["liveness"] == "live"
        and each["silence_s"] < choice.SILENCE_MAX_S
        for each in pool["members"]
    )


def _wait_whole(stage: Stage) -> None:
    def is_whole() -> bool:
        return not soak_pool_look.problems(stage)

    waiting.until("the pool whole", is_whole, timeout_s=TAKEN_S, poll_s=1.0)
