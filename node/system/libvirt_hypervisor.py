"""Drive guests through libvirt: the only module that imports it.

Each call is made by a thread of its own and has a deadline, so that neither a
hanging QEMU nor a dead libvirtd holds its caller. Calls go over three lines
(connections), since libvirtd reads at most five unanswered calls of each
client: what QEMU or a guest leaves hanging on one line delays no other.

    sure     create, destroy, list, observe, events: QEMU need not answer
    monitor  suspend, resume, reset, shutdown, screenshot: QEMU must answer
    samples  figures: asked often, may be left out
    guests   the guest agent
    memory   save and restore, which last for as long as the memory is large

A lost connection is opened again with a growing pause, for ever.
Source: https://libvirt.org/html/
"""

import contextlib
import errno
import json
import logging
import threading
from collections.abc import Callable, Collection, Hashable, Mapping
from enum import Enum
from typing import Any, TypeVar

import libvirt
import libvirt_qemu

from node.errors import Conflict, Error, Failed
from node.model.ids import VmId
from node.system import (
    hypervisor,
    hypervisor_calls,
    hypervisor_reading,
    qemu_processes,
)

log = logging.getLogger(__name__)

T = TypeVar("T")
_Disk = hypervisor_reading.Disk

_CALL_DEADLINE_S = 10.0  # a healthy libvirtd answers in milliseconds
_DESTROY_DEADLINE_S = 30.0  # libvirt waits ten for QEMU before it kills it
_CREATE_DEADLINE_S = 60.0  # QEMU's probes and large memories take seconds
_SNAPSHOT_DEADLINE_S = 60.0  # QEMU ends what it has begun to write first
_MEMORY_DEADLINE_S = 3600.0  # a tebibyte at 300 MB/s
_FREEZE_S = 30  # a guest that freezes its file systems writes first
_AGENT_TURN_S = 15.0  # libvirt's wait for a sign of life, after the call before
_GUEST_DEADLINE_S = 2  # a guest agent that lives answers in milliseconds
_PAUSES_S = (0.1, 0.2, 0.5, 1.0, 2.0)  # between attempts to connect; then the last
_CALM_S = 10.0  # nothing to do: the connection is there
_KEEPALIVE_S, _KEEPALIVE_COUNT = 5, 3  # a libvirtd that hangs is noticed in 20 s
_SNAPSHOT = (  # all disks at once, to files that are there
    libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REUSE_EXT
    | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC
    | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA
)


class _Line(Enum):
    SURE = "sure"
    MONITOR = "monitor"
    SAMPLES = "samples"
    GUESTS = "guests"
    MEMORY = "memory"


