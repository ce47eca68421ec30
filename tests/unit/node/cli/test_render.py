"""What people read of the agent's replies."""

from dataclasses import replace

from node.cli import render
from node.commands import terminal
from node.model.host import NumaNode
from node.model.ids import StorageDomainId
from node.model.vm import DiskInterface, VmEntry
from node.units import GiB
from tests.fakes import fleet
from tests.unit.node.vm.examples import DISK, DOWN, VM


def test_facts_show_what_placement_and_guests_depend_on() -> None:
    cpu = replace(
        fleet.facts(1).cpu,
        numa=(NumaNode(0, (0, 1, 2, 8), 8 * GiB), NumaNode(1, (), GiB)),
        flags=("sse2", "vmx"),
    )
    facts = fleet.facts(1, cpu=cpu, machines=("pc-q35-10.0", "pc-q35-9.2"))
    shown = {" ".join(line.split()) for line in render.facts(facts).splitlines()}
    assert shown >= {
        "NUMA node 0 CPUs 0-2,8, 8.0 GiB",
        "NUMA node 1 CPUs none, 1.0 GiB",
        "CPU flags sse2 vmx",
        "CPU models Haswell Skylake",
        "machines pc-q35-10.0 pc-q35-9.2",
        f"features {' '.join(facts.features)}",
    }


def test_facts_wrap_long_lists() -> None:
    flags = tuple(f"flag{number}" for number in range(100))
    cpu = replace(fleet.facts(1).cpu, flags=flags)
    text = render.facts(fleet.facts(1, cpu=cpu))
    assert max(map(len, text.splitlines())) < 80
    assert set(flags) <= set(text.split())


def test_vm_says_where_its_disks_lie() -> None:
    pooled = replace(DISK, name="d1", storage_domain_id=StorageDomainId("sd"))
    known = replace(pooled, name="d2", size_bytes=0)
    own = replace(DISK, name="d0", image="debian")
    sata = replace(own, name="d3", interface=DiskInterface.SATA)
    vm = replace(VM, spec=replace(VM.spec, disks=(own, pooled, known, sata)))
    entry = VmEntry(vm, DOWN)
    shown = {" ".join(line.split()) for line in render.vm(entry).splitlines()}
    at = f"on storage domain sd, disk {DISK.disk_id}"
    size = terminal.size(DISK.size_bytes)
    assert shown >= {f"d0 {size} from debian", f"d1 {size} {at}", f"d2 {at}"}
    assert f"d3 {size} from debian, on sata" in shown
