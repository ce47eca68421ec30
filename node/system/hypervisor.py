"""Say what a hypervisor does for us, and how it refuses.

The contract of the door; `node.system.libvirt_hypervisor` is what stands
behind it. Sizes are bytes, CPU time is nanoseconds.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from node.errors import Conflict, Failed, NotFound, Unavailable, Unsupported
from node.model.ids import VmId

SAMPLE_DEADLINE_S = 5.0  # a third of the interval between samples


class HypervisorDown(Unavailable):
    """There is no connection to libvirtd, or it broke during the call."""

    code = "hypervisor_down"
    remedy = "Guests are not affected. Start libvirtd again, and read its log."


class DomainStuck(Unavailable):
    """QEMU did not answer by the deadline, or has not answered the call before."""

    code = "domain_stuck"
    remedy = "Wait; if the VM does not recover, stop it by force."


class TooManyStuck(Unavailable):
    """All calls that may be made at once wait for guests that hang."""

    code = "too_many_stuck"
    remedy = "Stop the VMs that do not respond by force, then try again."


class DomainMissing(NotFound):
    """No such domain runs here."""

    code = "domain_missing"
    remedy = "Start the VM first."


class DeviceMissing(NotFound):
    """The domain has no such device."""

    code = "device_missing"
    remedy = "Look at the VM: the device may be gone already."


class DomainExists(Conflict):
    """A domain with that name or id is there already."""

    code = "domain_exists"
    remedy = "Stop the other domain, or choose another name."


class DomainRefused(Conflict):
    """The domain's state forbids what was asked."""

    code = "domain_refused"
    remedy = "Look at the VM's state, then ask for what it allows."


class DomainLeased(Conflict):
    """The lock manager refused: the domain's lease is held elsewhere."""

    code = "domain_leased"
    remedy = "Stop the VM where it runs; a dead host's leases are free after minutes."


class GuestSilent(Unavailable):
    """The guest agent is not there, or does not answer."""

    code = "guest_silent"
    remedy = "Install or start qemu-guest-agent in the guest."


class HypervisorRefused(Failed):
    """The hypervisor tried and failed; the message is libvirt's."""

    code = "hypervisor_refused"
    remedy = "Correct what the message names; the node's libvirt log says more."


class FileForbidden(HypervisorRefused):
    """libvirt, which is root here, is not root for who serves a file, such as NFS."""

    code = "file_forbidden"
    remedy = (
        "Let everybody pass through the folders that the message names: chmod o+x, on"
        " the server."
    )


class HypervisorUnable(Unsupported):
    """This hypervisor cannot do it."""

    code = "hypervisor_unable"


class Activity(StrEnum):
    """What a domain does, as far as libvirt knows."""

    STARTING = "starting"  # QEMU is being set up
    RUNNING = "running"
    PAUSED = "paused"
    FAULTED = "faulted"  # paused since a disk gave an error
    OFF = "off"  # defined only, or about to vanish


class ShutdownWay(StrEnum):
    AGENT = "agent"
    ACPI = "acpi"


@dataclass(frozen=True, slots=True)
class HypervisorFacts:
    libvirt_version: str
    qemu_version: str
    machines: tuple[str, ...]  # versioned, newest q35 first
    usable_models: tuple[str, ...]  # CPU models that guests may have here
    host_model: str  # the nearest model to this host's CPU


@dataclass(frozen=True, slots=True)
class Domain:
    vm_id: VmId
    name: str
    activity: Activity
    xml: str  # node.vm.domxml reads it
    is_persistent: bool = False
    has_autostart: bool = False
    has_managed_save: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """Counters since the start of QEMU; None: not told this time."""

    cpu_time_ns: int | None = None
    net_rx_bytes: int | None = None
    net_tx_bytes: int | None = None
    disk_read_bytes: int | None = None
    disk_written_bytes: int | None = None
    memory_rss_bytes: int | None = None  # of QEMU
    memory_total_bytes: int | None = None  # what the guest sees
    memory_unused_bytes: int | None = None  # of that; by the balloon driver
    has_monitor: bool = False  # QEMU itself answered


@dataclass(frozen=True, slots=True)
class Merge:
    """A block job that merges files of a disk."""

    done_bytes: int
    total_bytes: int
    is_ready: bool  # both are alike from now on, until it is ended


@dataclass(frozen=True, slots=True)
class QemuProcess:
    """A QEMU's main thread, which answers its monitor, as the kernel sees it."""

    pid: int
    state: str  # of proc(5): R runs, S waits, D waits for a disk, T is stopped
    switches: int  # how often it was put on a CPU, or taken off


class Happening(StrEnum):
    CHANGED = "changed"  # started, paused or resumed: observe it
    REBOOTED = "rebooted"
    ENDED = "ended"
    DISK_ERROR = "disk_error"  # what the detail names
    AGENT_CONNECTED = "agent_connected"


@dataclass(frozen=True, slots=True)
class DomainEvent:
    vm_id: VmId
    happening: Happening
    detail: str = ""


