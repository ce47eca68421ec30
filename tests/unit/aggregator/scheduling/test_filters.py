"""What speaks against a node, by name."""

from dataclasses import replace
from typing import Any

import pytest
from immutables import Map

from aggregator.federation.view import NodeState, NodeView
from aggregator.scheduling import filters
from aggregator.scheduling.filters import (
    NODE_OVERHEAD_BYTES,
    VM_OVERHEAD_BYTES,
    Contender,
    Promise,
    Rules,
)
from node.model.hooks import HookScript
from node.model.host import KvmFacts
from node.model.ids import DiskId, NicId, PoolId, StorageDomainId
from node.model.messages import MESSAGES, text
from node.model.reason import Reason
from node.model.stats import NodeStats
from node.model.vm import Cpu, CpuMode, Disk, Firmware, Nic, VmSpec
from node.units import GiB, MiB
from tests.fakes import fleet

RULES = Rules(fleet.AT)
HOOK = HookScript("before_vm_start", "50_pincpu", "/h", 1, "s", "m")
NO_KVM = fleet.facts(1, kvm=KvmFacts(False, "no /dev/kvm"))


def node(**changes: Any) -> NodeView:
    settings = {
        "node_id": fleet.node_id(1),
        "name": "n1",
        "address": "10.0.0.1",
        "state": NodeState.UP,
        "since": fleet.AT,
        "facts": fleet.facts(1),
        "stats": NodeStats(memory_free_bytes=12 * GiB),
        "image_names": Map({"i": "debian"}),
    }
    return NodeView(**{**settings, **changes})


def disk(image: str | None) -> Disk:
    return Disk(DiskId("d"), "disk", GiB, image)


def nic(network: str) -> Nic:
    return Nic(NicId("n"), "nic", "52:54:00:00:00:01", network)


@pytest.mark.parametrize(
    ("spec", "of_node", "rules", "expected"),
    [
        pytest.param(fleet.spec(1), node(), RULES, [], id="fits"),
        pytest.param(
            fleet.spec(1, disks=(disk("debian"), disk(None)), nics=(nic("ovirtmgmt"),)),
            node(),
            RULES,
            [],
            id="fits-with-disks-and-nics",
        ),
        pytest.param(
            fleet.spec(1),
            node(state=NodeState.SUSPECT),
            RULES,
            ["node_is_not_up"],
            id="suspect",
        ),
        pytest.param(
            fleet.spec(1), node(facts=None), RULES, ["node_is_not_up"], id="unknown"
        ),
        pytest.param(
            fleet.spec(1),
            node(),
            replace(RULES, is_name_free=False),
            ["vm_name_taken"],
            id="name-taken",
        ),
        pytest.param(
            fleet.spec(1, disks=(disk("fedora"),)),
            node(),
            RULES,
            ["node_lacks_image"],
            id="no-image",
        ),
        pytest.param(
            fleet.spec(
                1,
                pool_id=PoolId("p"),
                disks=(
                    replace(disk("fedora"), storage_domain_id=StorageDomainId("s")),
                ),
            ),
            node(),
            RULES,
            [],
            id="image-of-a-disk-that-is-made",
        ),
        pytest.param(
            fleet.spec(1, nics=(nic("dmz"),)),
            node(),
            RULES,
            ["node_lacks_network"],
            id="no-network",
        ),
        pytest.param(
            fleet.spec(1, cpu=Cpu(cores=8)), node(), RULES, [], id="all-its-cpus"
        ),
        pytest.param(
            fleet.spec(1, cpu=Cpu(cores=9)),
            node(),
            RULES,
            ["node_lacks_cpus"],
            id="more-cpus-than-it-has",
        ),
        pytest.param(
            fleet.spec(1, cpu=Cpu(CpuMode.NAMED, "Haswell")),
            node(),
            RULES,
            [],
            id="usable-model",
        ),
        pytest.param(
            fleet.spec(1, cpu=Cpu(CpuMode.NAMED, "EPYC")),
            node(),
            RULES,
            ["node_lacks_cpu_model"],
            id="unusable-model",
        ),
        pytest.param(
            fleet.spec(1, machine="pc-q35-99.0"),
            node(),
            RULES,
            ["node_lacks_machine"],
            id="unknown-machine",
        ),
        pytest.param(
            fleet.spec(1, firmware=Firmware.UEFI),
            node(),
            RULES,
            ["node_lacks_uefi"],
            id="no-uefi",
        ),
        pytest.param(
            fleet.spec(1, firmware=Firmware.UEFI),
            node(facts=fleet.facts(1, features=("vm", "uefi"))),
            RULES,
            [],
            id="has-uefi",
        ),
        pytest.param(fleet.spec(1), node(facts=NO_KVM), RULES, [], id="emulates"),
        pytest.param(
            fleet.spec(1),
            node(facts=NO_KVM),
            replace(RULES, allows_emulation=False),
            ["node_only_emulates"],
            id="may-not-emulate",
        ),
        pytest.param(
            fleet.spec(1, memory_bytes=13 * GiB),
            node(),
            RULES,
            ["node_lacks_memory"],
            id="not-enough-unused",
        ),
        pytest.param(
            fleet.spec(1, memory_bytes=4 * GiB),
            node(vms_promised=3, memory_promised_bytes=12 * GiB),
            RULES,
            ["node_lacks_memory"],
            id="not-enough-unpromised",
        ),
        pytest.param(
            fleet.spec(1, cpu=Cpu(cores=9), disks=(disk("fedora"),)),
            node(),
            RULES,
            ["node_lacks_image", "node_lacks_cpus"],
            id="two-reasons",
        ),
    ],
)
def test_reasons_against_names_what_is_missing(
    spec: VmSpec, of_node: NodeView, rules: Rules, expected: list[str]
) -> None:
    found = filters.reasons_against(spec, Contender(of_node), rules)
    assert [reason.code for reason in found] == expected