class LibvirtHypervisor:
    """The hypervisor that libvirt drives, at a URI."""

    def __init__(self, uri: str) -> None:
        _start_event_loop()
        self._uri = uri
        self._lines = {line: hypervisor_calls.Calls(line.value) for line in _Line}
        self._connections: Mapping[_Line, libvirt.virConnect] = {}
        self._is_closing = threading.Event()
        self._is_lost = threading.Event()
        self._keeper: threading.Thread | None = None
        self._on_event: hypervisor.OnEvent = lambda event: None
        self._on_link: hypervisor.OnLink = lambda is_connected: None

    def open(self, on_event: hypervisor.OnEvent, on_link: hypervisor.OnLink) -> None:
        assert self._keeper is None, "opened twice"
        self._on_event, self._on_link = on_event, on_link
        self._keeper = threading.Thread(
            target=self._keep_connected, name="libvirt-keeper", daemon=True
        )
        self._keeper.start()

    def close(self) -> None:
        self._is_closing.set()
        self._is_lost.set()
        if self._keeper is not None:
            self._keeper.join(_CALL_DEADLINE_S)

    @property
    def is_connected(self) -> bool:
        return bool(self._connections)

    def facts(self, *, is_emulated: bool) -> hypervisor.HypervisorFacts:
        def ask(connection: libvirt.virConnect) -> hypervisor.HypervisorFacts:
            kind = "qemu" if is_emulated else "kvm"
            return hypervisor_reading.facts(
                connection.getCapabilities(),
                connection.getDomainCapabilities(None, "x86_64", "q35", kind),
                connection.getLibVersion(),
                connection.getVersion(),
            )

        # The first one asks QEMU for all it can do.
        return self._call(_Line.SURE, "facts", _CREATE_DEADLINE_S, ask)

    def create(self, xml: str, *, is_paused: bool = False) -> None:
        flags = libvirt.VIR_DOMAIN_START_PAUSED if is_paused else 0
        limit_s = _CREATE_DEADLINE_S
        self._call(_Line.SURE, xml, limit_s, lambda each: each.createXML(xml, flags))

    def complaint(self, xml: str) -> str:
        how, line = ("qemu-argv", xml), _Line.SURE
        try:
            self._call(line, how, _CALL_DEADLINE_S, lambda c: c.domainXMLToNative(*how))
        except (Failed, Conflict) as error:
            return str(error)
        return ""

    def save(self, vm_id: VmId, path: str) -> None:
        limit_s = _MEMORY_DEADLINE_S
        self._act(_Line.MEMORY, vm_id, lambda d: d.save(path), deadline_s=limit_s)

    def abort_save(self, vm_id: VmId) -> None:
        self._act(_Line.MONITOR, vm_id, lambda d: d.abortJob(), key="abort")

    def saved_xml(self, path: str) -> str:
        def ask(connection: libvirt.virConnect) -> str:
            return str(connection.saveImageGetXMLDesc(path, 0))

        return self._call(_Line.MEMORY, (path, "xml"), _CREATE_DEADLINE_S, ask)

    def restore(self, path: str, xml: str) -> None:
        def restore(connection: libvirt.virConnect) -> None:
            connection.restoreFlags(path, xml, libvirt.VIR_DOMAIN_SAVE_PAUSED)

        self._call(_Line.MEMORY, (path, ""), _MEMORY_DEADLINE_S, restore)

    def destroy(self, vm_id: VmId) -> None:
        how, limit_s = lambda domain: domain.destroy(), _DESTROY_DEADLINE_S
        self._act(_Line.SURE, vm_id, how, key="destroy", deadline_s=limit_s)

    def kill(self, vm_id: VmId) -> None:
        # Not through libvirt: it sends SIGTERM first, and QEMU flushes what it has.
        if not qemu_processes.kill(vm_id):
            raise hypervisor.DomainMissing(f"there is no QEMU of {vm_id}")

    def shutdown(self, vm_id: VmId, way: hypervisor.ShutdownWay) -> None:
        flag = libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN
        if way is hypervisor.ShutdownWay.AGENT:
            flag = libvirt.VIR_DOMAIN_SHUTDOWN_GUEST_AGENT
        # The agent's reply comes late or never: it must not keep ACPI from trying.
        self._act(_Line.MONITOR, vm_id, lambda d: d.shutdownFlags(flag), key=way)

    def suspend(self, vm_id: VmId) -> None:
        self._act(_Line.MONITOR, vm_id, lambda domain: domain.suspend())

    def resume(self, vm_id: VmId) -> None:
        self._act(_Line.MONITOR, vm_id, lambda domain: domain.resume())

    def reset(self, vm_id: VmId) -> None:
        self._act(_Line.MONITOR, vm_id, lambda domain: domain.reset())

    def attach(self, vm_id: VmId, xml: str) -> None:
        flags = libvirt.VIR_DOMAIN_AFFECT_LIVE
        self._act(_Line.MONITOR, vm_id, lambda d: d.attachDeviceFlags(xml, flags))

    def detach(self, vm_id: VmId, alias: str) -> None:
        flags = libvirt.VIR_DOMAIN_AFFECT_LIVE
        # libvirt 9 calls an alias that is not there an internal error: look first.
        self._on_disk(vm_id, alias, lambda d, _: d.detachDeviceAlias(alias, flags))

    def resize_disk(self, vm_id: VmId, alias: str, size_bytes: int) -> None:
        flags = libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES
        self._on_disk(
            vm_id, alias, lambda d, disk: d.blockResize(disk.target, size_bytes, flags)
        )

    def limit_disk(self, vm_id: VmId, alias: str, limits: Mapping[str, int]) -> None:
        wanted = dict(limits)
        self._on_disk(
            vm_id, alias, lambda d, disk: d.setBlockIoTune(disk.target, wanted)
        )

    def snapshot(
        self, vm_id: VmId, files: Mapping[str, str], memory: str | None = None
    ) -> None:
        line, limit_s, flags = _Line.MEMORY, _MEMORY_DEADLINE_S, _SNAPSHOT
        if memory is None:
            line, limit_s = _Line.MONITOR, _SNAPSHOT_DEADLINE_S
            flags |= libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY

        def take(domain: libvirt.virDomain) -> None:
            wanted = hypervisor_reading.snapshot(domain.XMLDesc(), files, memory)
            domain.snapshotCreateXML(wanted, flags)

        self._act(line, vm_id, take, deadline_s=limit_s)

    def freeze(self, vm_id: VmId) -> int:
        return self._ask_agent(vm_id, lambda domain: domain.fsFreeze())

    def thaw(self, vm_id: VmId) -> int:
        return self._ask_agent(vm_id, lambda domain: domain.fsThaw())

    def begin_merge(self, vm_id: VmId, alias: str, base: str, top: str) -> None:
        def begin(domain: libvirt.virDomain, disk: _Disk) -> None:
            flags = libvirt.VIR_DOMAIN_BLOCK_COMMIT_RELATIVE
            if disk.files[0] == top:
                flags = libvirt.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE
            domain.blockCommit(disk.target, base, top, 0, flags)

        self._on_disk(vm_id, alias, begin)

    def merge_of(self, vm_id: VmId, alias: str) -> hypervisor.Merge | None:
        def ask(domain: libvirt.virDomain, disk: _Disk) -> hypervisor.Merge | None:
            found = domain.blockJobInfo(disk.target, 0)
            if not found:
                return None
            return hypervisor.Merge(found["cur"], found["end"], disk.is_merge_ready)

        return self._on_disk(vm_id, alias, ask)

    def end_merge(self, vm_id: VmId, alias: str, *, is_turned: bool) -> None:
        flags = libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT if is_turned else 0
        self._on_disk(vm_id, alias, lambda d, disk: d.blockJobAbort(disk.target, flags))

    def observe(self, vm_id: VmId) -> hypervisor.Domain:
        return self._act(_Line.SURE, vm_id, _describe)

    def domains(self) -> tuple[hypervisor.Domain, ...]:
        def ask(connection: libvirt.virConnect) -> tuple[hypervisor.Domain, ...]:
            found = []
            for domain in connection.listAllDomains():
                with contextlib.suppress(libvirt.libvirtError):  # it ended meanwhile
                    found.append(_describe(domain))
            return tuple(found)

        return self._call(_Line.SURE, "domains", _CALL_DEADLINE_S, ask)

    def sample(
        self,
        vm_ids: Collection[VmId],
        *,
        needs_monitor: bool,
        deadline_s: float = hypervisor.SAMPLE_DEADLINE_S,
    ) -> Mapping[VmId, hypervisor.Sample]:
        wanted = frozenset(vm_ids)
        groups = libvirt.VIR_DOMAIN_STATS_INTERFACE
        if needs_monitor:
            groups |= libvirt.VIR_DOMAIN_STATS_BLOCK | libvirt.VIR_DOMAIN_STATS_BALLOON

        def ask(connection: libvirt.virConnect) -> Mapping[VmId, hypervisor.Sample]:
            active = connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
            domains = [each for each in active if each.UUIDString() in wanted]
            if not domains:
                return {}
            records = connection.domainListGetStats(
                domains, groups, libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
            )
            return {
                VmId(domain.UUIDString()): hypervisor_reading.sample(
                    figures, _cpu_time(domain)
                )
                for domain, figures in records
            }

        line = _Line.SAMPLES if needs_monitor else _Line.SURE
        return self._call(line, ("sample", wanted), deadline_s, ask)

    def processes(self) -> Mapping[VmId, hypervisor.QemuProcess]:
        return qemu_processes.read()

    def ask_guest(self, vm_id: VmId, command: str) -> Any:
        text = json.dumps({"execute": command})

        def ask(domain: libvirt.virDomain) -> Any:
            return libvirt_qemu.qemuAgentCommand(domain, text, _GUEST_DEADLINE_S, 0)

        return json.loads(self._act_in_guest(vm_id, ask)).get("return")

    def screenshot(self, vm_id: VmId) -> bytes:
        def ask(domain: libvirt.virDomain) -> bytes:
            stream = domain.connect().newStream()
            domain.screenshot(stream, 0)
            return hypervisor_reading.picture(stream)

        return self._act(_Line.MONITOR, vm_id, ask)

    def _ask_agent(self, vm_id: VmId, ask: Callable[[libvirt.virDomain], int]) -> int:
        """Let libvirt ask the agent; it would wait without end."""

        def ask_in_time(domain: libvirt.virDomain) -> int:
            domain.agentSetResponseTimeout(_FREEZE_S)
            return ask(domain)

        return self._act_in_guest(vm_id, ask_in_time, _FREEZE_S + _AGENT_TURN_S)

    def _act_in_guest(
        self,
        vm_id: VmId,
        function: Callable[[libvirt.virDomain], T],
        deadline_s: float = _CALL_DEADLINE_S,
    ) -> T:
        try:
            return self._act(_Line.GUESTS, vm_id, function, deadline_s=deadline_s)
        except hypervisor.HypervisorRefused as error:  # newer libvirts' own codes
            raise hypervisor.GuestSilent(error.message) from error

    def _on_disk(
        self,
        vm_id: VmId,
        alias: str,
        function: Callable[[libvirt.virDomain, _Disk], T],
    ) -> T:
        def act(domain: libvirt.virDomain) -> T:
            return function(domain, hypervisor_reading.disk(domain.XMLDesc(), alias))

        return self._act(_Line.MONITOR, vm_id, act)

    def _act(
        self,
        line: _Line,
        vm_id: VmId,
        function: Callable[[libvirt.virDomain], T],
        *,
        key: Hashable = None,
        deadline_s: float = _CALL_DEADLINE_S,
    ) -> T:
        def act(connection: libvirt.virConnect) -> T:
            return function(connection.lookupByUUIDString(vm_id))

        return self._call(line, (vm_id, key), deadline_s, act)

    def _call(
        self,
        line: _Line,
        key: Hashable,
        deadline_s: float,
        function: Callable[[libvirt.virConnect], T],
    ) -> T:
        connection = self._connections.get(line)
        if connection is None:
            text = f"there is no connection to libvirt at {self._uri}"
            raise hypervisor.HypervisorDown(text)
        try:
            return self._lines[line].call(key, deadline_s, lambda: function(connection))
        except libvirt.libvirtError as error:
            ours = translate(error)
            if isinstance(ours, hypervisor.HypervisorDown):
                self._is_lost.set()
            raise ours from error

    def _keep_connected(self) -> None:
        attempts = 0
        while not self._is_closing.is_set():
            try:
                connections = self._connect()
            except hypervisor.HypervisorDown as error:
                if attempts == 0:
                    log.warning("libvirt at %s cannot be reached: %s", self._uri, error)
                pause_s = _PAUSES_S[min(attempts, len(_PAUSES_S) - 1)]
                attempts += 1
                self._is_closing.wait(pause_s)
                continue
            attempts = 0
            self._connections = connections
            log.info("connected to libvirt at %s", self._uri)
            self._on_link(True)
            while not self._is_closing.is_set() and not self._is_lost.wait(_CALM_S):
                pass
            self._connections = {}
            if not self._is_closing.is_set():
                log.warning("the connection to libvirt at %s is lost", self._uri)
            self._on_link(False)
            _close(connections.values())

    def _connect(self) -> Mapping[_Line, libvirt.virConnect]:
        """Open all lines within a deadline: a libvirtd that hangs accepts, too."""
        self._is_lost.clear()
        self._lines = {line: hypervisor_calls.Calls(line.value) for line in _Line}
        calls = hypervisor_calls.Calls("connect")
        opened: dict[_Line, libvirt.virConnect] = {}
        try:
            for line in _Line:
                opened[line] = calls.call(
                    line, _CALL_DEADLINE_S, lambda: libvirt.open(self._uri)
                )
            calls.call(
                "watch", _CALL_DEADLINE_S, lambda: self._watch(opened[_Line.SURE])
            )
        except (libvirt.libvirtError, hypervisor.DomainStuck) as error:
            _close(opened.values())
            raise hypervisor.HypervisorDown(_message(error)) from error
        return opened

    def _watch(self, connection: libvirt.virConnect) -> None:
        """Ask for events, and to be told when the connection breaks."""
        # In-process drivers have no connection that could break.
        with contextlib.suppress(libvirt.libvirtError):
            connection.setKeepAlive(_KEEPALIVE_S, _KEEPALIVE_COUNT)
            connection.registerCloseCallback(self._notice_loss, None)
        for event_id, translator in _TRANSLATORS.items():
            with contextlib.suppress(libvirt.libvirtError):  # not all drivers have all
                connection.domainEventRegisterAny(
                    None, event_id, self._pass_on(translator), None
                )

    def _notice_loss(
        self, connection: libvirt.virConnect, reason: int, opaque: None
    ) -> None:
        self._is_lost.set()

    def _pass_on(
        self, translator: Callable[..., tuple[hypervisor.Happening, str] | None]
    ) -> Callable[..., None]:
        def pass_on(
            connection: libvirt.virConnect, domain: libvirt.virDomain, *rest: Any
        ) -> None:
            told = translator(*rest)
            if told is not None:
                self._on_event(hypervisor.DomainEvent(VmId(domain.UUIDString()), *told))

        return pass_on


