"""The verbs on VMs, with a real store and real jobs on a hypervisor in memory."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from node.clock import SystemClock
from node.guest import qga
from node.jobs import JobUnknown
from node.model.feed import Kind
from node.model.host import KvmFacts
from node.model.ids import CorrelationId, JobId
from node.model.job import Job, JobState
from node.model.properties import CustomProperty
from node.model.requests import (
    ActOnVm,
    CreateVm,
    DeleteVm,
    SetProperties,
    StartVm,
    StopManner,
    StopVm,
)
from node.model.vm import EndCause, Vm, VmState, Wanted
from node.policy import properties
from node.policy.properties import BadProperty, NoSuchDevice
from node.store import Store
from node.system.command import CommandFailed
from node.system.hypervisor import Activity, Domain, ShutdownWay
from node.vm import domxml
from node.vm.creating import NoLocalPool, VmGone
from node.vm.definition import MacTaken, NameTaken, VmDiffers
from node.vm.lifecycle import (
    BadDeadline,
    NotRunning,
    StaleGeneration,
)
from node.vm.register import VmUnknown
from tests.fakes.hypervisor import PNG, FakeHypervisor
from tests.unit.node.vm.examples import (
    DISK,
    DOWN,
    HERE,
    HOST,
    NIC,
    NODE_ID,
    OTHER_ID,
    SPEC,
    VM,
    VM_ID,
)
from tests.unit.node.vm.one_node import WAIT_S, OneNode

_REPLIES = {
    qga.INTERFACES: [{"ip-addresses": [{"ip-address": "192.0.2.7"}]}],
    qga.HOST_NAME: {"host-name": "web"},
}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[OneNode]:
    made = OneNode(tmp_path)
    yield made
    made.stop_agent()


# --- create


def test_create_defines_a_vm_that_is_down(node: OneNode) -> None:
    entry = node.vms.create(CreateVm(replace(SPEC, machine=None)))
    assert entry.vm.spec.machine == "pc-q35-10.0"
    assert (entry.run.state, entry.vm.wanted) == (VmState.DOWN, Wanted.DOWN)
    assert node.vms.list() == (entry,)
    assert node.pool.definitions == {VM_ID: entry.vm}
    assert node.pool.disks == {DISK.disk_id: DISK.size_bytes}
    assert node.codes() == ["vm_created"]


def test_create_again_is_the_same_vm(node: OneNode) -> None:
    node.create()
    node.create()
    assert node.codes() == ["vm_created"]


def test_create_refuses_another_vm_with_the_same_id(node: OneNode) -> None:
    node.create()
    with pytest.raises(VmDiffers):
        node.create(name="db")


def test_create_refuses_a_name_that_is_taken(node: OneNode) -> None:
    node.create()
    with pytest.raises(NameTaken):
        node.create(vm_id=OTHER_ID, nics=())


def test_create_refuses_a_mac_that_is_taken(node: OneNode) -> None:
    node.create()
    with pytest.raises(MacTaken):
        node.create(vm_id=OTHER_ID, name="db")


def test_create_says_that_a_node_without_a_pool_needs_a_place(node: OneNode) -> None:
    node.volumes.is_shared = True
    with pytest.raises(NoLocalPool):
        node.create()
    assert node.vms.list() == ()


def test_a_created_vm_is_there_after_a_restart(node: OneNode) -> None:
    node.create()
    before = node.vms.show(VM_ID)
    node.restart_agent()
    assert node.vms.show(VM_ID) == before


# --- start


def test_start_runs_a_vm(node: OneNode) -> None:
    node.create()
    node.start()
    assert node.run.state is VmState.POWERING_UP
    assert (node.run.generation, node.run.is_emulated) == (1, False)
    assert node.run.started_at is not None
    assert node.run.reason is not None
    assert node.run.reason.code == "vm_waits_for_guest"
    assert node.codes() == ["vm_created", "vm_start_asked", "vm_started"]


def test_start_is_persistent_before_it_is_answered(node: OneNode) -> None:
    node.create()
    job = node.vms.start(VM_ID, StartVm(JobId("11111111-0000-4000-8000-000000000001")))
    assert node.store.get("job", job.job_id) is not None
    node.end_of(job)


def test_start_again_leaves_a_running_vm_as_it_is(node: OneNode) -> None:
    node.create()
    node.start()
    started_at = node.run.started_at
    node.start()
    assert node.run.started_at == started_at
    assert node.hypervisor.calls.count("create") == 1


def test_start_emulates_when_kvm_cannot_be_used(node: OneNode) -> None:
    node.host = replace(HOST, kvm=KvmFacts(False, "no vmx"))
    node.create()
    node.start()
    assert node.run.is_emulated


def test_start_paused_is_what_was_wanted(node: OneNode) -> None:
    node.create()
    node.start(is_paused=True)
    assert (node.run.state, node.run.reason) == (VmState.PAUSED, None)


def test_start_explains_why_it_failed(node: OneNode) -> None:
    node.create()
    node.hypervisor.refusal = "unable to open bridge lan0"
    job = node.do("start", StartVm())
    assert job.error is not None
    assert job.error.code == "hypervisor_refused"
    assert node.run.end is not None
    assert (node.run.end.cause, node.run.end.detail) == (
        EndCause.START_FAILED,
        "unable to open bridge lan0",
    )
    assert node.run.reason is not None
    assert node.run.reason.code == "vm_start_failed"


def test_start_takes_another_name_when_libvirt_has_it(node: OneNode) -> None:
    node.hypervisor.add(Domain(OTHER_ID, "web", Activity.RUNNING, "<domain/>"))
    node.create()
    node.start()
    assert node.hypervisor.observe(VM_ID).name == "web-aaaaaaaa"


def test_start_refuses_a_definition_that_changed(node: OneNode) -> None:
    node.create()
    with pytest.raises(StaleGeneration):
        node.vms.start(VM_ID, StartVm(generation=7))


def test_a_verb_says_when_there_is_no_such_vm(node: OneNode) -> None:
    with pytest.raises(VmUnknown):
        node.vms.start(VM_ID, StartVm())


def test_events_carry_the_correlation_id(node: OneNode) -> None:
    node.create()
    node.start(correlation_id=CorrelationId("ticket-7"))
    asked = node.store.events(0).events[1]
    assert (asked.code, asked.correlation_id) == ("vm_start_asked", "ticket-7")


def test_a_guest_that_answers_is_up(node: OneNode) -> None:
    node.create()
    node.start()
    node.hypervisor.set_guest(VM_ID, _REPLIES)
    run = node.await_state(VmState.UP)
    assert run.guest is not None
    assert run.guest.addresses == ("192.0.2.7",)
    assert run.reason is None


# --- custom properties

_PINCPU = (CustomProperty("pincpu", "1-4"),)


def test_set_properties_changes_the_definition_on_the_pool(node: OneNode) -> None:
    node.create()
    assert node.do("set_properties", SetProperties(_PINCPU)).state is JobState.DONE
    kept = node.pool.definitions[VM_ID]
    assert (kept.spec.custom_properties, kept.generation) == (_PINCPU, 2)
    assert node.vms.show(VM_ID).vm == kept


@pytest.mark.parametrize("device_id", [NIC.nic_id, DISK.disk_id])
def test_set_properties_reaches_a_device(node: OneNode, device_id: str) -> None:
    node.create()
    node.do("set_properties", SetProperties(_PINCPU, device_id))
    assert properties.of(node.vms.show(VM_ID).vm.spec, device_id) == _PINCPU


def test_set_properties_waits_for_the_next_start_of_a_guest(node: OneNode) -> None:
    node.create()
    node.start()
    calls = list(node.hypervisor.calls)
    node.do("set_properties", SetProperties(_PINCPU))
    assert node.vms.show(VM_ID).vm.generation == 2
    assert node.run.generation == 1
    assert node.hypervisor.calls == calls


def test_set_properties_again_changes_nothing(node: OneNode) -> None:
    node.create()
    node.do("set_properties", SetProperties(_PINCPU))
    node.do("set_properties", SetProperties(_PINCPU))
    assert node.vms.show(VM_ID).vm.generation == 2


def test_set_properties_is_done_after_a_crash(node: OneNode) -> None:
    node.create()
    node.stop_agent()
    node.start_agent(has_workers=False)
    job = node.vms.set_properties(VM_ID, SetProperties(_PINCPU))
    node.restart_agent()
    assert node.end_of(job).state is JobState.DONE
    assert node.vms.show(VM_ID).vm.spec.custom_properties == _PINCPU


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        pytest.param(
            SetProperties((CustomProperty("PATH", "x"),)), BadProperty, id="name"
        ),
        pytest.param(SetProperties(_PINCPU, OTHER_ID), NoSuchDevice, id="device"),
        pytest.param(
            SetProperties(_PINCPU, generation=7), StaleGeneration, id="generation"
        ),
    ],
)
def test_set_properties_refuses(
    node: OneNode, request_: SetProperties, error: type[Exception]
) -> None:
    node.create()
    with pytest.raises(error):
        node.vms.set_properties(VM_ID, request_)


# --- stop


def test_stop_ends_by_the_guests_agent(node: OneNode) -> None:
    node.create()
    node.start()
    node.hypervisor.set_guest(VM_ID, _REPLIES, frozenset({ShutdownWay.AGENT}))
    assert node.do("stop", StopVm()).state is JobState.DONE
    assert node.run.end is not None
    assert node.run.end.cause is EndCause.ADMINISTRATOR
    assert node.vms.show(VM_ID).vm.wanted is Wanted.DOWN
    assert "destroy" not in node.hypervisor.calls


def test_stop_ends_by_acpi_when_there_is_no_agent(node: OneNode) -> None:
    node.create()
    node.start()
    node.do("stop", StopVm())
    assert [call for call in node.hypervisor.calls if "shutdown" in call] == [
        "shutdown agent",
        "shutdown acpi",
    ]
    assert node.run.state is VmState.DOWN


def test_stop_ends_by_force_after_the_deadline(node: OneNode) -> None:
    node.create()
    node.start()
    node.hypervisor.set_guest(VM_ID, obeys=frozenset())
    assert node.do("stop", StopVm(deadline_s=0.1)).state is JobState.DONE
    assert node.run.end is not None
    assert node.run.end.cause is EndCause.KILLED
    assert node.codes()[-2:] == ["vm_stop_asked", "vm_killed"]


def test_shutdown_never_uses_force(node: OneNode) -> None:
    node.create()
    node.start()
    node.hypervisor.set_guest(VM_ID, _REPLIES, frozenset())
    job = node.do("stop", StopVm(manner=StopManner.SHUTDOWN, deadline_s=0.1))
    assert job.error is not None
    assert job.error.code == "vm_shutdown_ignored"
    run = node.await_state(VmState.UP)
    assert run.reason is not None
    assert run.reason.code == "vm_shutdown_ignored"
    assert "destroy" not in node.hypervisor.calls


def test_stop_by_force_asks_nobody(node: OneNode) -> None:
    node.create()
    node.start()
    node.do("stop", StopVm(manner=StopManner.FORCE))
    assert not any("shutdown" in call for call in node.hypervisor.calls)
    assert node.run.state is VmState.DOWN


def test_stop_ends_a_paused_vm_by_force(node: OneNode) -> None:
    node.create()
    node.start(is_paused=True)
    assert node.do("stop", StopVm(deadline_s=60)).state is JobState.DONE
    assert node.run.state is VmState.DOWN


def test_shutdown_refuses_a_paused_vm(node: OneNode) -> None:
    node.create()
    node.start(is_paused=True)
    job = node.do("stop", StopVm(manner=StopManner.SHUTDOWN))
    assert job.error is not None
    assert job.error.code == "vm_paused"


def test_stop_leaves_a_vm_that_is_down_as_it_is(node: OneNode) -> None:
    node.create()
    assert node.do("stop", StopVm()).state is JobState.DONE
    assert node.codes() == ["vm_created"]


def test_stop_can_be_cancelled(node: OneNode) -> None:
    node.create()
    node.start()
    node.hypervisor.set_guest(VM_ID, _REPLIES, frozenset())
    job = node.vms.stop(VM_ID, StopVm(deadline_s=60))
    node.await_state(VmState.POWERING_DOWN)
    node.jobs.cancel(job.job_id)
    assert node.end_of(job).state is JobState.CANCELLED
    node.await_state(VmState.UP)
    assert node.vms.show(VM_ID).vm.wanted is Wanted.UP


@pytest.mark.parametrize("deadline_s", [-1.0, 3601.0, float("nan"), float("inf")])
def test_stop_refuses_a_deadline_that_is_none(node: OneNode, deadline_s: float) -> None:
    node.create()
    with pytest.raises(BadDeadline):
        node.vms.stop(VM_ID, StopVm(deadline_s=deadline_s))


# --- pause, resume, reset, delete, and what looks


def test_pause_and_resume_are_what_was_wanted(node: OneNode) -> None:
    node.create()
    node.start()
    node.do("pause", ActOnVm())
    assert (node.run.state, node.run.reason) == (VmState.PAUSED, None)
    node.do("resume", ActOnVm())
    assert node.run.state is VmState.POWERING_UP
    assert node.codes()[-2:] == ["vm_paused", "vm_resumed"]


@pytest.mark.parametrize("verb", ["pause", "resume", "reset"])
def test_a_verb_refuses_a_vm_that_is_down(node: OneNode, verb: str) -> None:
    node.create()
    job = node.do(verb, ActOnVm())
    assert job.error is not None
    assert job.error.code == "vm_not_running"


def test_reset_is_told_once(node: OneNode) -> None:
    node.create()
    node.start()
    node.do("reset", ActOnVm())
    assert node.codes()[-1] == "vm_reset"
    assert "vm_rebooted" not in node.codes()


def test_delete_removes_the_disks(node: OneNode) -> None:
    node.create()
    assert node.do("delete", DeleteVm()).state is JobState.DONE
    assert (node.pool.definitions, node.pool.disks) == ({}, {})
    with pytest.raises(VmUnknown):
        node.vms.show(VM_ID)


def test_create_refuses_a_vm_that_was_deleted(node: OneNode) -> None:
    node.create()
    node.do("delete", DeleteVm())
    with pytest.raises(VmGone):
        node.create()
    node.restart_agent()
    with pytest.raises(VmGone):
        node.create(name="another", nics=())
    assert (node.pool.definitions, node.pool.disks) == ({}, {})


def test_create_may_be_asked_again_when_it_failed(node: OneNode) -> None:
    def refuse(_vm: Vm) -> None:
        node.volumes.on_make = lambda _: None
        raise CommandFailed("no space")

    node.volumes.on_make = refuse
    with pytest.raises(CommandFailed):
        node.create()
    assert node.vms.list() == ()
    node.create()


def test_delete_again_is_the_same_end(node: OneNode) -> None:
    node.create()
    job_id = JobId("11111111-0000-4000-8000-000000000001")
    first = node.do("delete", DeleteVm(job_id))
    assert node.vms.delete(VM_ID, DeleteVm(job_id)) == first
    assert node.do("delete", DeleteVm()).state is JobState.DONE
    assert node.codes().count("vm_deleted") == 1


@pytest.mark.parametrize("verb", ["start", "stop", "delete"])
def test_a_verb_waits_for_libvirt_before_it_acts(node: OneNode, verb: str) -> None:
    node.create()
    request = {"start": StartVm(), "stop": StopVm(), "delete": DeleteVm()}[verb]
    node.hypervisor.disconnect()
    job = getattr(node.vms, verb)(VM_ID, request)
    node.await_step(job, "waiting for libvirt")
    node.hypervisor.connect()
    assert node.end_of(job).state is JobState.DONE


def test_a_verb_that_waits_for_libvirt_can_be_cancelled(node: OneNode) -> None:
    node.create()
    node.hypervisor.disconnect()
    job = node.vms.start(VM_ID, StartVm())
    node.jobs.cancel(job.job_id)
    assert node.end_of(job).state is JobState.CANCELLED


def test_delete_refuses_a_vm_that_runs(node: OneNode) -> None:
    node.create()
    node.start()
    job = node.do("delete", DeleteVm())
    assert job.error is not None
    assert job.error.code == "vm_not_down"


def test_screenshot_returns_the_picture(node: OneNode) -> None:
    node.create()
    node.start()
    assert node.vms.screenshot(VM_ID) == PNG


def test_screenshot_refuses_a_vm_that_is_down(node: OneNode) -> None:
    node.create()
    with pytest.raises(NotRunning):
        node.vms.screenshot(VM_ID)


def test_serial_is_readable_after_the_end(node: OneNode) -> None:
    node.create()
    (node.folder / "serial" / f"{VM_ID}.log").write_bytes(b"Kernel panic")
    assert node.vms.serial(VM_ID, 5) == b"panic"


# --- what happens by itself


@pytest.mark.parametrize(
    ("detail", "cause"),
    [
        pytest.param("shutdown", EndCause.GUEST, id="guest"),
        pytest.param("failed", EndCause.CRASHED, id="crash"),
        pytest.param("destroyed", EndCause.KILLED, id="by-virsh"),
    ],
)
def test_an_end_is_explained(node: OneNode, detail: str, cause: EndCause) -> None:
    node.create()
    node.start()
    node.hypervisor.end(VM_ID, detail)
    run = node.await_state(VmState.DOWN)
    assert run.end is not None
    assert run.end.cause is cause
    assert run.reason is not None


def test_a_disk_error_pauses_with_its_reason(node: OneNode) -> None:
    node.create()
    node.start()
    node.hypervisor.fault(VM_ID, "enospc on vda")
    run = node.await_state(VmState.PAUSED)
    if run.reason is not None and "detail" not in run.reason.fields:
        run = node.await_change(run)  # a look has seen it before the event was read
    assert run.reason is not None
    assert (run.reason.code, run.reason.fields["detail"]) == (
        "vm_paused_by_error",
        "enospc on vda",
    )


@pytest.mark.parametrize(
    ("activity", "reason"),
    [
        pytest.param(Activity.PAUSED, None, id="paused"),
        pytest.param(Activity.FAULTED, "vm_paused_by_error", id="by-a-disk-error"),
    ],
)
def test_a_paused_vm_that_hangs_is_told_and_is_paused_again(
    node: OneNode, activity: Activity, reason: str | None
) -> None:
    node.create()
    node.start(is_paused=True)
    node.hypervisor.set_process(VM_ID, "T")
    for _ in range(2):
        node.vms._sampler.sample()
    node.vms._observer.survey()
    hung = node.run
    assert hung.state is VmState.NOT_RESPONDING
    node.hypervisor.set_process(VM_ID, "S", 2)
    with node.hypervisor.silence():
        node.hypervisor.set_activity(VM_ID, activity)
    node.vms._sampler.sample()
    assert node.run.state is VmState.PAUSED
    assert (node.run.reason and node.run.reason.code) == reason
    assert node.codes()[-2:] == ["vm_not_responding", "vm_responding"]


def test_a_reboot_forgets_what_the_guest_said(node: OneNode) -> None:
    node.create()
    node.start()
    node.hypervisor.set_guest(VM_ID, _REPLIES)
    node.await_state(VmState.UP)
    node.hypervisor.set_guest(VM_ID)
    node.hypervisor.reboot(VM_ID)
    assert node.await_state(VmState.REBOOTING).guest is None


# --- recovery


def test_a_running_vm_is_adopted_untouched(node: OneNode) -> None:
    node.create()
    node.start()
    node.hypervisor.set_guest(VM_ID, _REPLIES)
    before = node.await_state(VmState.UP)
    node.hypervisor.calls.clear()
    node.restart_agent()
    assert replace(node.run, guest=before.guest) == before
    touching = {"create", "destroy", "suspend", "resume", "reset"}
    assert touching.isdisjoint(node.hypervisor.calls)


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        pytest.param("shutdown", EndCause.GUEST, id="guest"),
        pytest.param("crashed", EndCause.CRASHED, id="crashed"),
        pytest.param(None, EndCause.UNKNOWN, id="no-trace"),
    ],
)
def test_an_end_while_the_agent_was_away_is_read_from_the_log(
    node: OneNode, line: str | None, cause: EndCause
) -> None:
    node.create()
    node.start()
    node.stop_agent()
    node.hypervisor.end(VM_ID, "whatever: nobody listens")
    if line is not None:
        now = SystemClock().now().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        text = f"{now}+0000: starting up libvirt version: 11\n"
        text += f"{now}+0000: shutting down, reason={line}\n"
        (node.logs / "web.log").write_text(text)
    node.start_agent()
    run = node.await_state(VmState.DOWN)
    assert run.end is not None
    assert run.end.cause is cause


def test_a_reboot_of_the_host_ends_what_ran(node: OneNode) -> None:
    node.create()
    node.start()
    node.stop_agent()
    node.hypervisor = FakeHypervisor()
    node.host = replace(HOST, boot_id="boot-2", booted_at="2026-11-22T09:00:00.000Z")
    node.start_agent()
    assert node.run.end is not None
    assert (node.run.end.cause, node.run.end.at) == (
        EndCause.HOST_LOST,
        "2026-11-22T09:00:00.000Z",
    )
    assert "vm_lost_with_host" in node.codes()


def test_what_happened_while_libvirt_was_away_is_seen_after_it(node: OneNode) -> None:
    node.create()
    node.start()
    node.hypervisor.disconnect()
    problem = node.vms.problem()
    assert problem is not None
    assert problem.code == "libvirt_down"
    with node.hypervisor.silence():
        node.hypervisor.end(VM_ID, "crashed")
    node.hypervisor.connect()
    node.await_state(VmState.DOWN)
    assert node.vms.problem() is None


def test_foreign_domains_are_shown_and_never_touched(node: OneNode) -> None:
    node.stop_agent()
    node.hypervisor.add(Domain(OTHER_ID, "theirs", Activity.PAUSED, "<domain/>"))
    node.start_agent()
    assert [each.name for each in node.vms.foreign()] == ["theirs"]
    assert node.vms.list() == ()


@pytest.mark.parametrize(
    ("has_domain", "creations"),
    [
        pytest.param(False, 1, id="before-qemu"),
        pytest.param(True, 0, id="after-qemu"),
    ],
)
def test_a_start_that_was_cut_short_is_finished(
    node: OneNode, has_domain: bool, creations: int
) -> None:
    node.create()
    node.stop_agent()
    node.start_agent(has_workers=False)
    job = node.vms.start(VM_ID, StartVm())
    if has_domain:
        vm = node.vms.show(VM_ID).vm
        xml = domxml.build(vm, "web", replace(HERE, is_emulated=False))
        node.hypervisor.add(Domain(VM_ID, "web", Activity.RUNNING, xml))
    node.restart_agent()
    assert node.end_of(job).state is JobState.DONE
    assert node.run.state is VmState.POWERING_UP
    assert node.hypervisor.calls.count("create") == creations


def test_a_start_is_not_repeated_after_a_reboot_of_the_host(node: OneNode) -> None:
    node.create()
    node.stop_agent()
    node.start_agent(has_workers=False)
    job = node.vms.start(VM_ID, StartVm())
    node.stop_agent()
    node.host = replace(HOST, boot_id="boot-2", booted_at="2999-01-01T00:00:00.000Z")
    node.start_agent()
    assert node.end_of(job).state is JobState.FAILED
    assert node.run.state is VmState.DOWN


def test_a_delete_that_was_cut_short_is_finished(node: OneNode) -> None:
    node.create()
    node.stop_agent()
    node.start_agent(has_workers=False)
    job = node.vms.delete(VM_ID, DeleteVm())
    node.pool.definitions.clear()
    node.restart_agent()
    assert node.end_of(job).state is JobState.DONE
    assert node.vms.list() == ()
    assert node.pool.disks == {}


def test_vm_of_no_pool_is_told_and_not_touched(node: OneNode) -> None:
    node.stop_agent()
    store = Store(node.folder / "store.db", SystemClock(), NODE_ID, HOST.boot_id)
    with store.change() as change:
        change.put(Kind.VM, VM_ID, replace(VM, spec=SPEC))
        change.put(Kind.VM_RUN, VM_ID, DOWN)
    store.close()
    disk = node.folder / "disks" / VM_ID / "root.qcow2"
    disk.parent.mkdir(parents=True)
    disk.write_text("precious")
    node.start_agent()
    told = node.vms.left_behind()
    assert told is not None
    assert (told.code, told.fields) == ("vms_left_behind", {"names": "web"})
    assert node.vms.list() == ()
    assert node.store.get(Kind.VM, VM_ID) is not None
    assert disk.read_text() == "precious"


def test_a_job_id_is_one_job(node: OneNode) -> None:
    node.create()
    job_id = JobId("11111111-0000-4000-8000-000000000001")
    with pytest.raises(JobUnknown):
        node.jobs.get(job_id)
    node.start(job_id=job_id)
    node.do("stop", StopVm(manner=StopManner.FORCE))
    node.start(job_id=job_id)
    assert node.run.state is VmState.DOWN


def test_many_callers_at_once_start_one_qemu(node: OneNode) -> None:
    node.create()
    jobs: list[Job] = []
    threads = [
        threading.Thread(target=lambda: jobs.append(node.do("start", StartVm())))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert {job.state for job in jobs} == {JobState.DONE}
    assert node.hypervisor.calls.count("create") == 1
