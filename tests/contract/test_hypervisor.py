"""What the hypervisor door promises: on the fake, libvirt's test driver, and QEMU.

`host` needs a libvirtd that may run guests: inside a host of the lab, or on a
machine of its own.
"""

import os
import queue
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from node.contract.volumes import Layer, OpenVolume
from node.model.ids import DiskId, StorageDomainId, VmId
from node.model.storage import DiskFormat, DiskQos
from node.model.vm import Disk, DiskInterface, Vm, VmSpec, Wanted
from node.system import hypervisor_reading
from node.system.hypervisor import (
    Activity,
    DeviceMissing,
    DomainEvent,
    DomainExists,
    DomainMissing,
    DomainRefused,
    GuestSilent,
    Happening,
    Hypervisor,
    HypervisorDown,
    ShutdownWay,
)
from node.system.libvirt_hypervisor import LibvirtHypervisor
from node.units import MiB
from node.vm import domxml
from node.vm.devices import disk as disk_device
from tests.fakes.hypervisor import FakeHypervisor
from tests.lab import waiting

_LOGS = Path("/var/log/libvirt/qemu")
_STORAGE = 36  # user and group of what lies on storage domains
_TEST_XML = """<domain type='test'>
  <name>{name}</name><uuid>{vm_id}</uuid><memory unit='MiB'>16</memory>
  <os><type>hvm</type></os>
</domain>"""


_ALIAS = "disk-new"


def _disk_xml(path: Path, alias: str) -> str:
    return (
        f"<disk type='file' device='disk'><driver name='qemu' type='raw'/>"
        f"<source file='{path}'/><target dev='vdb' bus='virtio'/>"
        f"<alias name='{alias}'/></disk>"
    )


def _test_xml(vm_id: VmId, name: str) -> str:
    return _TEST_XML.format(name=name, vm_id=vm_id)


def _real_xml(vm_id: VmId, name: str) -> str:
    spec = VmSpec(vm_id, name, 64 * MiB, machine="q35")
    vm = Vm(spec, 1, "", Wanted.UP, domxml.assign_addresses(spec))
    return domxml.build(vm, name, domxml.Host(True, _serial_log(name)))


def _serial_log(name: str) -> Path:
    return _LOGS / f"{name}.serial"


@dataclass(slots=True)
class _Bench:
    """An open hypervisor, and what it has told."""

    hypervisor: Hypervisor
    xml: Callable[[VmId, str], str]
    events: "queue.Queue[DomainEvent]"
    made: list[VmId]

    def create(self, *, name: str | None = None, is_paused: bool = False) -> VmId:
        vm_id = VmId(str(uuid.uuid4()))
        name = name or f"skerry-test-{vm_id[:8]}"
        self.hypervisor.create(self.xml(vm_id, name), is_paused=is_paused)
        self.made.append(vm_id)
        return vm_id

    def await_event(self, vm_id: VmId, happening: Happening) -> DomainEvent:
        while True:
            event = self.events.get(timeout=10)
            if (event.vm_id, event.happening) == (vm_id, happening):
                return event


_KINDS: dict[str, tuple[Callable[[], Hypervisor], Callable[[VmId, str], str]]] = {
    "fake": (FakeHypervisor, _test_xml),
    "test-driver": (lambda: LibvirtHypervisor("test:///default"), _test_xml),
    "real": (lambda: LibvirtHypervisor("qemu:///system"), _real_xml),
}
_REAL = pytest.param("real", marks=pytest.mark.host)


def _open(kind: str) -> Iterator[_Bench]:
    make, xml = _KINDS[kind]
    hypervisor = make()
    bench = _Bench(hypervisor, xml, queue.Queue(), [])
    is_up = threading.Event()

    def on_link(is_connected: bool) -> None:
        if is_connected:
            is_up.set()

    hypervisor.open(bench.events.put, on_link)
    try:
        assert is_up.wait(10), "no connection"
        yield bench
        for vm_id in bench.made:
            try:
                hypervisor.destroy(vm_id)
            except DomainMissing:
                continue
    finally:
        hypervisor.close()
        for path in _LOGS.glob("skerry-test-*"):
            path.unlink()


@pytest.fixture(params=["fake", "test-driver", _REAL])
def bench(request: pytest.FixtureRequest) -> Iterator[_Bench]:
    yield from _open(request.param)


