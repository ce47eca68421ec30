"""Keep the documents of this machine: the node, its devices, its images.

Facts that cannot change while the machine runs are read once. Nothing here
waits for long: what libvirt says is asked of its door, and kept from the last
time if libvirt is down.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import node
from node import wire
from node.clock import Clock, rfc3339
from node.errors import Conflict, Error
from node.host import capabilities
from node.model.feed import Kind
from node.model.hooks import HookBundle, HookScript
from node.model.host import (
    CpuFacts,
    Device,
    DeviceKind,
    Feature,
    FirmwareFacts,
    Image,
    KvmFacts,
    NodeFacts,
    NodeHealth,
    NumaNode,
    Versions,
)
from node.model.ids import NodeId
from node.model.reason import Reason, Scalar
from node.store import Change, Store
from node.system.devices import Devices, Disk, PciDevice
from node.system.hypervisor import HypervisorFacts
from node.system.netlink import Link, Netlink
from node.system.procfs import Procfs
from node.units import GiB

log = logging.getLogger(__name__)

# What every node of this version can do.
FEATURES: Final = (
    Feature.VM,
    Feature.FEED,
    Feature.ADMISSION,
    Feature.STORAGE,
)
# Less than this, and the next disk or document may find no space.
FREE_MIN: Final = GiB
# What nobody announces is looked for this often.
REFRESH_S: Final = 60.0
# The folder of images has no announcer; a list of names costs little.
IMAGES_S: Final = 5.0
# Devices come in swarms: a swarm is one refresh.
_SETTLE_S: Final = 0.5
_DMI: Final = "/sys/class/dmi/id/"
_NUMA: Final = "/sys/devices/system/node"
_NO_HYPERVISOR: Final = HypervisorFacts("", "", (), (), "")


@dataclass(frozen=True, slots=True)
class Identity:
    node_id: NodeId
    name: str
    address: str  # as configured; empty: found out
    boot_id: str
    storage_folder: Path  # what holds documents and disks


def _measured(measure: Callable[[], NodeFacts]) -> NodeFacts:
    return measure()


@dataclass(frozen=True, slots=True)
class Sources:
    """Whom the inventory asks. Those that may fail raise one of our errors."""

    procfs: Procfs
    netlink: Netlink
    devices: Devices
    hypervisor: Callable[[], HypervisorFacts]
    kvm: Callable[[], KvmFacts]
    images: Callable[[], tuple[Image, ...]]
    has_uefi: Callable[[], bool]  # for guests
    problems: Callable[[], Iterable[Reason]] = tuple  # what others found
    hooks: Callable[[], tuple[HookScript, ...]] = tuple
    hook_bundles: Callable[[], tuple[HookBundle, ...]] = tuple
    # Measures, with the hooks of what a node tells; HookFailed: it is not to be told.
    hooked: Callable[[Callable[[], NodeFacts]], NodeFacts] = _measured


@dataclass(frozen=True, slots=True)
class _Fixed:
    """What cannot change while the machine runs."""

    booted_at: str
    kernel: str
    os: str
    firmware: FirmwareFacts
    cpuinfo: str
    numa: tuple[NumaNode, ...]
    max_khz: str


class Inventory:
    """Every method may be called from every thread."""

    def __init__(
        self, identity: Identity, sources: Sources, store: Store, clock: Clock
    ) -> None:
        self._identity = identity
        self._sources = sources
        self._store = store
        self._clock = clock
        self._fixed = _read_fixed(sources.procfs)
        self._refreshing = threading.Lock()
        self._last = self._last_facts()
        is_of_this_boot = self._last and self._last.boot_id == identity.boot_id
        self._facts = self._last if is_of_this_boot else None
        self._devices: tuple[Device, ...] = ()
        self._images: tuple[Image, ...] = ()
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def facts(self) -> NodeFacts:
        """Return the facts as of the last refresh in this boot; refresh if none was."""
        return self._facts or self.refresh()

    def devices(self) -> tuple[Device, ...]:
        return self._devices

    def images(self) -> tuple[Image, ...]:
        return self._images

    def cards(self) -> frozenset[str]:
        """Return the names of the network cards."""
        return frozenset(
            each.name for each in self._devices if each.kind is DeviceKind.NIC
        )

    def refresh(self) -> NodeFacts:
        """Look at everything, and put what changed into the store."""
        with self._refreshing:
            sources = self._sources
            links = sources.netlink.links()
            devices = (
                *nic_devices(links),
                *map(_disk_device, sources.devices.disks()),
                *map(_pci_device, sources.devices.pci()),
            )
            images = sources.images()
            facts = self._tell(links)
            with self._store.change() as change:
                change.put(Kind.NODE, facts.node_id, facts)
                self._put_all(
                    change, Kind.DEVICE, {each.device_id: each for each in devices}
                )
                self._put_all(change, Kind.IMAGE, {each.name: each for each in images})
            self._facts, self._devices, self._images = facts, devices, images
            return facts

    def _tell(self, links: tuple[Link, ...]) -> NodeFacts:
        """Return the facts; those of before, if a hook forbids to tell newer ones."""
        try:
            return self._sources.hooked(lambda: self._observe(links))
        except Conflict as error:
            log.warning("no newer facts are told: %s", error)
            return self._facts or self._observe(links)

    def refresh_images(self) -> None:
        """Look at the folder of images only."""
        with self._refreshing:
            images = self._sources.images()
            if images != self._images:
                with self._store.change() as change:
                    self._put_all(
                        change, Kind.IMAGE, {each.name: each for each in images}
                    )
                self._images = images

    def poke(self) -> None:
        """Ask for a refresh soon; returns at once."""
        self._wake.set()

    def start(self) -> None:
        """Refresh now and then, and when devices come or go."""
        self._thread = threading.Thread(target=self._run, name="inventory", daemon=True)
        self._thread.start()
        self._sources.devices.watch(self.poke)

    def stop(self, deadline_s: float) -> None:
        self._stopped.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(deadline_s)

    def _run(self) -> None:
        due_s = self._clock.monotonic() + REFRESH_S
        complaint = ""
        while not self._stopped.is_set():
            is_poked = self._wake.wait(IMAGES_S)
            if self._stopped.is_set():
                return
            try:
                if is_poked or self._clock.monotonic() >= due_s:
                    self._settle()
                    due_s = self._clock.monotonic() + REFRESH_S
                    self.refresh()
                else:
                    self.refresh_images()
            except Error as error:
                if str(error) != complaint:
                    complaint = str(error)
                    log.warning("the inventory is not up to date: %s", complaint)
            except Exception:
                log.exception("the inventory met a bug")
            else:
                complaint = ""

    def _settle(self) -> None:
        """Wait until nobody has poked for a moment; a few times at most."""
        for _ in range(4):
            self._wake.clear()
            if not self._wake.wait(_SETTLE_S) or self._stopped.is_set():
                return

    def _observe(self, links: tuple[Link, ...]) -> NodeFacts:
        identity, fixed, sources = self._identity, self._fixed, self._sources
        problems = []
        try:
            hypervisor = sources.hypervisor()
        except Error as error:
            hypervisor = _hypervisor_of(self._facts or self._last)
            problems.append(self._problem("libvirt_down", detail=str(error)))
        folder = identity.storage_folder
        if sources.procfs.file_system(folder).free_bytes < FREE_MIN:
            problems.append(
                self._problem(
                    "storage_full", path=str(folder), detail="less than 1 GiB is free"
                )
            )
        for found in sources.problems():
            if all(found.code != each.code for each in problems):
                problems.append(self._problem(found.code, **found.fields))
        return NodeFacts(
            node_id=identity.node_id,
            name=identity.name,
            address=capabilities.address(
                identity.address,
                sources.netlink.default_routes(),
                sources.netlink.addresses(),
            ),
            boot_id=identity.boot_id,
            booted_at=self._booted_at(),
            versions=Versions(
                node.VERSION,
                fixed.kernel,
                fixed.os,
                hypervisor.libvirt_version,
                hypervisor.qemu_version,
            ),
            features=(*FEATURES, Feature.UEFI) if sources.has_uefi() else FEATURES,
            memory_bytes=sources.procfs.memory().total_bytes,
            cpu=capabilities.cpu_facts(
                fixed.cpuinfo, fixed.numa, fixed.max_khz, hypervisor
            ),
            kvm=sources.kvm(),
            firmware=fixed.firmware,
            networks=capabilities.networks(links),
            machines=hypervisor.machines,
            health=NodeHealth.DEGRADED if problems else NodeHealth.OK,
            problems=tuple(problems),
            hooks=self._sources.hooks(),
            hook_bundles=self._sources.hook_bundles(),
        )

    def _booted_at(self) -> str:
        """Return what was said before in this boot: the kernel's answer wavers."""
        if self._facts is not None and self._facts.boot_id == self._identity.boot_id:
            return self._facts.booted_at
        return self._fixed.booted_at

    def _problem(self, code: str, **fields: Scalar) -> Reason:
        """Return a reason, with its old beginning if it is an old one."""
        reason = Reason(code, rfc3339(self._clock.now()), fields)
        for old in self._facts.problems if self._facts is not None else ():
            if old.code == code:
                return replace(reason, since=old.since)
        return reason

    def _last_facts(self) -> NodeFacts | None:
        """Return what the store has: libvirt may be down when we start."""
        document = self._store.get(Kind.NODE, self._identity.node_id)
        if document is None:
            return None
        try:
            return wire.from_json(NodeFacts, dict(document.body), strict=False)
        except Error as error:
            log.warning("the stored facts of this node cannot be read: %s", error)
            return None

    def _put_all(
        self, change: Change, kind: Kind, wanted: dict[str, Device] | dict[str, Image]
    ) -> None:
        """Make the documents of a kind be these."""
        for document in self._store.list(kind):
            if document.id not in wanted:
                change.delete(kind, document.id)
        for id, value in wanted.items():
            change.put(kind, id, value)


