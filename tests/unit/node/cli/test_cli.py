"""`skerry-node` against a real agent on fake doors, through its unix socket."""

import json
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from node import wire
from node.cli import render
from node.commands import terminal
from node.model.fleet import SealedFleet
from node.model.ids import (
    DiskId,
    NicId,
    NodeId,
    SnapshotId,
    StorageDomainId,
    VmId,
    VolumeId,
)
from node.model.job import JobState
from node.model.properties import CustomProperty
from node.model.requests import CreateVm, SetProperties
from node.model.storage import SnapshotKind, SnapshotState
from node.model.storage_requests import DeleteSnapshot
from node.model.templates import CloneVm, SnapshotCopied
from node.model.verbs import VERBS, Caller
from node.model.vm import Cpu, CpuMode, Snapshot, SnapshotDisk, VmState
from tests.contract.agents import BUSY, IDLE, UNKNOWN
from tests.fakes import fleet
from tests.fakes.hypervisor import PNG
from tests.fakes.volumes import of_pool
from tests.unit.node.cli.shell import Shell
from tests.unit.node.vm.examples import DATA, DISK, HOST, NIC, NODE_ID, SPEC
from tests.unit.terminal import EVENT_S, following

OTHER_NODE = NodeId("11111111-0000-4000-8000-000000000009")
AT = "2026-11-22T09:00:00.000Z"

# The command that calls each verb. What fails has called it, too.
COMMANDS = {
    "status": "status",
    "node": "facts",
    "devices": "devices",
    "images": "images",
    "stats": "stats",
    "changes": "changes --since 1",
    "events": "events",
    "vm_list": "vm list",
    "vm_show": "vm create shown --network lan0 --start",
    "vm_create": "vm create made --network lan0",
    "vm_delete": "vm delete idle --yes",
    "vm_export": "vm export idle nas",
    "vm_start": "vm start idle",
    "vm_stop": "vm stop busy --manner force",
    "vm_pause": "vm pause busy",
    "vm_suspend": "vm suspend busy",
    "vm_resume": "vm resume busy",
    "vm_reset": "vm reset busy",
    "vm_attach_disk": "vm attach-disk idle root",
    "vm_detach_disk": "vm detach-disk idle root",
    "vm_resize_disk": "vm resize-disk busy root 30G",
    "vm_set_properties": "vm set idle --property pincpu=1-4",
    "vm_screenshot": "vm screenshot busy /dev/null",
    "vm_serial": "vm serial busy",
    "storage_domain_list": "storage list",
    "storage_domain_show": "storage show nas",
    "storage_domain_create": "storage create new --local /srv/new",
    "storage_domain_look": "storage look --nfs server:/export/nas",
    "storage_domain_import": "storage import --nfs server:/export/nas",
    "storage_domain_attach": "storage attach fresh lan",
    "storage_domain_change": "storage change nas --name gold --wipe-after-delete",
    "storage_domain_activate": "storage activate spare",
    "storage_domain_maintain": "storage maintain spare",
    "storage_domain_detach": "storage detach spare --yes",
    "storage_domain_remove": "storage remove fresh --yes",
    "storage_domain_unregistered": "storage unregistered nas",
    "storage_domain_register_vm": "storage register nas came",
    "hook_list": "hooks list",
    "hook_bundles": "hooks bundles",
    "hook_install": "hooks install /dev/null --unsigned",
    "hook_remove": "hooks remove site",
    "hook_try": "hooks test before_vm_start --vm idle --set colour=blue",
    "storage_domain_remove_exported": f"storage remove-exported nas {UNKNOWN} --yes",
    "storage_domain_write_ovf": "storage write-ovf nas",
    "storage_domain_check": "storage check nas",
    "storage_domain_repair": "storage repair nas --yes",
    "pool_list": "pool list",
    "pool_show": "pool show lan",
    "pool_create": "pool create second --master fresh",
    "pool_connect": "pool connect --nfs server:/export/nas",
    "pool_disconnect": "pool disconnect lan --yes",
    "pool_move_master": "pool move-master lan spare",
    "spm_become": "pool become-manager lan",
    "spm_leave": "pool leave-manager lan",
    "spm_priority": "pool priority lan high",
    "disk_list": "disk list",
    "disk_show": "disk show root",
    "disk_create": "disk create new nas 20GiB",
    "disk_delete": "disk delete root --yes",
    "disk_resize": "disk resize root 30G",
    "disk_change": "disk change root --name top",
    "disk_copy": "disk copy root spare",
    "disk_move": "disk move root spare",
    "disk_sparsify": "disk sparsify root",
    "transfer_list": "transfer list",
    "transfer_show": f"transfer show {UNKNOWN}",
    "transfer_create": "transfer create upload root",
    "transfer_extend": f"transfer extend {UNKNOWN}",
    "transfer_pause": f"transfer pause {UNKNOWN}",
    "transfer_resume": f"transfer resume {UNKNOWN}",
    "transfer_finalize": f"transfer finalize {UNKNOWN}",
    "transfer_cancel": f"transfer cancel {UNKNOWN} --yes",
    "vm_snapshot_list": "snapshot list idle",
    "vm_snapshot_create": "snapshot create idle",
    "vm_snapshot_delete": f"snapshot delete idle {UNKNOWN}",
    "vm_snapshot_preview": f"snapshot preview idle {UNKNOWN}",
    "vm_snapshot_commit": "snapshot commit idle",
    "vm_snapshot_undo": "snapshot undo idle",
    "template_list": "template list",
    "template_show": "template show debian-12",
    "template_create": "template create idle base",
    "template_change": "template change debian-12/1 --description newer",
    "template_delete": "template delete debian-12 --yes",
    "template_export": "template export debian-12 nas",
    "vm_clone": "template new-vm debian-12 copy --clone",
    "job_list": "job list",
    "job_show": f"job show {UNKNOWN}",
    "job_cancel": f"job cancel {UNKNOWN}",
    "openapi": "openapi",
    "admission_show": "fingerprint",
    "admit": "admit -",
    "sealed_show": "sealed",
    "rules_show": "rules",
    "leave": "leave --yes",
}