def translate(error: libvirt.libvirtError) -> Exception:
    """Return libvirt's error as one of ours."""
    code, domain = error.get_error_code(), error.get_error_domain()
    message = _message(error)
    if domain in _RPC_DOMAINS or code in _DOWN_CODES:
        told = f"libvirt does not answer: {message}"
        return hypervisor.HypervisorDown(told, detail=message)
    if code == libvirt.VIR_ERR_OPERATION_FAILED and "already exists" in message:
        return hypervisor.DomainExists(message, detail=message)
    if code == libvirt.VIR_ERR_SYSTEM_ERROR and error.get_int1() == errno.EACCES:
        return hypervisor.FileForbidden(message, detail=message)
    kind = _ERRORS.get(code, hypervisor.HypervisorRefused)
    return kind(message, detail=message)


_RPC_DOMAINS = frozenset({libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_REMOTE})
_DOWN_CODES = frozenset(
    {libvirt.VIR_ERR_NO_CONNECT, libvirt.VIR_ERR_INVALID_CONN, libvirt.VIR_ERR_RPC}
)
_ERRORS: Mapping[int, type[Error]] = {
    libvirt.VIR_ERR_NO_DOMAIN: hypervisor.DomainMissing,
    libvirt.VIR_ERR_DOM_EXIST: hypervisor.DomainExists,
    libvirt.VIR_ERR_OPERATION_INVALID: hypervisor.DomainRefused,
    libvirt.VIR_ERR_RESOURCE_BUSY: hypervisor.DomainLeased,
    libvirt.VIR_ERR_DEVICE_MISSING: hypervisor.DeviceMissing,
    libvirt.VIR_ERR_AGENT_UNRESPONSIVE: hypervisor.GuestSilent,
    libvirt.VIR_ERR_AGENT_UNSYNCED: hypervisor.GuestSilent,
    libvirt.VIR_ERR_NO_SUPPORT: hypervisor.HypervisorUnable,
    libvirt.VIR_ERR_OPERATION_TIMEOUT: hypervisor.DomainStuck,
}


