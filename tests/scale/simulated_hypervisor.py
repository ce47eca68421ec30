"""Run the agent on libvirt's `test` driver: `… simulated_hypervisor CONFIG`.

The driver keeps its domains in the memory of the agent itself and starts no
QEMU, so 100 VMs cost what we cost, plus what the driver costs. It knows neither
QEMU's XML nor domain capabilities; that is bridged here. The node's own pool is in
memory, too: no storage process runs. All else is the agent as it ships.
"""

import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

import libvirt
from lxml import etree

from node import app, config
from node.model.ids import NodeId, VmId
from node.storage.pools.service import Storage
from node.system import hypervisor, hypervisor_reading
from node.system.libvirt_hypervisor import LibvirtHypervisor
from tests.fakes.volumes import FakeVolumes

URI: Final = "test:///default"
MACHINE: Final = "pc-q35-7.2"
_FACTS: Final = hypervisor.HypervisorFacts(
    "9.0.0", "7.2.0", (MACHINE,), ("qemu64",), "qemu64"
)

# What QEMU with one disk and one network card tells of itself.
COUNTERS: Final[Mapping[str, int]] = {
    "balloon.rss": 190_000,
    "balloon.available": 60_000,
    "balloon.unused": 30_000,
    "block.count": 1,
    "block.0.rd.bytes": 17_000_000,
    "block.0.wr.bytes": 1_200_000,
    "net.count": 1,
    "net.0.rx.bytes": 52_000,
    "net.0.tx.bytes": 9_000,
}


class SimulatedHypervisor(LibvirtHypervisor):
    """The door to libvirt, in front of the test driver."""

    _figures: libvirt.virConnect | None = None

    def facts(self, *, is_emulated: bool) -> hypervisor.HypervisorFacts:
        return _FACTS

    def sample(
        self,
        vm_ids: Collection[VmId],
        *,
        needs_monitor: bool,
        deadline_s: float = hypervisor.SAMPLE_DEADLINE_S,
    ) -> Mapping[VmId, hypervisor.Sample]:
        """Make the calls that QEMU gets; counters that the driver lacks are made up."""
        wanted = frozenset(vm_ids)
        connection = self._figures = self._figures or libvirt.open(URI)
        active = connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
        domains = [each for each in active if each.UUIDString() in wanted]
        if not domains:
            return {}
        return {
            VmId(domain.UUIDString()): hypervisor_reading.sample(
                COUNTERS if needs_monitor else {},
                int(domain.getCPUStats(True)[0]["cpu_time"]),
            )
            for domain, _ in connection.domainListGetStats(domains)
        }

    def create(self, xml: str, *, is_paused: bool = False) -> None:
        super().create(for_test_driver(xml), is_paused=is_paused)


def for_test_driver(xml: str) -> str:
    """Return the XML of a QEMU domain as the test driver takes it."""
    domain = etree.fromstring(xml)
    domain.set("type", "test")
    kind = domain.find("os/type")
    assert kind is not None, "every domain says what it boots"
    kind.set("arch", "i686")
    kind.attrib.pop("machine", "")
    for path in ("cpu", "features", "devices/emulator"):
        for found in domain.findall(path):
            parent = found.getparent()
            assert parent is not None
            parent.remove(found)
    return etree.tostring(domain, encoding="unicode")


def pool() -> FakeVolumes:
    """Return a node's own pool, which lies in memory."""
    return FakeVolumes(NodeId("bench"), is_shared=False)


def main() -> None:
    """Run the agent with the configuration that the argument names."""
    # The agent has one place that constructs, and no options for these.
    volumes = pool()
    for place, name, stand_in in (
        (app, LibvirtHypervisor.__name__, SimulatedHypervisor),
        (Storage, Storage.volumes.__name__, lambda storage: volumes),
    ):
        setattr(place, name, stand_in)
    app.run(config.load(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