def test_command_is_there_for_every_verb() -> None:
    assert set(COMMANDS) == {
        verb.name for verb in VERBS if Caller.LOCAL in verb.callers
    }


@pytest.mark.parametrize("verb", COMMANDS)
def test_command_calls_its_verb(shell: Shell, verb: str) -> None:
    shell.called.clear()
    admission = shell.agent.papers.admission(
        shell.agent.enrolment.request().csr, name=NODE_ID
    )
    shell.run(*COMMANDS[verb].split(), typed=wire.encode(admission).decode())
    assert verb in shell.called


@pytest.mark.parametrize(
    ("command", "shown", "field"),
    [
        pytest.param("status", "oak waits for admission.", "sentence", id="status"),
        pytest.param("facts", "EPYC", "cpu", id="facts"),
        pytest.param("devices", "eth0", "devices", id="devices"),
        pytest.param("images", "debian", "images", id="images"),
        pytest.param("stats", "node: CPU", "node", id="stats"),
        pytest.param("job list", "vm_start", "jobs", id="job-list"),
        pytest.param("vm list", "idle", "vms", id="vm-list"),
        pytest.param("vm show idle", "512.0 MiB", "vm", id="vm-show"),
        pytest.param(f"vm show {IDLE}", "idle", "vm", id="vm-show-by-id"),
        pytest.param("why idle", "is down since", "state", id="why"),
        pytest.param("fingerprint", " ", "fingerprint", id="fingerprint"),
    ],
)
def test_command_shows_text_and_json(
    shell: Shell, command: str, shown: str, field: str
) -> None:
    assert shown in shell.ok(*command.split()).text
    assert field in shell.ok("--json", *command.split()).json


