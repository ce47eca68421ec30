"""Say whether a node can take a VM, and if not, why.

Pure. A filter returns the Reason against, or None. Sizes are bytes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from aggregator.federation.view import NodeState, NodeView
from node.model.host import Feature, NodeFacts
from node.model.reason import Reason
from node.model.vm import CpuMode, Firmware, VmSpec
from node.units import MiB

# What QEMU takes beside the guest's memory: video, devices, its own heap.
VM_OVERHEAD_BYTES: Final = 96 * MiB
# What the node's system and agent take (DESIGN section 8).
NODE_OVERHEAD_BYTES: Final = 300 * MiB


@dataclass(frozen=True, slots=True)
class Promise:
    """What was promised to VMs that the node does not report yet."""

    vms: int = 0
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Contender:
    node: NodeView
    promise: Promise = Promise()


@dataclass(frozen=True, slots=True)
class Rules:
    now: str  # RFC 3339, for the reasons
    is_name_free: bool = True
    allows_emulation: bool = True
    needed_hooks: tuple[str, ...] = ()  # POINT/SCRIPT, by what the VM has


Filter = Callable[[VmSpec, Contender, Rules], Reason | None]


def _is_up(_spec: VmSpec, contender: Contender, rules: Rules) -> Reason | None:
    node = contender.node
    if node.state is NodeState.UP and node.facts is not None:
        return None
    return _against("node_is_not_up", node, rules, state=node.state.value)


def _has_free_name(spec: VmSpec, _contender: Contender, rules: Rules) -> Reason | None:
    if rules.is_name_free:
        return None
    return Reason("vm_name_taken", rules.now, {"name": spec.name})


def _has_networks(spec: VmSpec, contender: Contender, rules: Rules) -> Reason | None:
    networks = _facts(contender).networks
    for nic in spec.nics:
        if nic.network not in networks:
            return _against(
                "node_lacks_network", contender.node, rules, network=nic.network
            )
    return None


def _has_images(spec: VmSpec, contender: Contender, rules: Rules) -> Reason | None:
    """Look for what new disks start from; a disk on a pool holds its copy already."""
    images = contender.node.images
    for disk in spec.disks:
        is_node_own = disk.storage_domain_id is None
        if is_node_own and disk.image is not None and disk.image not in images:
            return _against("node_lacks_image", contender.node, rules, image=disk.image)
    return None


def _has_cpus(spec: VmSpec, contender: Contender, rules: Rules) -> Reason | None:
    count = _facts(contender).cpu.count
    if spec.cpu.count <= count:
        return None
    return _against(
        "node_lacks_cpus",
        contender.node,
        rules,
        count=count,
        needed=spec.cpu.count,
    )


def _has_cpu_model(spec: VmSpec, contender: Contender, rules: Rules) -> Reason | None:
    model = spec.cpu.model
    if spec.cpu.mode is not CpuMode.NAMED or model is None:
        return None
    if model in _facts(contender).cpu.usable_models:
        return None
    return _against("node_lacks_cpu_model", contender.node, rules, model=model)


def _has_machine(spec: VmSpec, contender: Contender, rules: Rules) -> Reason | None:
    if spec.machine is None or spec.machine in _facts(contender).machines:
        return None
    return _against("node_lacks_machine", contender.node, rules, machine=spec.machine)


def _has_firmware(spec: VmSpec, contender: Contender, rules: Rules) -> Reason | None:
    if spec.firmware is Firmware.BIOS or Feature.UEFI in _facts(contender).features:
        return None
    return _against("node_lacks_uefi", contender.node, rules)


def _has_hooks(_spec: VmSpec, contender: Contender, rules: Rules) -> Reason | None:
    hooks = _facts(contender).hooks
    there = {f"{each.point}/{each.name}" for each in hooks if not each.refused}
    for hook in rules.needed_hooks:
        if hook not in there:
            return _against("node_lacks_hook", contender.node, rules, hook=hook)
    return None


def _may_run_it(_spec: VmSpec, contender: Contender, rules: Rules) -> Reason | None:
    if rules.allows_emulation or _facts(contender).kvm.is_usable:
        return None
    return _against("node_only_emulates", contender.node, rules)


def _has_memory(spec: VmSpec, contender: Contender, rules: Rules) -> Reason | None:
    free, needed = free_memory(contender), needed_memory(spec)
    if needed <= free:
        return None
    return _against(
        "node_lacks_memory",
        contender.node,
        rules,
        free_mib=max(0, free) // MiB,
        needed_mib=-(-needed // MiB),
    )


# Those whose remedy is nearest come first: their reasons are read first.
FILTERS: Final[tuple[Filter, ...]] = (
    _has_free_name,
    _has_images,
    _has_networks,
    _has_cpus,
    _has_cpu_model,
    _has_machine,
    _has_firmware,
    _has_hooks,
    _may_run_it,
    _has_memory,
)


def reasons_against(
    spec: VmSpec, contender: Contender, rules: Rules
) -> tuple[Reason, ...]:
    """Return all that speaks against a node; nothing: it can take the VM."""
    absence = _is_up(spec, contender, rules)
    if absence is not None:  # what else it has is not known now
        return (absence,)
    found = (each(spec, contender, rules) for each in FILTERS)
    return tuple(reason for reason in found if reason is not None)


def needed_memory(spec: VmSpec) -> int:
    """Return what a node must have free to take a VM."""
    return spec.memory_bytes + VM_OVERHEAD_BYTES


def free_memory(contender: Contender) -> int:
    """Return what a new guest can have: the lesser of unpromised and unused."""
    node, promise = contender.node, contender.promise
    overhead = (node.vms_promised + promise.vms) * VM_OVERHEAD_BYTES
    unpromised = (
        _facts(contender).memory_bytes
        - NODE_OVERHEAD_BYTES
        - node.memory_promised_bytes
        - promise.memory_bytes
        - overhead
    )
    if node.stats is None:
        return unpromised
    unused = (
        node.stats.memory_free_bytes
        - promise.memory_bytes
        - promise.vms * VM_OVERHEAD_BYTES
    )
    return min(unpromised, unused)


def _facts(contender: Contender) -> NodeFacts:
    facts = contender.node.facts
    assert facts is not None, "whether it is up comes first"
    return facts


def _against(
    code: str, node: NodeView, rules: Rules, **fields: str | int | float
) -> Reason:
    return Reason(code, rules.now, {"node": node.name, **fields}, cause=node.reason)
