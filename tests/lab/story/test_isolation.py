"""What many look at, or what hangs, takes nothing from the rest."""

import contextlib
import http.client
import json
import logging
import os
import random
import signal
import ssl
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from aggregator.api.model import NewVm
from aggregator.cli import client as clients
from node.model.ids import VmId
from node.model.vm import VmState
from node.units import MiB
from tests.lab import fleet, members, polling, processes, soak_look, waiting
from tests.lab.story import latency
from tests.lab.story.conftest import Story

log = logging.getLogger(__name__)

TABS: Final = 100
PAIRS: Final = 3  # of changes, for each median
PAIRS_OF_TABS: Final = 10  # some 20 s: as long as one question of a tab may wait
# Medians of a few, on a machine that other tests use too, waver as much. Who waits
# behind tabs or stuck VMs waits for seconds.
MORE: Final = 3.0
READ_WAVERS_S: Final = 1.0
CHANGE_WAVERS_S: Final = 2.0
STUCK: Final = 20
# Two samples of 15 s, the push, and a busy machine.
TOLD_S: Final = 120.0
# Kills that came too late are tried again: an answer may be there in 50 ms.
TRIES: Final = 20


@dataclass(slots=True)
class Tabs:
    """Open pages of the dashboard that ask for changes, as its script does."""

    session: clients.Session
    answered: int = 0
    failures: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def close(self) -> None:
        self._over.set()

    def watch(self, number: int) -> None:
        """Be one tab until `close`."""
        context = ssl.create_default_context(cadata=self.session.ca_certificate)
        browser = http.client.HTTPSConnection(
            self.session.address, self.session.port, timeout=40, context=context
        )
        chance = random.Random(number)
        moment = ""
        with contextlib.closing(browser):
            while not self._over.is_set():
                try:
                    status, answer = self._ask(browser, moment)
                except (OSError, http.client.HTTPException) as error:
                    status, answer = 0, {"error": repr(error)}
                with self._lock:
                    self.answered += status == 200
                    if status != 200:
                        self.failures.append(f"tab {number}: {status} {answer}")
                        return
                has_news = answer["moment"] != moment
                moment = str(answer["moment"])
                if not has_news and not answer["has_waited"]:
                    self._over.wait(chance.uniform(0.5, 1.5))

    def _ask(
        self, browser: http.client.HTTPSConnection, moment: str
    ) -> tuple[int, dict[str, object]]:
        headers = {"Cookie": f"__Host-skerry={self.session.token}"}
        browser.request("GET", f"/ui/changes?since={moment}&wait_s=20", headers=headers)
        reply = browser.getresponse()
        body = reply.read()
        return reply.status, json.loads(body) if reply.status == 200 else {}


@contextlib.contextmanager
def _open_tabs(story: Story) -> Iterator[Tabs]:
    """Yield a hundred tabs that have all been answered once."""
    opened = Tabs(story.fleet.session())
    with ThreadPoolExecutor(TABS, thread_name_prefix="tab") as pool:
        for number in range(TABS):
            pool.submit(opened.watch, number)
        try:
            waiting.until(
                "an answer for each tab",
                lambda: opened.answered >= TABS or opened.failures,
            )
            yield opened
        finally:
            opened.close()


def test_hundred_idle_tabs_take_nothing_from_people_and_nodes(story: Story) -> None:
    vm_id = story.make_vm("watched", "h1")
    story.fleet.start_vm(story.client, vm_id)
    story.wait_state(vm_id, VmState.UP)
    last = story.client.event_list().events[0].number
    before = latency.measure(story, "h1", "watched", PAIRS)
    with _open_tabs(story) as tabs:
        during = latency.measure(story, "h1", "watched", PAIRS_OF_TABS)
        assert tabs.failures == []
    assert _is_unchanged(before, during), f"before: {before}; during: {during}"
    codes = {event.code for event in story.client.event_list(last).events}
    assert not codes & {"node_suspect", "node_unreachable"}


def test_vm_is_one_when_the_agent_was_killed_before_it_answered(story: Story) -> None:
    disks = _disks(story)
    chosen = _create_without_an_answer(story, disks)
    story.wait_answering("h1")
    made = story.fleet.node_json("h1", *_creation(chosen))
    assert made["vm"]["spec"]["vm_id"] == chosen
    listed = story.fleet.node_json("h1", "vm", "list")["vms"]
    assert [vm["vm"]["spec"]["vm_id"] for vm in listed].count(chosen) == 1
    disk_id = _disk_of(chosen)
    assert [name for name in os.listdir(disks) if disk_id in name] == [disk_id]
    story.wait_state(VmId(chosen), VmState.DOWN)
    story.fleet.start_vm(story.client, VmId(chosen))
    story.wait_state(VmId(chosen), VmState.UP)


def test_vm_is_one_when_the_node_was_killed_before_it_answered_the_aggregator(
    story: Story,
) -> None:
    disks = _disks(story)
    vm_id = VmId(str(uuid.uuid4()))
    request = NewVm(
        "halfway",
        fleet.IMAGE,
        vm_id=vm_id,
        memory_bytes=128 * MiB,
        node_id=story.node_id("h1"),
    )
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(story.client.vm_create, request)
        _kill_agent_when_it_makes(story, disks, vm_id)
        order = asked.result()
    story.fleet.wait_order(story.client, order)
    again = story.fleet.create_vm(story.client, request)
    assert again == vm_id
    assert [vm.vm_id for vm in story.client.vm_list().vms] == [vm_id]
    disk_id = _disk_of(vm_id)
    assert [name for name in os.listdir(disks) if disk_id in name] == [disk_id]