OnEvent = Callable[[DomainEvent], None]
OnLink = Callable[[bool], None]


class Hypervisor(Protocol):
    """What drives domains. Every method may raise HypervisorDown."""

    def open(self, on_event: OnEvent, on_link: OnLink) -> None:
        """Begin to connect; the callbacks must return at once."""

    def close(self) -> None: ...

    @property
    def is_connected(self) -> bool: ...

    def facts(self, *, is_emulated: bool) -> HypervisorFacts: ...

    def create(self, xml: str, *, is_paused: bool = False) -> None:
        """Start a transient domain; DomainExists, DomainLeased, HypervisorRefused."""

    def complaint(self, xml: str) -> str:
        """Return why a domain's XML cannot be what is meant; empty: it may be."""

    def save(self, vm_id: VmId, path: str) -> None:
        """End a domain that is paused, and keep its memory in a file that is there.

        It takes as long as writing that. DomainMissing, HypervisorRefused: it is still
        there. DomainStuck: it may be at it.
        """

    def abort_save(self, vm_id: VmId) -> None:
        """Let `save` be given up, which raises HypervisorRefused: the domain stays.

        DomainRefused: nothing is being saved. DomainMissing.
        """

    def saved_xml(self, path: str) -> str:
        """Return the domain whose memory a file keeps; HypervisorRefused."""

    def restore(self, path: str, xml: str) -> None:
        """Go on with what `save` kept, paused; the XML may differ in what it reaches.

        Raises as `create`. The file stays.
        """

    def destroy(self, vm_id: VmId) -> None:
        """End a domain at once; DomainMissing if there is none."""

    def kill(self, vm_id: VmId) -> None:
        """End QEMU by SIGKILL: it writes nothing any more. DomainMissing."""

    def shutdown(self, vm_id: VmId, way: ShutdownWay) -> None:
        """Ask the guest to shut down; GuestSilent if its agent cannot be asked."""

    def suspend(self, vm_id: VmId) -> None: ...

    def resume(self, vm_id: VmId) -> None:
        """Let a paused guest go on; DomainLeased."""

    def reset(self, vm_id: VmId) -> None: ...

    def attach(self, vm_id: VmId, xml: str) -> None:
        """Plug a disk in, for this run."""

    def detach(self, vm_id: VmId, alias: str) -> None:
        """Ask the guest to let a disk go; DeviceMissing.

        It may take its time: its end is told as Happening.CHANGED.
        """

    def resize_disk(self, vm_id: VmId, alias: str, size_bytes: int) -> None:
        """Let a disk grow while the guest runs; DeviceMissing."""

    def limit_disk(self, vm_id: VmId, alias: str, limits: Mapping[str, int]) -> None:
        """Let other limits of a disk hold, named as in its XML; 0: none. DeviceMissing.

        Those that are not named stay.
        """

    def snapshot(
        self, vm_id: VmId, files: Mapping[str, str], memory: str | None = None
    ) -> None:
        """Let the guest go on writing to other files, all disks at one moment.

        `files` are made already, each on what the disk with that alias has now. Its
        memory of that moment goes to the file `memory`, which is there, as by `save`,
        and may be given up as that; a guest that runs stands still meanwhile.
        """

    def freeze(self, vm_id: VmId) -> int:
        """Let the guest's agent hold its file systems, whole; return how many.

        GuestSilent: it did not say so in time, but may have done it, or do it yet.
        """

    def thaw(self, vm_id: VmId) -> int:
        """Let the guest's file systems go on; return how many were held. GuestSilent.

        One that is not held is no error.
        """

    def begin_merge(self, vm_id: VmId, alias: str, base: str, top: str) -> None:
        """Begin to copy one file of a disk's chain into the one that it is built on."""

    def merge_of(self, vm_id: VmId, alias: str) -> Merge | None:
        """Return how far the merge of a disk is; None: there is none."""

    def end_merge(self, vm_id: VmId, alias: str, *, is_turned: bool) -> None:
        """End a merge: turned to the lower file, or given up. DomainRefused.

        One of what the guest writes to waits for this when it is ready.
        """

    def observe(self, vm_id: VmId) -> Domain:
        """Describe a domain; DomainMissing if there is none."""

    def domains(self) -> tuple[Domain, ...]:
        """Describe all domains, ours and others."""

    def sample(
        self,
        vm_ids: Collection[VmId],
        *,
        needs_monitor: bool,
        deadline_s: float = SAMPLE_DEADLINE_S,
    ) -> Mapping[VmId, Sample]:
        """Return counters of those that run, in one call; DomainStuck if one hangs.

        Without the monitor only CPU and network are counted, and nothing hangs.
        """

    def processes(self) -> Mapping[VmId, QemuProcess]:
        """Return what the kernel says of QEMUs; never hangs, libvirt is not asked."""

    def ask_guest(self, vm_id: VmId, command: str) -> Any:
        """Return the guest agent's reply to a command; GuestSilent."""

    def screenshot(self, vm_id: VmId) -> bytes:
        """Return a PNG of the screen."""
