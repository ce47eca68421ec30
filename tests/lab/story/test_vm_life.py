"""A VM lives: placed, started, reached, paused, reset, stopped, explained."""

import base64
import json
from pathlib import PurePosixPath
from typing import Any

import pytest

from aggregator.api import verbs
from aggregator.api.model import NewVm, VmDetail
from node.errors import Conflict, Invalid
from node.model.requests import StopManner, StopVm
from node.model.vm import Cpu, CpuMode, EndCause, Firmware, VmState
from node.storage.formats import layout
from node.units import GiB, KiB, MiB
from node.vm.devices import firmware
from tests.lab import fleet, waiting
from tests.lab.story.conftest import Story

# A guest counts seconds from one; when it begins anew, this many are told apart.
COUNTED = 10
# The balloon tells every 10 s, and it is asked every 15 s.
FIGURES_S = 60.0
# What a guest uses changes between the balloon's word and ours.
WAVERS_BYTES = 16 * MiB
# What Debian's OVMF prints on the serial line before it starts anything.
FIRMWARE_SAYS = b"BdsDxe"


def test_vm_is_placed_started_and_reached(story: Story) -> None:
    detail = story.run_vm("first")
    assert story.guest_ticks(detail) >= 0
    assert detail.entry.run.is_emulated
    assert detail.reason is None
    assert b"LABGUEST ready" in story.client.vm_serial(
        detail.entry.vm.spec.vm_id, 65536
    )
    picture = story.client.vm_screenshot(detail.entry.vm.spec.vm_id)
    assert picture.startswith(b"\x89PNG")


def test_guest_finds_the_hardware_that_was_asked_for(story: Story) -> None:
    cpu = Cpu(CpuMode.NAMED, "Nehalem", cores=2)
    request = NewVm("hardware", fleet.IMAGE, memory_bytes=128 * MiB, cpu=cpu)
    vm_id = story.fleet.create_vm(story.client, request)
    story.fleet.start_vm(story.client, vm_id)
    detail = story.fleet.wait_address(story.client, vm_id)
    models = _guest_lines(story, detail, "/proc/cpuinfo", "model name")
    assert len(models) == cpu.count
    assert all("Nehalem" in model for model in models)
    (chance,) = _guest_lines(story, detail, "/sys/class/misc/hw_random/rng_current", "")
    assert chance.startswith("virtio_rng")

    def is_told() -> bool:
        """Tell whether the figures are the guest's own, not those of its QEMU."""
        figures = story.fleet.node_json(detail.node, "stats").get("vms", ())
        used = sum(int(each["memory_used_bytes"]) for each in figures)
        return abs(used - _guest_memory_used(story, detail)) < WAVERS_BYTES

    waiting.until("the guest's own figures", is_told, timeout_s=FIGURES_S, poll_s=2)


def test_uefi_vm_starts_from_firmware_with_variables_of_its_own(story: Story) -> None:
    node = "h2"
    request = NewVm(
        "modern",
        fleet.IMAGE,
        memory_bytes=128 * MiB,
        firmware=Firmware.UEFI,
        node_id=story.node_id(node),
    )
    vm_id = story.fleet.create_vm(story.client, request)
    place = layout.Layout(PurePosixPath("/var/lib/skerry/local") / story.local(node))
    variables = str(place.vm_variables(vm_id))
    compare = ["cmp", "-s", str(firmware.OVMF_VARIABLES), variables]
    story.fleet.start_vm(story.client, vm_id)
    waiting.until(
        "the firmware's word",
        lambda: FIRMWARE_SAYS in story.client.vm_serial(vm_id, 65536),
        timeout_s=fleet.START_TIMEOUT_S,
    )
    assert story.lab.member(node).exec(compare).returncode == 1


def test_vm_pauses_resumes_and_is_reset(story: Story) -> None:
    detail = story.run_vm("paused")
    vm_id = detail.entry.vm.spec.vm_id
    story.fleet.wait_order(story.client, story.client.vm_act(verbs.VM_PAUSE, vm_id))
    story.wait_state(vm_id, VmState.PAUSED)
    story.fleet.wait_order(story.client, story.client.vm_act(verbs.VM_RESUME, vm_id))
    story.wait_state(vm_id, VmState.UP)
    before = waiting.until(
        "a guest that has counted for a while",
        lambda: ticks if (ticks := story.guest_ticks(detail)) >= COUNTED else None,
    )
    story.fleet.wait_order(story.client, story.client.vm_act(verbs.VM_RESET, vm_id))
    waiting.until(
        "a guest that counts anew",
        lambda: story.guest_ticks(detail) < before,
        timeout_s=fleet.START_TIMEOUT_S,
    )


def test_stopped_vm_is_down_by_the_administrator(story: Story) -> None:
    detail = story.run_vm("stopped")
    vm_id = detail.entry.vm.spec.vm_id
    story.fleet.stop_vm(story.client, vm_id)
    down = story.wait_state(vm_id, VmState.DOWN)
    assert down.entry.run.end is not None
    assert down.entry.run.end.cause is EndCause.ADMINISTRATOR
    assert down.reason is None


