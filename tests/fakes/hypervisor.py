"""A hypervisor in memory: domains that a test starts, hangs, crashes and ends."""

import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from lxml import etree

from node.model.ids import VmId
from node.system import hypervisor_reading
from node.system.hypervisor import (
    SAMPLE_DEADLINE_S,
    Activity,
    DeviceMissing,
    Domain,
    DomainEvent,
    DomainExists,
    DomainMissing,
    DomainRefused,
    DomainStuck,
    GuestSilent,
    Happening,
    Hypervisor,
    HypervisorDown,
    HypervisorFacts,
    HypervisorRefused,
    Merge,
    OnEvent,
    OnLink,
    QemuProcess,
    Sample,
    ShutdownWay,
    TooManyStuck,
)

PNG = b"\x89PNG\r\n\x1a\n of a fake screen"
STATUS = "guest-fsfreeze-status"
FACTS = HypervisorFacts(
    "11.3.0", "10.0.2", ("pc-q35-10.0", "pc-q35-9.2"), ("Nehalem", "qemu64"), "EPYC"
)
_OBEYS = frozenset(ShutdownWay)
_IDLE = QemuProcess(7, "S", 1)


@dataclass(slots=True)
class _Inside:
    """What a test decides of a domain."""

    domain: Domain
    is_stuck: bool = False
    process: QemuProcess = _IDLE
    obeys: frozenset[ShutdownWay] = frozenset({ShutdownWay.ACPI})
    replies: Mapping[str, Any] = field(default_factory=dict)
    sample: Sample = field(
        default_factory=lambda: Sample(0, 0, 0, 0, 0, 0, has_monitor=True)
    )
    is_frozen: bool = False  # its file systems, by the guest agent
    resets: int = 0
    sizes: dict[str, int] = field(default_factory=dict)  # of disks that grew, by alias
    merges: dict[str, tuple[str, str]] = field(default_factory=dict)  # base and top


# Nothing here takes so long unless it is broken.
_LONG_S = 30.0