@pytest.fixture(params=["fake", _REAL])
def machine(request: pytest.FixtureRequest) -> Iterator[_Bench]:
    """Open what can do more than libvirt's test driver."""
    yield from _open(request.param)


@pytest.fixture
def real() -> Iterator[_Bench]:
    yield from _open("real")


def test_create_starts_a_domain(bench: _Bench) -> None:
    vm_id = bench.create()
    assert bench.hypervisor.observe(vm_id).activity is Activity.RUNNING
    bench.await_event(vm_id, Happening.CHANGED)


def test_create_starts_a_paused_domain(machine: _Bench) -> None:
    vm_id = machine.create(is_paused=True)
    assert machine.hypervisor.observe(vm_id).activity is Activity.PAUSED


def test_create_refuses_a_name_that_is_taken(machine: _Bench) -> None:
    name = machine.hypervisor.observe(machine.create()).name
    with pytest.raises(DomainExists):
        machine.create(name=name)


def test_domains_lists_what_was_created(bench: _Bench) -> None:
    vm_id = bench.create()
    found = {each.vm_id: each for each in bench.hypervisor.domains()}
    assert not found[vm_id].is_persistent
    assert str(vm_id) in found[vm_id].xml


def test_destroy_ends_a_domain_and_says_so(bench: _Bench) -> None:
    vm_id = bench.create()
    bench.hypervisor.destroy(vm_id)
    assert bench.await_event(vm_id, Happening.ENDED).detail == "destroyed"
    with pytest.raises(DomainMissing):
        bench.hypervisor.observe(vm_id)


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda door, vm_id: door.destroy(vm_id), id="destroy"),
        pytest.param(lambda door, vm_id: door.suspend(vm_id), id="suspend"),
        pytest.param(lambda door, vm_id: door.abort_save(vm_id), id="abort_save"),
        pytest.param(lambda door, vm_id: door.resume(vm_id), id="resume"),
        pytest.param(lambda door, vm_id: door.observe(vm_id), id="observe"),
        pytest.param(lambda door, vm_id: door.screenshot(vm_id), id="screenshot"),
        pytest.param(lambda door, vm_id: door.kill(vm_id), id="kill"),
    ],
)
def test_a_call_says_when_there_is_no_such_domain(
    bench: _Bench, call: Callable[[Hypervisor, VmId], object]
) -> None:
    with pytest.raises(DomainMissing):
        call(bench.hypervisor, VmId(str(uuid.uuid4())))


def test_suspend_and_resume_change_the_activity(bench: _Bench) -> None:
    vm_id = bench.create()
    bench.hypervisor.suspend(vm_id)
    assert bench.hypervisor.observe(vm_id).activity is Activity.PAUSED
    bench.hypervisor.resume(vm_id)
    assert bench.hypervisor.observe(vm_id).activity is Activity.RUNNING


def test_abort_save_says_when_nothing_is_saved(machine: _Bench) -> None:
    vm_id = machine.create()
    with pytest.raises(DomainRefused):
        machine.hypervisor.abort_save(vm_id)


def test_reset_is_told_as_a_reboot(machine: _Bench) -> None:
    vm_id = machine.create()
    machine.hypervisor.reset(vm_id)
    machine.await_event(vm_id, Happening.REBOOTED)


def test_shutdown_by_an_agent_that_is_not_there_says_so(machine: _Bench) -> None:
    vm_id = machine.create()
    with pytest.raises(GuestSilent):
        machine.hypervisor.shutdown(vm_id, ShutdownWay.AGENT)


def test_ask_guest_says_when_there_is_no_agent(machine: _Bench) -> None:
    vm_id = machine.create()
    with pytest.raises(GuestSilent):
        machine.hypervisor.ask_guest(vm_id, "guest-get-host-name")


@pytest.mark.parametrize("act", ["freeze", "thaw"])
def test_freeze_and_thaw_say_when_there_is_no_agent(machine: _Bench, act: str) -> None:
    vm_id = machine.create()
    with pytest.raises(GuestSilent):
        getattr(machine.hypervisor, act)(vm_id)


@pytest.mark.parametrize("needs_monitor", [False, True], ids=["cheap", "full"])
def test_sample_counts_the_domains_that_are_asked_for(
    machine: _Bench, needs_monitor: bool
) -> None:
    wanted, other = machine.create(), machine.create()
    told = machine.hypervisor.sample(
        [wanted, VmId(str(uuid.uuid4()))], needs_monitor=needs_monitor
    )
    assert set(told) == {wanted}
    assert other not in told
    assert told[wanted].cpu_time_ns is not None
    assert told[wanted].has_monitor is needs_monitor