def nic_devices(links: Iterable[Link]) -> tuple[Device, ...]:
    """Return the network cards among the links: what leads out of this machine."""
    return tuple(
        Device(
            f"nic-{link.name}",
            DeviceKind.NIC,
            link.name,
            driver=link.driver,
            mac=link.mac,
            mtu=link.mtu,
            speed_bps=link.speed_bps,
            is_up=link.is_up,
        )
        for link in sorted(links, key=lambda link: link.name)
        if _is_card(link)
    )


def _is_card(link: Link) -> bool:
    """Say whether a link is a card; a host that is a container has veths for it."""
    if link.is_loopback:
        return False
    return not link.kind or (link.kind == "veth" and link.is_peer_elsewhere)


def _disk_device(disk: Disk) -> Device:
    return Device(
        f"disk-{disk.name}",
        DeviceKind.DISK,
        disk.name,
        disk.vendor,
        disk.model,
        disk.driver,
        size_bytes=disk.size_bytes,
        is_rotational=disk.is_rotational,
    )


def _pci_device(device: PciDevice) -> Device:
    return Device(
        f"pci-{device.address}",
        DeviceKind.PCI,
        device.address,
        device.vendor,
        device.model,
        device.driver,
    )


def _hypervisor_of(facts: NodeFacts | None) -> HypervisorFacts:
    if facts is None:
        return _NO_HYPERVISOR
    cpu: CpuFacts = facts.cpu
    return HypervisorFacts(
        libvirt_version=facts.versions.libvirt,
        qemu_version=facts.versions.qemu,
        machines=facts.machines,
        usable_models=cpu.usable_models,
        host_model=cpu.libvirt_model,
    )