def _message(error: Exception) -> str:
    text = error.get_error_message() if isinstance(error, libvirt.libvirtError) else ""
    return text or str(error)


def _close(connections: Collection[libvirt.virConnect]) -> None:
    """Let the connections go; a hanging call keeps its own until it returns."""
    for connection in connections:
        with contextlib.suppress(libvirt.libvirtError):
            connection.close()


# --- events


def _read_lifecycle(
    event: int, detail: int, opaque: None
) -> tuple[hypervisor.Happening, str] | None:
    if event == libvirt.VIR_DOMAIN_EVENT_STOPPED:
        return hypervisor.Happening.ENDED, _END_DETAILS.get(detail, "unknown")
    if event in _CHANGES:
        return _CHANGED
    return None


def _read_disk_error(
    path: str, alias: str, action: int, reason: str, opaque: None
) -> tuple[hypervisor.Happening, str] | None:
    if action != libvirt.VIR_DOMAIN_EVENT_IO_ERROR_PAUSE:
        return None
    return (
        hypervisor.Happening.DISK_ERROR,
        f"{reason or 'i/o error'} on {alias or path}",
    )


def _read_agent(
    state: int, reason: int, opaque: None
) -> tuple[hypervisor.Happening, str] | None:
    if state != libvirt.VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED:
        return None
    return hypervisor.Happening.AGENT_CONNECTED, ""