def test_options_are_listed(shell: Shell) -> None:
    assert "api_port" in shell.ok("options").text
    listed = {each["name"]: each for each in shell.ok("--json", "options").json}
    told = listed["api_port"]
    assert (told["default"], told["type"], told["needs_restart"]) == (7440, "int", True)


def test_events_tell_what_happened(shell: Shell) -> None:
    assert "busy" in shell.ok("events").text
    assert '"code": "vm_created"' in shell.ok("--json", "events").text


def test_events_are_followed_until_interrupted(shell: Shell) -> None:
    with following(
        "node.cli", "--socket", shell.socket, "events", "--follow"
    ) as process:
        assert process.stdout is not None
        assert any("idle" in line for line in process.stdout)
        shell.ok("vm", "create", "late", "--network", "lan0")
        assert any("late" in line for line in process.stdout)
        process.send_signal(signal.SIGINT)
        assert process.wait(EVENT_S) == 1
    shell.ok("vm", "delete", "late", "--yes")


def test_create_makes_a_vm_and_starts_it(shell: Shell) -> None:
    words = "vm create new --memory 1G --cpus 2 --network lan0 --image debian"
    made = shell.ok("--json", *words.split(), "--interface", "sata", "--start").json
    assert made["vm"]["spec"]["memory_bytes"] == 2**30
    assert made["vm"]["spec"]["disks"][0]["interface"] == "sata"
    assert made["run"]["state"] == VmState.POWERING_UP
    shell.ok("vm", "stop", "new", "--manner", "force")
    shell.ok("vm", "delete", "new", "--yes")


def test_create_again_with_one_id_asks_for_one_vm(shell: Shell) -> None:
    words = f"vm create twin --id {UNKNOWN} --network lan0"
    first = shell.ok("--json", *words.split())
    assert shell.ok("--json", *words.split()).json == first.json
    shell.ok("vm", "delete", "twin", "--yes")


@pytest.mark.parametrize(
    ("words", "cpu"),
    [
        pytest.param("", Cpu(), id="default"),
        pytest.param(
            "--cpu host_passthrough --cpus 2",
            Cpu(CpuMode.HOST_PASSTHROUGH, cores=2),
            id="passthrough",
        ),
        pytest.param("--cpu named:Nehalem", Cpu(CpuMode.NAMED, "Nehalem"), id="named"),
    ],
)
def test_create_chooses_the_processor(shell: Shell, words: str, cpu: Cpu) -> None:
    create = f"vm create chosen --network lan0 {words}"
    made = shell.ok("--json", *create.split()).json
    assert wire.from_json(Cpu, made["vm"]["spec"]["cpu"]) == cpu
    shell.ok("vm", "delete", "chosen", "--yes")


@pytest.mark.parametrize("cpu", ["host", "named", "named:", "host_model:EPYC"])
def test_create_refuses_what_is_no_processor(shell: Shell, cpu: str) -> None:
    ended = shell.run("vm", "create", "new", f"--cpu={cpu}")
    assert ended.status == 2
    assert "host_passthrough, host_model, named" in ended.err or "EPYC" in ended.err


def test_create_takes_all_that_the_verb_takes(shell: Shell, tmp_path: Path) -> None:
    spec = replace(
        SPEC,
        vm_id=VmId(UNKNOWN),
        name="whole",
        cpu=Cpu(CpuMode.NAMED, "Nehalem", sockets=2, cores=1, threads=2),
        disks=(
            replace(DISK, disk_id=DiskId(UNKNOWN)),
            replace(DATA, disk_id=DiskId(UNKNOWN.replace("0f", "0e"))),
        ),
        nics=(replace(NIC, nic_id=NicId(UNKNOWN), mac="52:54:09:00:00:01"),),
    )
    shell.agent.forget_deletions()
    path = tmp_path / "request.json"
    path.write_bytes(wire.encode(CreateVm(spec)))
    made = shell.ok("--json", "vm", "create", "--spec", str(path), "--start").json
    assert made["vm"]["spec"] == wire.to_json(of_pool(spec))
    assert made["run"]["state"] == VmState.POWERING_UP
    shell.ok("vm", "stop", "whole", "--manner", "force")
    shell.ok("vm", "delete", "whole", "--yes")