def _read_fixed(procfs: Procfs) -> _Fixed:
    booted = datetime.fromtimestamp(round(procfs.booted_at_s()), UTC)
    return _Fixed(
        booted_at=rfc3339(booted),
        kernel=procfs.kernel(),
        os=capabilities.os_name(procfs.text("/etc/os-release")),
        firmware=FirmwareFacts(
            vendor=procfs.text(_DMI + "bios_vendor"),
            version=procfs.text(_DMI + "bios_version"),
            product=procfs.text(_DMI + "product_name"),
            manufacturer=procfs.text(_DMI + "sys_vendor"),
            serial=procfs.text(_DMI + "product_serial"),
            has_uefi=bool(procfs.paths("/sys/firmware", "efi")),
        ),
        cpuinfo=procfs.text("/proc/cpuinfo"),
        numa=_read_numa(procfs),
        max_khz=procfs.text("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq"),
    )


def _read_numa(procfs: Procfs) -> tuple[NumaNode, ...]:
    found = (
        capabilities.numa_node(
            Path(folder).name,
            procfs.text(f"{folder}/cpulist"),
            procfs.text(f"{folder}/meminfo"),
        )
        for folder in procfs.paths(_NUMA, "node[0-9]*")
    )
    return tuple(sorted(found, key=lambda each: each.number))
