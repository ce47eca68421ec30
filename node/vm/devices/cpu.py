"""Choose the processor that a guest sees. Pure."""

from lxml import etree

from node.model.vm import Cpu, CpuMode
from node.vm.devices import element


def build(cpu: Cpu, *, is_emulated: bool) -> etree._Element:
    """Return the cpu element.

    Emulation has no host to pass through: the guest then gets all that TCG
    can emulate, since modern distributions do not start on QEMU's default.
    """
    if cpu.mode is CpuMode.NAMED:
        result = element.make("cpu", mode="custom", match="exact", check="none")
        result.append(element.make("model", text=cpu.model, fallback="forbid"))
    elif is_emulated:
        result = element.make("cpu", mode="maximum", check="none")
    elif cpu.mode is CpuMode.HOST_PASSTHROUGH:
        result = element.make("cpu", mode="host-passthrough", check="none")
    else:
        result = element.make("cpu", mode="host-model", check="partial")
    topology = element.make(
        "topology", sockets=cpu.sockets, cores=cpu.cores, threads=cpu.threads
    )
    result.append(topology)
    return result