@pytest.mark.parametrize(
    ("words", "said", "status"),
    [
        pytest.param("--spec -", "spec.name is missing", 1, id="incomplete"),
        pytest.param("new --spec -", "leave '[NAME]' out", 2, id="a-name-too"),
        pytest.param("--spec - --cpus 1", "leave '--cpus' out", 2, id="a-part-too"),
        pytest.param("", "give NAME, or --spec FILE", 2, id="neither"),
    ],
)
def test_create_takes_either_parts_or_all(
    shell: Shell, words: str, said: str, status: int
) -> None:
    typed = json.dumps({"spec": {"vm_id": UNKNOWN, "memory_bytes": 1}})
    ended = shell.run("vm", "create", *words.split(), typed=typed)
    assert (ended.status, ended.out) == (status, b"")
    assert said in ended.err


@pytest.mark.parametrize("act", ["start", "pause", "resume", "reset", "delete"])
def test_act_is_refused_when_the_definition_is_another(shell: Shell, act: str) -> None:
    words = ["vm", act, "busy", "--generation", "7"]
    ended = shell.run(*words, *(["--yes"] if act == "delete" else []))
    assert ended.status == 1
    assert "generation" in ended.err
    shell.ok("vm", "reset", "busy", "--generation", "1")


@pytest.mark.parametrize(
    ("before", "act", "after"),
    [
        pytest.param("", "start idle", "powering_up", id="start"),
        pytest.param("", "start idle --paused", "paused", id="start-paused"),
        pytest.param("", "stop busy --manner force", "down", id="stop"),
        pytest.param("", "pause busy", "paused", id="pause"),
        pytest.param("pause busy", "resume busy", "powering_up", id="resume"),
        pytest.param("", "reset busy", "powering_up", id="reset"),
    ],
)
def test_act_is_followed_to_its_end(
    shell: Shell, before: str, act: str, after: str
) -> None:
    if before:
        shell.ok("vm", *before.split())
    ended = shell.ok("vm", *act.split())
    assert "done 100 %" in ended.err
    name = act.split()[1]
    state = shell.state(name)
    assert state == after or (after == "powering_up" and state == "rebooting")


def test_act_prints_its_job_as_json(shell: Shell) -> None:
    ended = shell.ok("--json", "vm", "start", "idle")
    assert (ended.json["state"], ended.err) == ("done", "")


def test_delete_asks_first(shell: Shell) -> None:
    assert shell.run("vm", "delete", "idle", typed="n\n").status == 1
    assert shell.state("idle") == "down"
    shell.ok("vm", "delete", "idle", typed="y\n")
    assert shell.run("vm", "show", "idle").status == 1


def test_job_is_shown_and_cancelled(shell: Shell) -> None:
    job_id = shell.ok("--json", "vm", "start", "idle").json["job_id"]
    assert "vm_start" in shell.ok("job", "show", job_id).text
    assert shell.ok("--json", "job", "cancel", job_id).json["state"] == "done"


def test_screenshot_is_saved(shell: Shell, tmp_path: Path) -> None:
    shell.ok("vm", "screenshot", "busy", str(tmp_path / "a.png"))
    assert (tmp_path / "a.png").read_bytes() == PNG


def test_serial_is_written_as_it_is(shell: Shell) -> None:
    log = shell.agent.folder / "serial" / f"{BUSY}.log"
    log.write_bytes(b"before\x1b[2J\xff\n")
    assert shell.ok("vm", "serial", "busy", "--tail", "6").out == b"\x1b[2J\xff\n"
    assert shell.ok("vm", "serial", "idle").out == b""


def test_leave_makes_the_node_wait(shell: Shell) -> None:
    shell.ok("leave", "--yes")
    assert shell.ok("--json", "status").json["admission"] == "waiting"