def test_twenty_stuck_vms_take_nothing_from_the_others(story: Story) -> None:
    free = story.run_vm("free", "h1").entry.vm.spec.vm_id
    before = latency.measure(story, "h1", "free", PAIRS)
    late = story.make_vm("late", "h1")
    last = story.client.event_list().events[0].number
    stuck = [story.make_vm(f"stuck{number}", "h1") for number in range(STUCK)]
    with contextlib.ExitStack() as stack:
        for vm_id in stuck:
            story.fleet.start_vm(story.client, vm_id)
            stack.enter_context(_hanging(story, vm_id))
        waiting.until(
            f"{STUCK} not responding",
            lambda: _count(story, VmState.NOT_RESPONDING) == STUCK,
            timeout_s=TOLD_S,
        )
        reason = story.client.vm_show(stuck[-1]).reason
        assert reason is not None
        assert reason.code == "vm_not_responding"
        during = latency.measure(story, "h1", "free", PAIRS)
        assert _is_unchanged(before, during), f"before: {before}; during: {during}"
        story.fleet.start_vm(story.client, late)
        story.wait_state(late, VmState.UP)
        shown = story.fleet.node_json("h1", "vm", "show", "stuck0")
        assert shown["run"]["state"] == VmState.NOT_RESPONDING
        waiting.until(
            "fresh figures of the free one",
            lambda: _is_fresh(story, "free"),
            timeout_s=TOLD_S,
        )
        assert story.fleet.node_status("h1").problems == ()
        story.fleet.stop_vm(story.client, free)
    for vm_id in stuck:
        story.wait_state(vm_id, VmState.DOWN)
    codes = {event.code for event in story.client.event_list(last).events}
    assert not codes & {"node_suspect", "node_unreachable"}


def _is_unchanged(before: latency.Latency, during: latency.Latency) -> bool:
    log.info("before: %s; during: %s", before, during)
    return (
        during.read_s < MORE * before.read_s + READ_WAVERS_S
        and during.change_s < MORE * before.change_s + CHANGE_WAVERS_S
    )


def _count(story: Story, state: VmState) -> int:
    return sum(vm.state is state for vm in story.client.vm_list().vms)


def _is_fresh(story: Story, name: str) -> bool:
    """Tell whether a host's newest figures of a VM are those of the last sample."""
    vm_id = story.fleet.node_json("h1", "vm", "show", name)["vm"]["spec"]["vm_id"]
    figures = story.fleet.node_json("h1", "stats").get("vms", ())
    return any(
        each["vm_id"] == vm_id and each.get("age_s", 0.0) < 16 for each in figures
    )


def _creation(chosen: str) -> tuple[str, ...]:
    name = f"once-{chosen[:8]}"
    words = ("--image", fleet.IMAGE, "--memory", "128M", "--id", chosen)
    return ("vm", "create", name, *words)


def _disks(story: Story) -> Path:
    """Return where h1 has the disks of its local pool, as this machine sees it."""
    folder = story.lab.member("h1").directory / "var.u/lib/skerry/local"
    return folder / story.local("h1") / "images"


def _disk_of(vm_id: str) -> str:
    """Return the disk of a VM that was asked for in a few words."""
    return str(uuid.uuid5(uuid.UUID(vm_id), "disk1"))


def _create_without_an_answer(story: Story, disks: Path) -> str:
    """Ask h1 for a VM and kill its agent before it answers; return the VM's id."""
    program = str(members.VIRTUAL_ENVIRONMENT / "bin/skerry-node")
    member = story.lab.member("h1")
    for _ in range(TRIES):
        chosen = str(uuid.uuid4())
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(member.exec, [program, "--json", *_creation(chosen)])
            _kill_agent_when_it_makes(story, disks, chosen)
            if asked.result().returncode != 0:
                return chosen
        story.wait_answering("h1")
        story.fleet.node_json("h1", "vm", "delete", f"once-{chosen[:8]}", "--yes")
    pytest.fail(f"the agent answered before each of {TRIES} kills")


def _kill_agent_when_it_makes(story: Story, disks: Path, vm_id: str) -> None:
    """Kill h1's agent as soon as there is a folder for the VM's disk."""
    agent = processes.identify(story.lab.member("h1").service_pid("agent"))
    assert agent is not None

    def is_begun() -> bool:
        return any(disks.glob(f"*{_disk_of(vm_id)}*"))

    assert polling.until(is_begun, 20.0, 0.001)
    assert processes.send(agent, signal.SIGKILL)


@contextlib.contextmanager
def _hanging(story: Story, vm_id: VmId) -> Iterator[None]:
    """Let QEMU of a VM hang, and end it afterwards."""
    (pid,) = (
        pid
        for _, running, pid in soak_look.qemu_processes(story.lab)
        if running == vm_id
    )
    identity = processes.identify(pid)
    assert identity is not None
    assert processes.send(identity, signal.SIGSTOP)
    try:
        yield
    finally:
        assert processes.send(identity, signal.SIGKILL)