def test_kill_ends_a_domain_that_is_paused(machine: _Bench) -> None:
    vm_id = machine.create(is_paused=True)
    machine.hypervisor.kill(vm_id)
    assert machine.await_event(vm_id, Happening.ENDED).detail == "failed"
    with pytest.raises(DomainMissing):
        machine.hypervisor.kill(vm_id)


@pytest.fixture
def disk_file() -> Iterator[Path]:
    """Return a file that QEMU may open."""
    path = _LOGS / f"skerry-test-{uuid.uuid4()}.raw"
    path.write_bytes(bytes(MiB))
    path.chmod(0o666)
    yield path
    path.unlink()


def test_disk_is_plugged_in_grows_and_goes(machine: _Bench, disk_file: Path) -> None:
    vm_id = machine.create()
    alias = f"ua-{_ALIAS}"
    machine.hypervisor.attach(vm_id, _disk_xml(disk_file, alias))
    machine.await_event(vm_id, Happening.CHANGED)
    assert domxml.disk_aliases(machine.hypervisor.observe(vm_id).xml) == {_ALIAS}
    machine.hypervisor.resize_disk(vm_id, alias, 2 * MiB)
    machine.hypervisor.detach(vm_id, alias)


def test_limits_of_a_disk_hold_at_once(machine: _Bench, disk_file: Path) -> None:
    vm_id = machine.create()
    alias = f"ua-{_ALIAS}"
    machine.hypervisor.attach(vm_id, _disk_xml(disk_file, alias))
    first = DiskQos(total_iops=500, read_bytes_s=10 * MiB, write_bytes_s=MiB)
    for limits in (first, DiskQos(read_iops=7, total_bytes_s=MiB), DiskQos()):
        machine.hypervisor.limit_disk(vm_id, alias, disk_device.tuning(limits))
        told = machine.hypervisor.observe(vm_id).xml
        assert domxml.disk_limits(told, _ALIAS) == limits


@pytest.fixture
def leaf(disk_file: Path) -> Iterator[Path]:
    """Return a file that a guest with the other one may turn to."""
    path = disk_file.with_suffix(".qcow2")
    backing = ("-F", "raw", "-b", str(disk_file), str(path))
    subprocess.run(("qemu-img", "create", "-q", "-f", "qcow2", *backing), check=True)
    path.chmod(0o666)
    yield path
    path.unlink()


@pytest.mark.parametrize("is_paused", [False, True], ids=["running", "paused"])
@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file to another user")
def test_snapshot_keeps_the_memory_of_its_moment(
    machine: _Bench, disk_file: Path, leaf: Path, is_paused: bool
) -> None:
    """In a file that is there, and stays whose it is; the guest is as it was."""
    memory = disk_file.with_suffix(".memory")
    memory.write_bytes(bytes(MiB))
    os.chown(memory, _STORAGE, _STORAGE)
    memory.chmod(0o660)
    vm_id, alias = machine.create(is_paused=is_paused), f"ua-{_ALIAS}"
    door = machine.hypervisor
    try:
        door.attach(vm_id, _disk_xml(disk_file, alias))
        before = door.observe(vm_id).activity
        door.snapshot(vm_id, {alias: str(leaf)}, str(memory))
        seen = door.observe(vm_id)
        assert seen.activity is before
        assert hypervisor_reading.disk(seen.xml, alias).files[0] == str(leaf)
        assert (memory.stat().st_uid, memory.stat().st_gid) == (_STORAGE, _STORAGE)
        # It goes on from there, and that can be done again.
        for _ in range(2):
            door.destroy(vm_id)
            door.restore(str(memory), door.saved_xml(str(memory)))
            again = door.observe(vm_id)
            assert again.activity is Activity.PAUSED
            assert hypervisor_reading.disk(again.xml, alias).files[0] == str(disk_file)
    finally:
        memory.unlink()


_DISK = Disk(
    DiskId(_ALIAS.removeprefix("disk-")),
    "root",
    MiB,
    storage_domain_id=StorageDomainId("some"),
)
_SAYS = b"booted from this disk"
# Real mode at 0:7c00. It prints what follows it, and halts:
#   xor ax,ax; mov ds,ax; cld; mov dx,3f8; mov si,7c16
#   11: lodsb; test al,al; jz 19; out dx,al; jmp 11
#   19: hlt; jmp 19
_LOADER = bytes.fromhex("31c08ed8fcbaf803be167cac84c07403eeebf8f4ebfd") + _SAYS
_BOOT_S = 60.0  # emulated, on a busy machine