def test_guest_that_shuts_itself_down_is_explained(story: Story) -> None:
    detail = story.run_vm("selfish")
    run, vm_id = detail.entry.run, detail.entry.vm.spec.vm_id
    assert run.guest is not None
    name = detail.node
    story.lab.member(name).exec(
        ["virsh", "qemu-agent-command", "selfish", '{"execute":"guest-shutdown"}']
    )
    down = story.wait_state(vm_id, VmState.DOWN)
    assert down.entry.run.end is not None
    assert down.entry.run.end.cause is EndCause.GUEST
    assert down.reason is not None
    assert down.reason.code == "vm_ended_by_guest"


def test_stop_by_force_ends_a_vm_at_once(story: Story) -> None:
    vm_id = story.run_vm("forced").entry.vm.spec.vm_id
    order = story.client.vm_stop(vm_id, StopVm(manner=StopManner.FORCE))
    story.fleet.wait_order(story.client, order)
    down = story.wait_state(vm_id, VmState.DOWN)
    assert down.entry.run.end is not None
    assert down.entry.run.end.cause is EndCause.KILLED


def test_node_does_the_same_from_its_own_shell(story: Story) -> None:
    words = ("vm", "create", "local", "--image", fleet.IMAGE, "--memory", "128M")
    made = story.fleet.node_json("h1", *words)
    vm_id = made["vm"]["spec"]["vm_id"]
    story.fleet.node_json("h1", "vm", "start", "local")
    shown = story.fleet.node_json("h1", "vm", "show", "local")
    assert shown["run"]["state"] in {"powering_up", "up"}
    story.wait_state(vm_id, VmState.UP)
    story.fleet.node_json("h1", "vm", "stop", "local", "--manner", "force")
    assert story.fleet.node_json("h1", "vm", "show", "local")["run"]["state"] == "down"


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        pytest.param(
            NewVm("big", fleet.IMAGE, memory_bytes=900 * GiB), Conflict, id="memory"
        ),
        pytest.param(
            NewVm("none", "no-such-image", memory_bytes=128 * MiB), Invalid, id="image"
        ),
        pytest.param(
            NewVm("net", fleet.IMAGE, memory_bytes=128 * MiB, network="nowhere"),
            Conflict,
            id="network",
        ),
    ],
)
def test_what_no_node_can_take_is_refused_with_reasons(
    story: Story, request_: NewVm, error: type[Exception]
) -> None:
    with pytest.raises(error):
        story.client.vm_create(request_)
    assert story.client.vm_list().total == 0


def test_explain_names_every_node(story: Story) -> None:
    request = NewVm("asked", fleet.IMAGE, memory_bytes=128 * MiB)
    placement = story.client.vm_explain(request)
    assert {each.node for each in placement.verdicts} == {"h1", "h2", "h3"}
    assert placement.chosen in {"h1", "h2", "h3"}


def test_a_name_is_taken_once(story: Story) -> None:
    story.make_vm("twin")
    with pytest.raises(Conflict):
        story.make_vm("twin")


def test_the_same_id_is_the_same_vm(story: Story) -> None:
    vm_id = story.make_vm("once")
    spec = story.client.vm_show(vm_id).entry.vm.spec
    again = NewVm("once", fleet.IMAGE, vm_id=vm_id, memory_bytes=spec.memory_bytes)
    story.fleet.create_vm(story.client, again)
    assert story.client.vm_list().total == 1


def test_foreign_domain_is_shown_and_left_alone(story: Story) -> None:
    xml = (
        "<domain type='qemu'><name>stranger</name><memory unit='MiB'>64</memory>"
        "<os><type arch='x86_64' machine='q35'>hvm</type></os></domain>"
    )
    member = story.lab.member("h2")
    assert member.exec(["virsh", "create", "/dev/stdin"], input=xml).returncode == 0
    try:
        waiting.until(
            "the foreign domain shown",
            lambda: "stranger" in json.dumps(story.fleet.node_json("h2", "status")),
        )
        member.stop_service("agent")
        member.start_service("agent")
        story.fleet.wait_up(story.client)
        assert "stranger" in member.exec(["virsh", "list", "--name"]).stdout
    finally:
        member.exec(["virsh", "destroy", "stranger"])


def _guest_lines(story: Story, detail: VmDetail, path: str, word: str) -> list[str]:
    """Return the lines that begin with a word, of a file as the guest sees it."""
    handle = _ask_guest(story, detail, "guest-file-open", path=path)
    read = _ask_guest(story, detail, "guest-file-read", handle=handle, count=64 * KiB)
    _ask_guest(story, detail, "guest-file-close", handle=handle)
    text = base64.b64decode(read["buf-b64"]).decode()
    return [line for line in text.splitlines() if line.startswith(word)]


def _ask_guest(story: Story, detail: VmDetail, verb: str, **arguments: object) -> Any:
    """Ask the guest's agent, as the host's administrator would."""
    asked = json.dumps({"execute": verb, "arguments": arguments})
    name = detail.entry.vm.spec.name
    result = story.lab.member(detail.node).exec(
        ["virsh", "qemu-agent-command", name, asked]
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)["return"]


def _guest_memory_used(story: Story, detail: VmDetail) -> int:
    """Return what the guest itself says that it uses."""
    total, free = (
        int(line.split()[1]) * KiB
        for line in _guest_lines(story, detail, "/proc/meminfo", "Mem")[:2]
    )
    return total - free
