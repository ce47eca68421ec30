"""When hooks are asked and told about a VM, and what their word is worth."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from lxml import etree

from node.hooks.runner import HookFailed
from node.model.hooks import HookPoint
from node.model.ids import DiskId
from node.model.job import JobState
from node.model.properties import CustomProperty
from node.model.requests import (
    ActOnVm,
    AttachDisk,
    DetachDisk,
    StartVm,
    StopManner,
    StopVm,
)
from node.model.vm import Disk, VmState, Wanted
from node.system.hypervisor import Activity, HypervisorRefused
from tests.lab import waiting
from tests.unit.node.vm.examples import DISK, SPEC, VM_ID
from tests.unit.node.vm.one_node import OneNode

PREPARED = HookPoint.AFTER_DISK_PREPARE
STARTED = [PREPARED, HookPoint.BEFORE_VM_START, HookPoint.AFTER_VM_START]
ENDED = [HookPoint.BEFORE_VM_DESTROY, HookPoint.AFTER_VM_DESTROY]
OTHER_DISK = DiskId("d15c0000-0000-4000-8000-000000000077")
FORCE = StopVm(manner=StopManner.FORCE)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[OneNode]:
    made = OneNode(tmp_path)
    made.create()
    yield made
    made.stop_agent()


def _told(node: OneNode, expected: list[HookPoint]) -> None:
    """Check what was reached, which a thread of its own tells in part."""
    told = node.hooks.told
    waiting.until("what is told", lambda: len(told) >= len(expected), timeout_s=10.0)
    assert told == expected


def test_start_asks_and_tells(node: OneNode) -> None:
    node.start()
    _told(node, STARTED)
    live = node.hypervisor.observe(VM_ID).xml
    assert node.hooks.seen[HookPoint.AFTER_VM_START] == live


def test_edit_is_what_is_started(node: OneNode) -> None:
    node.hooks.on_edit = lambda _, xml: xml.replace("<name>", "<title>t</title><name>")
    node.start()
    assert "<title>t</title>" in node.hypervisor.observe(VM_ID).xml


def test_edit_keeps_its_place_under_another_name(node: OneNode) -> None:
    other = "<uuid>00000000-0000-4000-8000-000000000009</uuid>"
    node.hypervisor.create(f"<domain><name>web</name>{other}</domain>")
    node.hooks.on_edit = lambda _, xml: xml.replace("<name>", "<title>t</title><name>")
    node.start()
    domain = node.hypervisor.observe(VM_ID)
    assert domain.name.startswith("web-")
    assert "<title>t</title>" in domain.xml


def test_hook_that_fails_keeps_a_vm_down(node: OneNode) -> None:
    def refuse(point: HookPoint, xml: str) -> str:
        if point is PREPARED:
            return xml
        raise HookFailed(f"{point}: 50_a: no licence")

    node.hooks.on_edit = refuse
    job = node.do("start", StartVm())
    assert job.error is not None
    assert (job.state, job.error.code) == (JobState.FAILED, "hook_failed")
    assert "create" not in node.hypervisor.calls
    assert node.run.state is VmState.DOWN
    assert node.run.end is not None
    assert "no licence" in node.run.end.detail
    _told(node, [*STARTED[:2], *ENDED])


def test_edit_that_libvirt_refuses_names_its_script(node: OneNode) -> None:
    def refuse(xml: str) -> None:
        if "<bad" in xml:
            raise HypervisorRefused("unknown element bad")

    node.hypervisor.on_create = refuse
    node.hooks.on_edit = lambda _, xml: xml.replace("<name>", "<bad/><name>")
    job = node.do("start", StartVm())
    assert job.error is not None
    assert job.error.code == "hook_edit_refused"
    assert "50_fake" in job.error.message
    assert "unknown element bad" in job.error.message


def test_refusal_without_an_edit_is_libvirts_own(node: OneNode) -> None:
    node.hypervisor.refusal = "no room"
    job = node.do("start", StartVm())
    assert job.error is not None
    assert job.error.code == "hypervisor_refused"


def test_pause_and_resume_ask_and_tell(node: OneNode) -> None:
    node.start()
    node.do("pause", ActOnVm())
    node.do("resume", ActOnVm())
    points = [
        HookPoint.BEFORE_VM_PAUSE,
        HookPoint.AFTER_VM_PAUSE,
        HookPoint.BEFORE_VM_CONT,
        HookPoint.AFTER_VM_CONT,
    ]
    told = node.hooks.told
    waiting.until("all", lambda: len(told) >= len(STARTED) + 4, timeout_s=10.0)
    assert sorted(told[3:]) == sorted(points)
    assert told.index(points[1]) < told.index(points[3])


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_hook_forbids_to_pause_and_resume(node: OneNode, verb: str) -> None:
    node.start()
    if verb == "resume":
        node.do("pause", ActOnVm())

    def refuse(point: HookPoint) -> None:
        raise HookFailed(f"{point}: 50_a: not now")

    node.hooks.on_ask = refuse
    before = node.run.state
    job = node.do(verb, ActOnVm())
    assert job.error is not None
    assert job.error.code == "hook_failed"
    assert node.run.state is before


def test_pause_by_an_error_counts(node: OneNode) -> None:
    node.start()
    node.hypervisor.set_activity(VM_ID, Activity.FAULTED)
    node.await_state(VmState.PAUSED)
    _told(node, [*STARTED, HookPoint.AFTER_VM_PAUSE])
    node.do("resume", ActOnVm())
    waiting.until(
        "it goes on",
        lambda: HookPoint.AFTER_VM_CONT in node.hooks.told,
        timeout_s=10.0,
    )


def test_force_tells_before_and_after(node: OneNode) -> None:
    node.start()
    live = node.hypervisor.observe(VM_ID).xml
    node.do("stop", FORCE)
    _told(node, [*STARTED, *ENDED])
    assert node.hooks.seen[HookPoint.BEFORE_VM_DESTROY] == live
    assert node.hooks.seen[HookPoint.AFTER_VM_DESTROY] == live


@pytest.mark.parametrize("way", ["shutdown", "crashed"])
def test_end_by_itself_is_told(node: OneNode, way: str) -> None:
    node.start()
    node.hypervisor.end(VM_ID, way)
    node.await_state(VmState.DOWN)
    _told(node, [*STARTED, *ENDED])


CARD = replace(SPEC.nics[0], custom_properties=(CustomProperty("vmfex", "blue"),))


@pytest.fixture
def carded(tmp_path: Path) -> Iterator[OneNode]:
    """Return a node whose VM has a card with a property."""
    made = OneNode(tmp_path)
    made.create(nics=(CARD,))
    yield made
    made.stop_agent()


def test_card_is_as_its_hook_wants_it(carded: OneNode) -> None:
    def change(point: HookPoint, xml: str) -> str:
        if point is not HookPoint.BEFORE_DEVICE_CREATE:
            return xml
        assert xml.startswith("<interface")
        return xml.replace("<mac", "<target dev='t'/><mac")

    carded.hooks.on_edit = change
    carded.start()
    root = etree.fromstring(carded.hypervisor.observe(VM_ID).xml)
    (target,) = root.findall("devices/interface/target")
    assert target.get("dev") == "t"
    points = [
        PREPARED,
        HookPoint.BEFORE_DEVICE_CREATE,
        *STARTED[1:],
        HookPoint.AFTER_DEVICE_CREATE,
    ]
    assert carded.hooks.told == points
    created = carded.hooks.seen[HookPoint.AFTER_DEVICE_CREATE]
    assert created.startswith("<interface")
    carded.do("stop", FORCE)
    ended = [HookPoint.BEFORE_DEVICE_DESTROY, *ENDED, HookPoint.AFTER_DEVICE_DESTROY]
    _told(carded, [*points, *ended])


def test_hook_of_a_card_forbids_the_end(carded: OneNode) -> None:
    carded.start()

    def refuse(point: HookPoint) -> None:
        if point is HookPoint.BEFORE_DEVICE_DESTROY:
            raise HookFailed(f"{point}: 50_a: it is in use")

    carded.hooks.on_ask = refuse
    job = carded.do("stop", FORCE)
    assert job.error is not None
    assert job.error.code == "hook_failed"
    assert carded.run.state is VmState.POWERING_UP
    assert carded.vms.show(VM_ID).vm.wanted is Wanted.UP
    carded.hooks.on_ask = lambda point: None
    assert carded.do("stop", FORCE).error is None


def test_disk_that_is_plugged_asks_and_tells(node: OneNode) -> None:
    node.start()
    disk = Disk(
        *(OTHER_DISK, "more", DISK.size_bytes),
        storage_domain_id=node.vms.show(VM_ID).vm.home,
        custom_properties=(CustomProperty("diskunmap", "on"),),
    )
    node.pool.disks[OTHER_DISK] = DISK.size_bytes
    node.hooks.on_edit = lambda _, xml: xml.replace("<disk ", "<disk rawio='yes' ")
    assert node.do("attach_disk", AttachDisk(disk)).error is None
    assert "rawio" in node.hypervisor.observe(VM_ID).xml
    assert node.do("detach_disk", DetachDisk(OTHER_DISK)).error is None
    assert node.hooks.told[3:] == [
        PREPARED,
        HookPoint.BEFORE_DISK_HOTPLUG,
        HookPoint.AFTER_DISK_HOTPLUG,
        HookPoint.BEFORE_DISK_HOTUNPLUG,
        HookPoint.AFTER_DISK_HOTUNPLUG,
    ]
    assert OTHER_DISK in node.hooks.seen[HookPoint.AFTER_DISK_HOTUNPLUG]


def test_end_is_told_of_a_vm_that_ended_while_no_agent_was_there(
    node: OneNode,
) -> None:
    node.start()
    live = node.hypervisor.observe(VM_ID).xml
    node.stop_agent()
    node.hypervisor.end(VM_ID, "shutdown")
    node.start_agent()
    _told(node, [*STARTED, *ENDED])
    assert node.hooks.seen[HookPoint.AFTER_VM_DESTROY] == live


def test_start_that_is_run_again_tells_again(node: OneNode) -> None:
    """The agent died after QEMU was there: nobody knows whether hooks were told."""
    node.start()
    node.stop_agent()
    node.start_agent(has_workers=False)
    asked = node.vms.start(VM_ID, StartVm())
    node.restart_agent()
    assert node.end_of(asked).state is JobState.DONE
    assert node.hooks.told == [*STARTED, HookPoint.AFTER_VM_START]


def test_start_of_one_that_runs_tells_nothing(node: OneNode) -> None:
    node.start()
    node.start()
    assert node.hooks.told == STARTED


def test_shutdown_by_the_guest_tells_once(node: OneNode) -> None:
    node.start()
    node.do("stop", StopVm(manner=StopManner.GRACEFUL))
    _told(node, [*STARTED, *ENDED])


# --- disks


def _change(node: OneNode, **changes: object) -> None:
    """Have a script change what it is told of a disk."""

    def change(point: HookPoint, text: str) -> str:
        return json.dumps(json.loads(text) | changes) if point is PREPARED else text

    node.hooks.on_edit = change


def test_hook_of_a_disk_is_told_what_vdsm_tells(node: OneNode) -> None:
    node.start()
    told = json.loads(node.hooks.seen[PREPARED])
    assert told["imageID"] == DISK.disk_id
    assert told["domainID"] == node.vms.show(VM_ID).vm.home
    assert told["path"].endswith(told["volumeID"])
    assert (told["format"], told["iface"], told["cache"]) == ("cow", "virtio", "none")


def test_hook_of_a_disk_says_how_it_is_used(node: OneNode) -> None:
    _change(node, cache="writeback", propagateErrors="on", discard="False", mine="x")
    node.start()
    root = etree.fromstring(node.hypervisor.observe(VM_ID).xml)
    (driver,) = root.findall("devices/disk/driver")
    assert driver.get("cache") == "writeback"
    assert driver.get("error_policy") == "enospace"
    assert driver.get("rerror_policy") == "stop"
    assert driver.get("discard") == "ignore"


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"path": "/dev/ovirt-local/x"}, id="path"),
        pytest.param({"format": "raw"}, id="format"),
        pytest.param({"shared": "shared"}, id="shared"),
        pytest.param({"cache": "unsafe"}, id="unsafe-cache"),
        pytest.param({"cache": ["none"]}, id="list"),
        pytest.param({"propagateErrors": "never"}, id="errors"),
        pytest.param({"discard": "perhaps"}, id="discard"),
    ],
)
def test_edit_of_a_disk_that_does_not_count_is_refused(
    node: OneNode, changes: dict[str, object]
) -> None:
    _change(node, **changes)
    job = node.do("start", StartVm())
    assert job.error is not None
    assert job.error.code == "hook_edit_refused"
    assert "50_fake" in job.error.message
    assert "create" not in node.hypervisor.calls


def test_hook_of_a_disk_forbids_the_start(node: OneNode) -> None:
    def refuse(point: HookPoint, text: str) -> str:
        raise HookFailed(f"{point}: 50_a: the tape is not there")

    node.hooks.on_edit = refuse
    job = node.do("start", StartVm())
    assert job.error is not None
    assert (job.state, job.error.code) == (JobState.FAILED, "hook_failed")
    assert node.run.state is VmState.DOWN