def test_admit_makes_a_node_that_left_a_member(shell: Shell, tmp_path: Path) -> None:
    shell.ok("leave", "--yes")
    csr = shell.agent.enrolment.request().csr
    admission = shell.agent.papers.admission(csr, name=NODE_ID)
    path = tmp_path / "admission.json"
    path.write_bytes(wire.encode(admission))
    assert admission.fleet_id in shell.ok("admit", str(path)).text
    assert shell.agent.enrolment.is_member()


def test_sealed_copy_is_printed(shell: Shell) -> None:
    fleet_id = shell.agent.papers.fleet_id
    copy = SealedFleet(fleet_id, 1, 1, "text")
    shell.agent.enrolment.put_sealed(copy)
    assert shell.ok("sealed").json == wire.to_json(copy)


@pytest.mark.parametrize(
    ("command", "field"), [("changes", "changed"), ("openapi", "paths")]
)
def test_command_prints_json_only(shell: Shell, command: str, field: str) -> None:
    assert field in shell.ok(command).json


@pytest.mark.parametrize(
    ("command", "said", "remedy"),
    [
        pytest.param("vm show nobody", "no VM named nobody", "vm list", id="no-vm"),
        pytest.param("why nobody", "no VM named nobody", "vm list", id="no-vm-why"),
        pytest.param("job show x", "job_id is not an id", "UUIDs", id="no-id"),
        pytest.param(f"job show {UNKNOWN}", "no job", "List the jobs", id="no-job"),
        pytest.param("vm pause idle", "idle", "Start the VM first", id="a-failed-job"),
        pytest.param("vm create idle", "name", "network", id="a-bad-vm"),
        pytest.param(
            "vm screenshot idle /dev/null", "idle", "Start the VM", id="no-screen"
        ),
        pytest.param("vm stop idle --deadline nan", "JSON", "Correct", id="nan"),
    ],
)
def test_error_exits_1_and_says_what_to_do(
    shell: Shell, command: str, said: str, remedy: str
) -> None:
    ended = shell.run(*command.split())
    assert (ended.status, ended.out) == (1, b"")
    assert said in ended.err
    assert remedy in ended.err
    assert "Traceback" not in ended.err


def test_silent_agent_is_an_error_with_a_remedy(shell: Shell, tmp_path: Path) -> None:
    ended = shell.run("--socket", str(tmp_path / "nobody"), "status")
    assert ended.status == 1
    assert "cannot be reached" in ended.err
    assert "Check the node" in ended.err


@pytest.mark.parametrize("size", ["x", "1Q", "-1G", "inf", "1e999", "nan", ""])
def test_create_refuses_what_is_no_size(shell: Shell, size: str) -> None:
    ended = shell.run("vm", "create", "new", f"--memory={size}")
    assert ended.status == 2
    assert "is not a size such as 512M or 8G" in ended.err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("0", 0, id="zero"),
        pytest.param("4096", 4096, id="bytes"),
        pytest.param("1.5g", 3 * 2**29, id="half"),
        pytest.param("64K", 65536, id="kilo"),
        pytest.param("2TiB", 2**41, id="iec"),
        pytest.param(" 512MB ", 2**29, id="spaces"),
    ],
)
def test_size_is_read_in_powers_of_1024(text: str, expected: int) -> None:
    assert terminal.Size().convert(text, None, None) == expected


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_completion_names_the_command(shell: Shell, name: str) -> None:
    assert "_SKERRY_NODE_COMPLETE" in shell.ok("completion", name).text


def test_completion_is_valid_for_bash(shell: Shell) -> None:
    script = shell.ok("completion", "bash").out
    subprocess.run(["bash", "-n"], input=script, check=True)


def test_terminal_is_not_commanded_by_what_guests_say() -> None:
    assert terminal.plain("a\x1b[2Jb\x9bc\td\n") == "a?[2Jb?c\td\n"


