"""Scripts of the aggregator forbid, are told, and outlive it; guests never notice."""

import base64
import json
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from node.errors import Conflict
from node.model.ids import VmId
from node.model.job import JobState
from node.model.requests import StartVm
from node.model.vm import VmState
from tests.lab import polling, waiting
from tests.lab.running import Member
from tests.lab.story.conftest import Story

pytestmark = pytest.mark.lab

ROOT = "/etc/skerry/center-hooks"
STATE = "/run/skerry-aggregator/hooks/state"
HOST = "h1"
QUOTA = """#!/usr/bin/python3
import hooking
asked = hooking.read_json()
if asked["object"]["name"] == "forbidden":
    hooking.exit_hook("no more VMs this month")
"""
NOTE = """#!/bin/sh
tr -d '\\n' <"$_hook_json" >>"$SKERRY_HOOKS_RUN/told"
echo >>"$SKERRY_HOOKS_RUN/told"
"""
HANG = """#!/bin/sh
echo asked >>"$SKERRY_HOOKS_RUN/asked"
while [ ! -e "$SKERRY_HOOKS_RUN/gate" ]; do sleep 0.05; done
"""


class Center:
    """The machine of the aggregator, where its administrator puts scripts."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.member: Member = story.lab.member("a1")

    def shell(self, script: str) -> str:
        done = self.member.exec(["sh", "-c", script])
        assert done.returncode == 0, done.stderr
        return done.stdout

    def put(self, point: str, name: str, text: str) -> None:
        data = base64.b64encode(text.encode()).decode()
        path = f"{ROOT}/{point}/{name}"
        self.shell(
            f"mkdir -p {ROOT}/{point} && echo {data} | base64 -d >{path}"
            f" && chmod 0755 {path}"
        )

    def told(self) -> list[dict[str, Any]]:
        """Return what scripts were told, in order."""
        text = self.shell(f"cat {STATE}/told 2>/dev/null || true")
        return [json.loads(line) for line in text.splitlines()]

    def wait_told(self, is_enough: Callable[[list[dict[str, Any]]], bool]) -> None:
        waiting.until("what scripts are told", lambda: is_enough(self.told()))


@pytest.fixture
def center(story: Story) -> Iterator[Center]:
    made = Center(story)
    yield made
    made.shell(f"touch {STATE}/gate || true; rm -rf {ROOT}")
    story.fleet.wait_idle(story.client)
    made.shell(f"rm -f {STATE}/*")


def _codes(story: Story, vm_id: VmId) -> set[str]:
    events = story.client.event_list().events
    return {each.code for each in events if each.vm_id == vm_id}


def test_script_forbids_a_start_and_the_next_is_told(
    story: Story, center: Center
) -> None:
    center.put("before_vm_start", "50_quota", QUOTA)
    center.put("after_vm_start", "60_note", NOTE)
    center.put("after_vm_start_fail", "60_note", NOTE)
    listed = story.client.center_hook_list().scripts
    assert [(e.point, e.name, e.refused) for e in listed] == [
        ("before_vm_start", "50_quota", ""),
        ("after_vm_start", "60_note", ""),
        ("after_vm_start_fail", "60_note", ""),
    ]
    vm_id = story.make_vm("forbidden", HOST)
    with pytest.raises(Conflict, match="50_quota: no more VMs this month") as caught:
        story.client.vm_start(vm_id, StartVm())
    assert caught.value.code == "hook_failed"
    assert story.state(vm_id) is VmState.DOWN
    assert "center_hook_failed" in _codes(story, vm_id)
    other = story.make_vm("allowed", HOST)
    story.fleet.start_vm(story.client, other)
    center.wait_told(lambda told: len(told) == 2)
    first, second = center.told()
    assert (first["point"], first["object"]["id"]) == ("after_vm_start_fail", vm_id)
    assert first["error"]["code"] == "hook_failed"
    assert (second["point"], second["object"]["id"]) == ("after_vm_start", other)
    assert second["node"]["name"] == HOST
    assert second["document"]["spec"]["name"] == "allowed"


def test_script_that_hangs_outlives_its_aggregator_and_nothing_waits_for_it(
    story: Story, center: Center
) -> None:
    center.put("before_vm_start", "50_hang", HANG)
    center.put("after_vm_start", "60_note", NOTE)
    vm_id = story.make_vm("hung", HOST)
    order = story.fleet.begin_start(story.client, vm_id)
    assert order.state is JobState.QUEUED
    assert order.step == "scripts are asked"
    other = story.make_vm("other", HOST)  # meanwhile
    assert story.state(other) is VmState.DOWN
    asked = f"cat {STATE}/asked"
    assert center.shell(asked).split() == ["asked"]
    os.kill(center.member.service_pid("aggregator"), signal.SIGKILL)

    def is_asked_again() -> bool:
        return center.shell(asked).split() == ["asked", "asked"]

    waiting.until("the second question", is_asked_again)
    assert len(center.shell("pgrep -f [5]0_hang").split()) == 1
    assert story.state(vm_id) is VmState.DOWN
    center.shell(f"touch {STATE}/gate")
    story.fleet.wait_order(story.client, order)
    center.wait_told(bool)
    (told,) = center.told()
    assert told["id"] == order.order_id
    assert polling.until(lambda: story.state(vm_id) is VmState.UP, 60.0)


def test_script_forbids_that_a_node_is_removed(story: Story, center: Center) -> None:
    center.put("before_node_remove", "50_no", "#!/bin/sh\necho not $vmId >&2; exit 1\n")
    node_id = story.node_id("h3")
    with pytest.raises(Conflict, match="50_no"):
        story.client.node_remove(node_id, is_forced=True)
    story.wait_node("h3", "up")