def test_reasons_against_can_be_read_by_people() -> None:
    needed = ("before_vm_start/50_pincpu",)
    rules = Rules(
        fleet.AT, is_name_free=False, allows_emulation=False, needed_hooks=needed
    )
    spec = fleet.spec(
        1,
        memory_bytes=99 * GiB,
        machine="x",
        firmware=Firmware.UEFI,
        cpu=Cpu(CpuMode.NAMED, "EPYC", cores=99),
        disks=(disk("fedora"),),
        nics=(nic("dmz"),),
    )
    found = filters.reasons_against(spec, Contender(node(facts=NO_KVM)), rules)
    assert len(found) == len(filters.FILTERS)
    for reason in found:
        assert reason.code in MESSAGES
        assert "?" not in text(reason.code, reason.fields)


def test_reasons_against_names_why_the_node_is_not_up() -> None:
    cause = Reason("node_unreachable", fleet.AT, {"node": "n1", "silence_s": 25})
    silent = node(state=NodeState.UNREACHABLE, reason=cause)
    (reason,) = filters.reasons_against(fleet.spec(1), Contender(silent), RULES)
    assert reason.cause == cause


def test_free_memory_counts_overhead_and_what_is_under_way() -> None:
    busy = node(vms_promised=2, memory_promised_bytes=GiB, stats=None)
    promise = Promise(1, 512 * MiB)
    expected = 16 * GiB - NODE_OVERHEAD_BYTES - GiB - 512 * MiB - 3 * VM_OVERHEAD_BYTES
    assert filters.free_memory(Contender(busy, promise)) == expected


@pytest.mark.parametrize(
    ("hooks", "expected"),
    [
        pytest.param((HOOK,), [], id="there"),
        pytest.param((), ["node_lacks_hook"], id="none"),
        pytest.param((replace(HOOK, name="60"),), ["node_lacks_hook"], id="other"),
        pytest.param(
            (replace(HOOK, point="after_vm_start"),), ["node_lacks_hook"], id="point"
        ),
        pytest.param((replace(HOOK, refused="link"),), ["node_lacks_hook"], id="link"),
    ],
)
def test_hook_that_is_needed_has_to_be_there(
    hooks: tuple[HookScript, ...], expected: list[str]
) -> None:
    rules = replace(RULES, needed_hooks=("before_vm_start/50_pincpu",))
    contender = Contender(node(facts=fleet.facts(1, hooks=hooks)))
    found = filters.reasons_against(fleet.spec(1), contender, rules)
    assert [each.code for each in found] == expected