def test_vm_is_cloned_from_a_snapshot(shell: Shell) -> None:
    kept = SnapshotId("5a450000-0000-4000-8000-000000000001")
    spec = shell.agent.vms.show(IDLE).vm.spec
    disk = replace(spec.disks[0], storage_domain_id=StorageDomainId("sd"))
    parts = tuple(SnapshotDisk(each.disk_id, VolumeId("v")) for each in (disk,))
    snapshot = Snapshot(
        *(kept, IDLE, SnapshotKind.REGULAR, SnapshotState.OK, AT, "first"), disks=parts
    )
    vm = shell.agent.vms.show(IDLE).vm
    spec = replace(spec, disks=(disk,))
    newer = replace(vm, spec=spec, generation=9, snapshots=(snapshot,))
    shell.agent.vms.adopt(newer)
    words = ("snapshot", "clone", "idle", "first", "twin", "--id", UNKNOWN)
    shell.run(*words, "--data-node", OTHER_NODE)
    assert shell.called[-1] == "vm_clone"
    request = wire.decode(CloneVm, shell.bodies[-1])
    assert (request.spec.vm_id, request.spec.name) == (UNKNOWN, "twin")
    assert request.data_node_id == OTHER_NODE
    assert request.snapshot == SnapshotCopied(
        IDLE, kept, ((request.spec.disks[0].disk_id, disk.disk_id),)
    )
    assert {nic.mac for nic in request.spec.nics}.isdisjoint(
        nic.mac for nic in spec.nics
    )


def test_who_moves_data_is_named_by_its_id(shell: Shell) -> None:
    ended = shell.run("snapshot", "delete", "idle", UNKNOWN, "--data-node", "elm")
    assert (ended.status, "no id of a node" in ended.err) == (1, True)
    assert HOST.name in ended.err


def test_a_node_knows_its_own_name(shell: Shell) -> None:
    words = f"snapshot delete idle {UNKNOWN} --data-node {HOST.name}"
    shell.called.clear()
    shell.bodies.clear()
    shell.run(*words.split())
    body = shell.bodies[shell.called.index("vm_snapshot_delete")]
    assert wire.decode(DeleteSnapshot, body).data_node_id == NODE_ID


def test_job_says_which_other_node_moves_its_data() -> None:
    job = fleet.job(1, JobState.RUNNING, step="copy", data_node_id=OTHER_NODE)
    told = f"copy, data moved by node {OTHER_NODE}"
    assert render.job_line(job).endswith(told)
    assert told in render.jobs((job,))
    assert told in render.job(job)


def test_vm_is_made_with_custom_properties(shell: Shell) -> None:
    words = ("--property", "smbios=x", "--property", "pincpu=1-4")
    made = shell.run("vm", "create", "hooked", "--network", "lan0", *words)
    assert made.status == 0, made.err
    assert b"pincpu=1-4\n" in made.out


def test_vm_set_changes_properties_of_a_disk(shell: Shell) -> None:
    shell.run("vm", "create", "made", "--network", "lan0")
    words = ("--device", "disk1", "--property")
    for change in ("diskunmap=on", "boot=1", "boot="):
        ended = shell.run("vm", "set", "made", *words, change)
        assert ended.status == 0, ended.err
    shown = shell.run("vm", "show", "made").out
    assert b"custom properties of disk1  diskunmap=on\n" in shown
    assert b"boot" not in shown


def test_vm_set_refuses_what_would_harm_a_hook(shell: Shell) -> None:
    ended = shell.run("vm", "set", "idle", "--property", "LD_PRELOAD=/tmp/x")
    assert (ended.status, "LD_PRELOAD" in ended.err) == (1, True)


def test_vm_set_is_based_on_what_it_read(shell: Shell) -> None:
    shell.called.clear()
    shell.bodies.clear()
    generation = shell.agent.vms.show(IDLE).vm.generation
    shell.run("vm", "set", "idle", "--property", "pincpu=1")
    body = shell.bodies[shell.called.index("vm_set_properties")]
    wanted = (CustomProperty("pincpu", "1"),)
    asked = wire.decode(SetProperties, body)
    assert asked == SetProperties(wanted, generation=generation)