def _boot_disk(disk: Disk, path: Path, machine: str) -> Callable[[VmId, str], str]:
    """Return what makes the XML of a VM with a disk that it boots from."""
    path.write_bytes(_LOADER.ljust(510, b"\0") + b"\x55\xaa" + bytes(MiB - 512))
    layers = (Layer(path, DiskFormat.RAW),)

    def xml(vm_id: VmId, name: str) -> str:
        spec = VmSpec(vm_id, name, 64 * MiB, disks=(disk,), machine=machine)
        vm = Vm(spec, 1, "", Wanted.UP, domxml.assign_addresses(spec))
        opened = {disk.disk_id: OpenVolume(layers)}
        host = domxml.Host(True, _serial_log(name), opened)
        return domxml.build(vm, name, host)

    return xml


@pytest.mark.host
@pytest.mark.parametrize("interface", DiskInterface)
def test_guest_boots_from_a_disk_on_each_bus(
    interface: DiskInterface, real: _Bench, disk_file: Path
) -> None:
    disk = replace(_DISK, interface=interface)
    kind = "i440fx" if interface is DiskInterface.IDE else "q35"
    machines = real.hypervisor.facts(is_emulated=True).machines
    machine = next(each for each in machines if each.startswith(f"pc-{kind}-"))
    real.xml = _boot_disk(disk, disk_file, machine)
    name = f"skerry-test-{uuid.uuid4().hex[:8]}"
    vm_id = real.create(name=name)
    log = _serial_log(name)
    waiting.until("boot", lambda: _SAYS in log.read_bytes(), timeout_s=_BOOT_S)
    assert domxml.disk_aliases(real.hypervisor.observe(vm_id).xml) == {_ALIAS}
    real.hypervisor.resize_disk(vm_id, f"ua-{_ALIAS}", 2 * MiB)


@pytest.mark.host
def test_scsi_disk_is_plugged_into_a_guest_without_a_controller(
    real: _Bench, disk_file: Path
) -> None:
    vm_id = real.create()
    disk = replace(_DISK, interface=DiskInterface.VIRTIO_SCSI)
    spec = VmSpec(vm_id, "", 64 * MiB, disks=(disk,), machine="pc-q35")
    before = domxml.assign_addresses(replace(spec, disks=()))
    vm = Vm(spec, 1, "", addresses=domxml.assign_addresses(spec, before))
    opened = OpenVolume((Layer(disk_file, DiskFormat.RAW),))
    running = real.hypervisor.observe(vm_id).xml
    for device in domxml.plug(vm, disk, opened, running):
        real.hypervisor.attach(vm_id, device)
    told = real.hypervisor.observe(vm_id).xml
    assert domxml.disk_aliases(told) == {_ALIAS}
    assert told.count("model='virtio-scsi'") == 1
    real.hypervisor.detach(vm_id, f"ua-{_ALIAS}")


def test_disk_that_is_not_there_can_neither_change_nor_go(
    machine: _Bench,
) -> None:
    vm_id = machine.create()
    with pytest.raises(DeviceMissing):
        machine.hypervisor.resize_disk(vm_id, "ua-nothing", MiB)
    with pytest.raises(DeviceMissing):
        machine.hypervisor.limit_disk(vm_id, "ua-nothing", {})
    with pytest.raises(DeviceMissing):
        machine.hypervisor.detach(vm_id, "ua-nothing")


def test_screenshot_is_a_png(machine: _Bench) -> None:
    vm_id = machine.create()
    assert machine.hypervisor.screenshot(vm_id).startswith(b"\x89PNG\r\n\x1a\n")


def test_facts_name_q35_machines_first(machine: _Bench) -> None:
    told = machine.hypervisor.facts(is_emulated=True)
    assert told.machines[0].startswith("pc-q35-")
    assert told.usable_models


def test_calls_say_when_libvirt_is_not_there() -> None:
    door = LibvirtHypervisor("test:///no/such/file")
    door.open(lambda event: None, lambda is_connected: None)
    try:
        assert not door.is_connected
        with pytest.raises(HypervisorDown):
            door.domains()
    finally:
        door.close()