class FakeHypervisor:
    """Events are told at once, in the thread that causes them."""

    def __init__(self) -> None:
        self._inside: dict[VmId, _Inside] = {}
        self._lock = threading.RLock()
        self._on_event: OnEvent = lambda event: None
        self._on_link: OnLink = lambda is_connected: None
        self._is_connected = False
        self.refusal = ""  # why the next domains cannot be created
        self.calls: list[str] = []
        self.slots = 1000  # how many calls may hang at once
        self._waiting: set[VmId] = set()  # whose call hangs
        self.on_create: Callable[[str], None] = lambda xml: None
        # What the lock manager does when a guest begins or stops to run; it may raise.
        self.on_run: Callable[[VmId], None] = lambda vm_id: None
        # What QEMU does to files: the upper one is in the lower one by now.
        self.on_merged: Callable[[str, str], None] = lambda base, top: None
        self.merges_hang = False
        self.saved: dict[str, str] = {}  # domains, by the file with their memory
        self.saves_hang = False  # until they are aborted
        self.is_saving = threading.Event()  # one hangs
        self._is_aborted = threading.Event()
        # Calls that the guest agent obeys too late, or (thaw) not at all.
        self.unheard: frozenset[str] = frozenset()
        self.on_call: Callable[[], None] = lambda: None  # it may raise
        self.on_rest: Callable[[VmId], None] = lambda vm_id: None

    # --- the door

    def open(self, on_event: OnEvent, on_link: OnLink) -> None:
        self._on_event, self._on_link = on_event, on_link
        self.connect()

    def close(self) -> None:
        self._is_connected = False

    @property
    def is_connected(self) -> bool:
        return self._is_connected

    def facts(self, *, is_emulated: bool) -> HypervisorFacts:
        self._note("facts")
        return FACTS

    def create(self, xml: str, *, is_paused: bool = False) -> None:
        self._note("create")
        self.on_create(xml)
        root = etree.fromstring(xml)
        vm_id, name = VmId(str(root.findtext("uuid"))), str(root.findtext("name"))
        if self.refusal:
            raise HypervisorRefused(self.refusal)
        activity = Activity.PAUSED if is_paused else Activity.RUNNING
        with self._lock:
            domains = [inside.domain for inside in self._inside.values()]
            if any(vm_id == each.vm_id or name == each.name for each in domains):
                raise DomainExists(f"domain {name} already exists")
            if not is_paused:
                self.on_run(vm_id)
            self._inside[vm_id] = _Inside(Domain(vm_id, name, activity, xml))
        self._tell(vm_id, Happening.CHANGED)

    def complaint(self, xml: str) -> str:
        self._note("complaint")
        try:
            etree.fromstring(xml)
            self.on_create(xml)
        except (etree.XMLSyntaxError, HypervisorRefused) as error:
            return str(error)
        return self.refusal

    def save(self, vm_id: VmId, path: str) -> None:
        self._note("save")
        self._keep_memory(vm_id, path)
        self.end(vm_id, "saved")

    def abort_save(self, vm_id: VmId) -> None:
        self._note("abort_save")
        self._find(vm_id)
        if not self.is_saving.is_set():
            raise DomainRefused("no job is active on the domain")
        self._is_aborted.set()

    def saved_xml(self, path: str) -> str:
        self._check_link()
        if path not in self.saved:
            raise HypervisorRefused(f"{path} is no image of a domain")
        return self.saved[path]

    def restore(self, path: str, xml: str) -> None:
        self._note("restore")
        self.saved_xml(path)
        self.create(xml, is_paused=True)

    def destroy(self, vm_id: VmId) -> None:
        self._note("destroy")
        self.end(vm_id, "destroyed")

    def kill(self, vm_id: VmId) -> None:
        self._note("kill")
        self.end(vm_id, "failed")

    def shutdown(self, vm_id: VmId, way: ShutdownWay) -> None:
        self._note(f"shutdown {way}")
        inside = self._find(vm_id)
        if way is ShutdownWay.AGENT and not inside.replies:
            raise GuestSilent("the guest agent is not connected")
        if way in inside.obeys and inside.domain.activity is Activity.RUNNING:
            self.end(vm_id, "shutdown")

    def suspend(self, vm_id: VmId) -> None:
        self._note("suspend")
        if self._find(vm_id).domain.activity is Activity.RUNNING:
            self.on_rest(vm_id)
        self.set_activity(vm_id, Activity.PAUSED)

    def resume(self, vm_id: VmId) -> None:
        self._note("resume")
        if self._find(vm_id).domain.activity is Activity.RUNNING:
            raise DomainRefused("the domain is already running")
        self.on_run(vm_id)
        self.set_activity(vm_id, Activity.RUNNING)

    def reset(self, vm_id: VmId) -> None:
        self._note("reset")
        self._find(vm_id).resets += 1
        self._tell(vm_id, Happening.REBOOTED)

    def attach(self, vm_id: VmId, xml: str) -> None:
        self._note("attach")
        inside, device = self._find(vm_id), etree.fromstring(xml)
        root = etree.fromstring(inside.domain.xml)
        devices = root.find("devices")
        if devices is None:
            devices = etree.SubElement(root, "devices")
        devices.append(device)
        self._change(vm_id, root)

    def detach(self, vm_id: VmId, alias: str) -> None:
        self._note("detach")
        root = etree.fromstring(self._find(vm_id).domain.xml)
        device = _device(root, alias)
        parent = device.getparent()
        assert parent is not None
        parent.remove(device)
        self._change(vm_id, root)

    def resize_disk(self, vm_id: VmId, alias: str, size_bytes: int) -> None:
        self._note("resize_disk")
        inside = self._find(vm_id)
        _device(etree.fromstring(inside.domain.xml), alias)
        inside.sizes[alias] = size_bytes

    def limit_disk(self, vm_id: VmId, alias: str, limits: Mapping[str, int]) -> None:
        self._note("limit_disk")
        root = etree.fromstring(self._find(vm_id).domain.xml)
        disk = _device(root, alias)
        iotune = disk.find("iotune")
        if iotune is None:
            iotune = etree.SubElement(disk, "iotune")
        for name, limit in limits.items():
            for before in iotune.findall(name):
                iotune.remove(before)
            if limit:
                etree.SubElement(iotune, name).text = str(limit)
        self._change(vm_id, root)

    def snapshot(
        self, vm_id: VmId, files: Mapping[str, str], memory: str | None = None
    ) -> None:
        self._note("snapshot")
        inside = self._find(vm_id)
        if self.refusal:
            raise HypervisorRefused(self.refusal)
        if memory is not None:
            self._keep_memory(vm_id, memory)
        root = etree.fromstring(inside.domain.xml)
        for alias, path in files.items():
            disk = _device(root, alias)
            files_now = hypervisor_reading.disk(inside.domain.xml, alias).files
            _set_files(disk, (path, *files_now))
        self._change(vm_id, root)

    def freeze(self, vm_id: VmId) -> int:
        self._note("freeze")
        inside = self._find(vm_id)
        if inside.replies:
            inside.is_frozen = True  # also one whose answer is never heard
        if not inside.replies or "freeze" in self.unheard:
            raise GuestSilent("the guest agent does not answer")
        return 1

    def thaw(self, vm_id: VmId) -> int:
        self._note("thaw")
        inside = self._find(vm_id)
        if not inside.replies or "thaw" in self.unheard:
            raise GuestSilent("the guest agent does not answer")
        was_frozen, inside.is_frozen = inside.is_frozen, False
        return int(was_frozen)

    def begin_merge(self, vm_id: VmId, alias: str, base: str, top: str) -> None:
        self._note("begin_merge")
        inside = self._find(vm_id)
        inside.merges[alias] = (base, top)

    def merge_of(self, vm_id: VmId, alias: str) -> Merge | None:
        self._check_link()
        inside = self._find(vm_id)
        if alias not in inside.merges:
            return None
        _, top = inside.merges[alias]
        files = hypervisor_reading.disk(inside.domain.xml, alias).files
        if files[0] != top and not self.merges_hang:
            self._merged(vm_id, alias)
            return None
        return Merge(1, 2, is_ready=not self.merges_hang)

    def end_merge(self, vm_id: VmId, alias: str, *, is_turned: bool) -> None:
        self._note("pivot" if is_turned else "end_merge")
        inside = self._find(vm_id)
        if alias not in inside.merges:
            raise DomainRefused("there is no block job")
        if is_turned and self.refusal:
            raise HypervisorRefused(self.refusal)
        if is_turned:
            self._merged(vm_id, alias)
        else:
            del inside.merges[alias]

    def observe(self, vm_id: VmId) -> Domain:
        self._check_link()
        return self._find(vm_id).domain

    def domains(self) -> tuple[Domain, ...]:
        self._check_link()
        with self._lock:
            return tuple(inside.domain for inside in self._inside.values())

    def sample(
        self,
        vm_ids: Collection[VmId],
        *,
        needs_monitor: bool,
        deadline_s: float = SAMPLE_DEADLINE_S,
    ) -> Mapping[VmId, Sample]:
        self._note(f"sample {len(vm_ids)}" + (" by monitor" if needs_monitor else ""))
        with self._lock:
            asked = {
                vm_id: self._inside[vm_id] for vm_id in vm_ids if vm_id in self._inside
            }
        stuck = sorted(vm_id for vm_id, inside in asked.items() if _hangs(inside))
        if needs_monitor and stuck:
            self._waiting.update(stuck[:1])
            if len(self._waiting) > self.slots:
                self._waiting.difference_update(stuck)
                raise TooManyStuck("too many VMs do not answer")
            raise DomainStuck("QEMU did not answer")
        return {
            vm_id: inside.sample
            if needs_monitor
            else Sample(
                inside.sample.cpu_time_ns,
                inside.sample.net_rx_bytes,
                inside.sample.net_tx_bytes,
            )
            for vm_id, inside in asked.items()
        }

    def processes(self) -> Mapping[VmId, QemuProcess]:
        with self._lock:
            return {vm_id: inside.process for vm_id, inside in self._inside.items()}

    def ask_guest(self, vm_id: VmId, command: str) -> Any:
        self._note(f"ask {command}")
        inside = self._find(vm_id)
        replies = inside.replies
        if command == STATUS and replies:
            return "frozen" if inside.is_frozen else "thawed"
        if command not in replies or inside.is_frozen:
            raise GuestSilent("the guest agent is not connected")
        return replies[command]

    def screenshot(self, vm_id: VmId) -> bytes:
        self._note("screenshot")
        self._find(vm_id)
        return PNG

    # --- the test's hand

    def connect(self) -> None:
        self._is_connected = True
        self._on_link(True)

    def disconnect(self) -> None:
        self._is_connected = False
        self._on_link(False)

    @contextmanager
    def silence(self) -> Iterator[None]:
        """Lose every event meanwhile, as if the agent were not there."""
        on_event, self._on_event = self._on_event, lambda event: None
        try:
            yield
        finally:
            self._on_event = on_event

    def add(self, domain: Domain) -> None:
        """Let a domain be there that somebody else made."""
        with self._lock:
            self._inside[domain.vm_id] = _Inside(domain)

    def end(self, vm_id: VmId, detail: str) -> None:
        """End a domain, as libvirt's event would call it."""
        with self._lock:
            if self._find(vm_id).domain.activity is Activity.RUNNING:
                self.on_rest(vm_id)
            del self._inside[vm_id]
            self._tell(vm_id, Happening.ENDED, detail)

    def set_activity(self, vm_id: VmId, activity: Activity) -> None:
        inside = self._find(vm_id)
        inside.domain = replace(inside.domain, activity=activity)
        self._tell(vm_id, Happening.CHANGED)

    def fault(self, vm_id: VmId, detail: str, *, is_told: bool = True) -> None:
        """Pause a domain since its disk fails."""
        inside = self._find(vm_id)
        self.on_rest(vm_id)
        inside.domain = replace(inside.domain, activity=Activity.FAULTED)
        if not is_told:
            return
        self._tell(vm_id, Happening.DISK_ERROR, detail)
        self._tell(vm_id, Happening.CHANGED)

    def reboot(self, vm_id: VmId) -> None:
        self._tell(vm_id, Happening.REBOOTED)

    def set_guest(
        self,
        vm_id: VmId,
        replies: Mapping[str, Any] | None = None,
        obeys: frozenset[ShutdownWay] = _OBEYS,
    ) -> None:
        """Decide what the guest agent replies, and which shutdown the guest obeys."""
        inside = self._find(vm_id)
        inside.replies, inside.obeys = replies or {}, obeys

    def is_frozen(self, vm_id: VmId) -> bool:
        return self._find(vm_id).is_frozen

    def size(self, vm_id: VmId, alias: str) -> int | None:
        """Return what a disk has grown to; None: it has not."""
        return self._find(vm_id).sizes.get(alias)

    def set_stuck(self, vm_id: VmId, is_stuck: bool) -> None:
        self._find(vm_id).is_stuck = is_stuck
        self._waiting.discard(vm_id)

    def set_process(self, vm_id: VmId, state: str, switches: int = 1) -> None:
        """Decide what the kernel says of a QEMU; stopped (T), it is stuck, too."""
        self._find(vm_id).process = QemuProcess(7, state, switches)

    def set_sample(self, vm_id: VmId, sample: Sample) -> None:
        self._find(vm_id).sample = sample

    def _find(self, vm_id: VmId) -> _Inside:
        with self._lock:
            inside = self._inside.get(vm_id)
        if inside is None:
            raise DomainMissing(f"there is no domain {vm_id}")
        return inside

    def _keep_memory(self, vm_id: VmId, path: str) -> None:
        """Write a guest's memory, unless that is refused or given up."""
        xml = self._find(vm_id).domain.xml
        if self.refusal:
            raise HypervisorRefused(self.refusal)
        if self._find(vm_id).merges:
            raise DomainRefused("domain has active block job")
        if self.saves_hang:
            self._is_aborted.clear()
            self.is_saving.set()
            assert self._is_aborted.wait(_LONG_S), "nobody gave it up"
            self.is_saving.clear()
            raise HypervisorRefused("operation aborted: canceled by client")
        self.saved[path] = xml

    def _merged(self, vm_id: VmId, alias: str) -> None:
        """Take the upper file out of a disk's chain."""
        inside = self._find(vm_id)
        base, top = inside.merges.pop(alias)
        self.on_merged(base, top)
        root = etree.fromstring(inside.domain.xml)
        files = hypervisor_reading.disk(inside.domain.xml, alias).files
        _set_files(_device(root, alias), tuple(each for each in files if each != top))
        self._change(vm_id, root)

    def _change(self, vm_id: VmId, root: etree._Element) -> None:
        inside = self._find(vm_id)
        xml = etree.tostring(root, encoding="unicode")
        inside.domain = replace(inside.domain, xml=xml)
        self._tell(vm_id, Happening.CHANGED)

    def _note(self, call: str) -> None:
        self._check_link()
        self.on_call()
        self.calls.append(call)

    def _check_link(self) -> None:
        if not self._is_connected:
            raise HypervisorDown("there is no connection")

    def _tell(self, vm_id: VmId, happening: Happening, detail: str = "") -> None:
        if self._is_connected:
            self._on_event(DomainEvent(vm_id, happening, detail))


def _set_files(disk: etree._Element, files: tuple[str, ...]) -> None:
    """Let a disk have a chain of files, the top first."""
    for tag in ("source", "backingStore"):
        for each in disk.findall(tag):
            disk.remove(each)
    step = disk
    for number, path in enumerate(files):
        etree.SubElement(step, "source", file=path)
        if number + 1 < len(files):
            step = etree.SubElement(step, "backingStore", type="file")
    etree.SubElement(step, "backingStore")


def _device(root: etree._Element, alias: str) -> etree._Element:
    for device in root.iterfind("devices/*"):
        named = device.find("alias")
        if named is not None and named.get("name") == alias:
            return device
    raise DeviceMissing(f"there is no device {alias}")


def _hangs(inside: _Inside) -> bool:
    return inside.is_stuck or inside.process.state == "T"


_typed: type[Hypervisor] = FakeHypervisor