_CHANGES = (
    libvirt.VIR_DOMAIN_EVENT_STARTED,
    libvirt.VIR_DOMAIN_EVENT_SUSPENDED,
    libvirt.VIR_DOMAIN_EVENT_RESUMED,
)
_CHANGED = (hypervisor.Happening.CHANGED, "")
_REBOOTED = (hypervisor.Happening.REBOOTED, "")
_END_DETAILS = {
    libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN: "shutdown",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED: "destroyed",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED: "crashed",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED: "failed",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_MIGRATED: "migrated",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_SAVED: "saved",
}
_TRANSLATORS: Mapping[int, Callable[..., tuple[hypervisor.Happening, str] | None]] = {
    libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE: _read_lifecycle,
    libvirt.VIR_DOMAIN_EVENT_ID_REBOOT: lambda opaque: _REBOOTED,
    libvirt.VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON: _read_disk_error,
    libvirt.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE: _read_agent,
    libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED: lambda alias, opaque: _CHANGED,
    libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED: lambda alias, opaque: _CHANGED,
}

_loop_lock = threading.Lock()
_loop: threading.Thread | None = None


def _start_event_loop() -> None:
    """Start the one event loop that libvirt can have in a process."""
    global _loop
    with _loop_lock:
        if _loop is None:
            libvirt.registerErrorHandler(lambda context, error: None, None)
            libvirt.virEventRegisterDefaultImpl()
            _loop = threading.Thread(
                target=_run_event_loop, name="libvirt-events", daemon=True
            )
            _loop.start()


