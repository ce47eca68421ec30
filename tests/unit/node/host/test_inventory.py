"""The documents of a machine: what they say, and when they change."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from node.clock import SystemClock, rfc3339
from node.errors import Conflict, Unavailable
from node.host import inventory
from node.host.inventory import Identity, Inventory, Sources
from node.model.host import (
    DeviceKind,
    Feature,
    Image,
    KvmFacts,
    NodeFacts,
    NodeHealth,
    NumaNode,
)
from node.model.ids import NodeId
from node.model.reason import Reason
from node.store import Store
from node.system.hypervisor import HypervisorFacts
from node.system.procfs import FileSystem
from node.units import GiB, MiB
from tests.fakes.clock import FakeClock
from tests.fakes.devices import FakeDevices
from tests.fakes.netlink import LOOPBACK, FakeNetlink, make_link
from tests.fakes.procfs import FakeProcfs

_NODE = NodeId("11111111-2222-4333-8444-000000000001")
_HYPERVISOR = HypervisorFacts("9.0.0", "7.2.22", ("pc-q35-7.2",), ("Nehalem",), "EPYC")
_IMAGE = Image("debian", 2 * GiB, GiB)


class LibvirtDown(Unavailable):
    code = "libvirt_down"
    remedy = "Start it."


@dataclass(slots=True)
class Machine:
    procfs: FakeProcfs = field(default_factory=FakeProcfs)
    netlink: FakeNetlink = field(default_factory=FakeNetlink)
    devices: FakeDevices = field(default_factory=FakeDevices)
    clock: FakeClock = field(default_factory=FakeClock)
    images: tuple[Image, ...] = (_IMAGE,)
    problems: tuple[Reason, ...] = ()
    is_libvirt_down: bool = False
    has_uefi: bool = False
    refusal: str = ""  # of a hook that forbids to tell

    def hooked(self, measure: Callable[[], NodeFacts]) -> NodeFacts:
        if self.refusal:
            raise Conflict(self.refusal)
        return measure()

    def hypervisor(self) -> HypervisorFacts:
        if self.is_libvirt_down:
            raise LibvirtDown("no answer")
        return _HYPERVISOR

    def inventory(self, store: Store) -> Inventory:
        return Inventory(
            Identity(_NODE, "h1", "", "boot", Path("/var/lib/skerry")),
            Sources(
                self.procfs,
                self.netlink,
                self.devices,
                self.hypervisor,
                lambda: KvmFacts(False, "no"),
                lambda: self.images,
                lambda: self.has_uefi,
                lambda: self.problems,
                hooked=self.hooked,
            ),
            store,
            self.clock,
        )


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "node.db", SystemClock(), _NODE, "boot")
    yield store
    store.close()


def test_refresh_describes_the_node(machine: Machine, store: Store) -> None:
    facts = machine.inventory(store).refresh()
    assert (facts.name, facts.address, facts.networks) == (
        "h1",
        "10.77.0.1",
        ("ovirtmgmt",),
    )
    assert (facts.memory_bytes, facts.cpu.count, facts.machines) == (
        8 * GiB,
        2,
        ("pc-q35-7.2",),
    )
    assert (facts.versions.libvirt, facts.versions.qemu) == ("9.0.0", "7.2.22")
    assert (facts.health, facts.problems) == (NodeHealth.OK, ())


def test_hook_may_forbid_newer_facts(machine: Machine, store: Store) -> None:
    inventory = machine.inventory(store)
    machine.refusal = "not now"
    before = inventory.refresh()  # there are none to tell instead
    machine.has_uefi = True
    assert inventory.refresh() == before
    machine.refusal = ""
    assert inventory.refresh().features != before.features


def test_refresh_tells_each_numa_node(machine: Machine, store: Store) -> None:
    folder = "/sys/devices/system/node"
    machine.procfs.existing += [f"{folder}/node{each}" for each in (10, 2)]
    machine.procfs.existing.append(f"{folder}/possible")
    machine.procfs.texts[f"{folder}/node2/cpulist"] = "0\n"
    machine.procfs.texts[f"{folder}/node2/meminfo"] = "Node 2 MemTotal: 1048576 kB\n"
    machine.procfs.texts[f"{folder}/node10/cpulist"] = "1\n"
    machine.procfs.texts[f"{folder}/node10/meminfo"] = "Node 10 MemTotal: 1024 kB\n"
    cpu = machine.inventory(store).refresh().cpu
    assert cpu.numa == (NumaNode(2, (0,), GiB), NumaNode(10, (1,), MiB))
    assert cpu.numa_nodes == 2


def test_refresh_tells_whether_guests_can_start_by_uefi(
    machine: Machine, store: Store
) -> None:
    inventory = machine.inventory(store)
    assert Feature.UEFI not in inventory.refresh().features
    machine.has_uefi = True
    assert inventory.refresh().features == (
        "vm",
        "feed",
        "admission",
        "storage",
        "uefi",
    )


def test_refresh_keeps_a_document_of_each_thing(machine: Machine, store: Store) -> None:
    machine.inventory(store).refresh()
    assert [document.id for document in store.list("node")] == [_NODE]
    assert [document.id for document in store.list("image")] == ["debian"]
    assert [document.id for document in store.list("device")] == [
        "disk-vda",
        "nic-eth0",
        "pci-0000:00:1f.2",
    ]


def test_refresh_makes_no_revision_when_nothing_changed(
    machine: Machine, store: Store
) -> None:
    machine.inventory(store).refresh()
    rev = store.rev
    machine.clock.advance(60)
    machine.procfs.booted_s += 1
    machine.inventory(store).refresh()
    assert store.rev == rev


def test_refresh_forgets_what_is_gone(machine: Machine, store: Store) -> None:
    found = machine.inventory(store)
    found.refresh()
    machine.devices.all_disks = ()
    machine.images = ()
    found.refresh()
    assert [document.id for document in store.list("device")] == [
        "nic-eth0",
        "pci-0000:00:1f.2",
    ]
    assert (store.list("image"), found.images()) == ((), ())


def test_refresh_images_looks_at_images_only(machine: Machine, store: Store) -> None:
    found = machine.inventory(store)
    found.refresh()
    machine.images = (_IMAGE, replace(_IMAGE, name="alpine"))
    machine.devices.all_disks = ()
    found.refresh_images()
    assert [document.id for document in store.list("image")] == ["alpine", "debian"]
    assert len(store.list("device")) == 3


def test_facts_keep_what_libvirt_said_when_it_is_down(
    machine: Machine, store: Store
) -> None:
    found = machine.inventory(store)
    found.refresh()
    machine.is_libvirt_down = True
    facts = found.refresh()
    assert (facts.machines, facts.cpu.libvirt_model) == (("pc-q35-7.2",), "EPYC")
    assert facts.health is NodeHealth.DEGRADED
    assert [problem.code for problem in facts.problems] == ["libvirt_down"]
    restarted = machine.inventory(store).refresh()
    assert restarted == facts


def test_problems_keep_their_beginning(machine: Machine, store: Store) -> None:
    found = machine.inventory(store)
    machine.is_libvirt_down = True
    first = found.refresh()
    machine.clock.advance(60)
    assert found.refresh().problems == first.problems
    machine.is_libvirt_down = False
    assert found.refresh().problems == ()


@pytest.mark.parametrize(
    ("free_bytes", "codes"),
    [(inventory.FREE_MIN, []), (inventory.FREE_MIN - 1, ["storage_full"])],
    ids=["enough", "too-little"],
)
def test_problems_tell_of_a_disk_that_is_nearly_full(
    machine: Machine, store: Store, free_bytes: int, codes: list[str]
) -> None:
    machine.procfs.storage = FileSystem(100 * GiB, free_bytes)
    facts = machine.inventory(store).refresh()
    assert [problem.code for problem in facts.problems] == codes


def test_facts_can_be_asked_for_before_a_refresh(
    machine: Machine, store: Store
) -> None:
    assert machine.inventory(store).facts().node_id == _NODE


def test_firmware_is_read_from_its_tables(machine: Machine, store: Store) -> None:
    machine.procfs.texts["/sys/class/dmi/id/sys_vendor"] = "Acme"
    machine.procfs.existing.append("/sys/firmware/efi")
    firmware = machine.inventory(store).refresh().firmware
    assert (firmware.manufacturer, firmware.has_uefi) == ("Acme", True)


def test_nic_devices_are_links_that_lead_out() -> None:
    links = (
        LOOPBACK,
        make_link("vnet0", "tun"),
        make_link("veth1", "veth"),
        make_link("eth1", "veth", is_peer_elsewhere=True),
        make_link("eth0", speed_bps=10**9),
        make_link("br0", "bridge"),
    )
    devices = inventory.nic_devices(links)
    assert [device.name for device in devices] == ["eth0", "eth1"]
    assert (devices[0].kind, devices[0].speed_bps) == (DeviceKind.NIC, 10**9)


def test_start_refreshes_when_a_device_is_announced(
    machine: Machine, store: Store
) -> None:
    found = machine.inventory(store)
    found.refresh()
    seen = threading.Event()
    store.listen(seen.set)
    found.start()
    machine.devices.all_disks = ()
    machine.devices.announce()
    assert seen.wait(30)
    found.stop(30)
    assert [document.id for document in store.list("device")] == [
        "nic-eth0",
        "pci-0000:00:1f.2",
    ]
    assert found.cards() == frozenset({"eth0"})


def test_refresh_tells_what_others_found_and_since_when(
    machine: Machine, store: Store
) -> None:
    inventory = machine.inventory(store)
    began = rfc3339(machine.clock.now())
    for _ in range(2):
        machine.problems = (Reason("vms_stuck", "", {"count": 3}),)
        facts = inventory.refresh()
        machine.clock.advance(60)
    assert facts.health is NodeHealth.DEGRADED
    assert facts.problems == (Reason("vms_stuck", began, {"count": 3}),)
    machine.problems = ()
    assert inventory.refresh().problems == ()