def _run_event_loop() -> None:
    while True:
        try:
            libvirt.virEventRunDefaultImpl()
        except libvirt.libvirtError as error:
            log.error("libvirt's event loop failed: %s", error)


# --- what libvirt tells, as our data


def _describe(domain: libvirt.virDomain) -> hypervisor.Domain:
    state, reason = domain.state()
    is_persistent = bool(domain.isPersistent())
    return hypervisor.Domain(
        VmId(domain.UUIDString()),
        domain.name(),
        read_activity(state, reason),
        domain.XMLDesc(),
        is_persistent,
        is_persistent and bool(domain.autostart()),
        is_persistent and bool(domain.hasManagedSaveImage()),
    )


def read_activity(state: int, reason: int) -> hypervisor.Activity:
    """Return what virDomainGetState means to us."""
    if state == libvirt.VIR_DOMAIN_PAUSED:
        return _PAUSES.get(reason, hypervisor.Activity.PAUSED)
    return _ACTIVITIES.get(state, hypervisor.Activity.OFF)


_ACTIVITIES = {
    libvirt.VIR_DOMAIN_RUNNING: hypervisor.Activity.RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED: hypervisor.Activity.RUNNING,
    libvirt.VIR_DOMAIN_PMSUSPENDED: hypervisor.Activity.RUNNING,
    libvirt.VIR_DOMAIN_SHUTDOWN: hypervisor.Activity.RUNNING,  # QEMU is there still
}
_PAUSES = {
    libvirt.VIR_DOMAIN_PAUSED_STARTING_UP: hypervisor.Activity.STARTING,
    libvirt.VIR_DOMAIN_PAUSED_IOERROR: hypervisor.Activity.FAULTED,
}


def _cpu_time(domain: libvirt.virDomain) -> int | None:
    """Return what the domain's control group counts; bulk statistics ask QEMU too."""
    try:
        return int(domain.getCPUStats(True)[0]["cpu_time"])
    except (libvirt.libvirtError, LookupError):
        return None  # it ended meanwhile, or there are no control groups
