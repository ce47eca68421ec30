"""Browse the network for nodes: the aggregator's door to Avahi, over D-Bus.

Nodes that announce _skerry._tcp are resolved when they appear and again from
time to time, since a record can change without a sign. What they say is checked
for its form only. Source: avahi-daemon's D-Bus interface.
"""

import logging
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import dbus
import dbus.bus
import dbus.mainloop.glib
from gi.repository import GLib

from aggregator.fleet.candidates import Sighting
from node.clock import Clock
from node.model.ids import Fingerprint, NodeId

log = logging.getLogger(__name__)

SERVICE: Final = "_skerry._tcp"
_AVAHI: Final = "org.freedesktop.Avahi"
_SERVER: Final = "org.freedesktop.Avahi.Server"
_BROWSER: Final = "org.freedesktop.Avahi.ServiceBrowser"
_ANY: Final = -1  # all interfaces
# An IPv6 address found this way is a link-local one, which means nothing elsewhere.
_IPV4: Final = 0
_CALL_S: Final = 5.0  # Avahi answers at once, or hangs
_RESOLVE_S: Final = 10.0  # it asks the network for up to 5 s
_AGAIN_S: Final = 5  # until a lost bus or Avahi is tried again
_TICK_MS: Final = 50  # one name a tick: 20 a second, whatever is announced
# A reinstalled node shows its new key after this at the latest.
_RESOLVE_AGAIN_S: Final = 10.0
_NAMES_MAX: Final = 5000  # anybody can announce; real fleets stay far below
_STOP_S: Final = 15.0

_NODE_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")
_VERSION: Final = re.compile(r"[0-9A-Za-z.+~-]{1,40}")


@dataclass(frozen=True, slots=True)
class _Name:
    """One announcement as Avahi numbers it."""

    interface: int
    protocol: int
    name: str
    kind: str
    domain: str


def read_texts(texts: Iterable[bytes]) -> dict[str, str]:
    """Return the pairs of a TXT record; what is no text is left out."""
    pairs: dict[str, str] = {}
    for text in texts:
        key, has_value, value = bytes(text).partition(b"=")
        try:
            if has_value:
                pairs.setdefault(key.decode().lower(), value.decode())
        except UnicodeDecodeError:
            continue
    return pairs


def sighting(texts: Mapping[str, str], address: str, port: int) -> Sighting | None:
    """Return what a node says of itself; None if it is not said in our form."""
    name, ca = texts.get("name", ""), texts.get("ca", "")
    is_well_formed = (
        _NODE_ID.fullmatch(texts.get("id", ""))
        and _FINGERPRINT.fullmatch(texts.get("fingerprint", ""))
        and _VERSION.fullmatch(texts.get("version", ""))
        and name.isprintable()
        and 0 < len(name.encode()) <= 255
        and (not ca or _FINGERPRINT.fullmatch(ca))
        and 0 < port < 65536
    )
    if not is_well_formed:
        return None
    return Sighting(
        NodeId(texts["id"]),
        name,
        address,
        port,
        texts["version"],
        Fingerprint(texts["fingerprint"]),
        texts.get("state") == "waiting",
        ca,
    )


class Browser:
    """The thread that browses; it calls back with what comes and goes."""

    def __init__(
        self,
        on_seen: Callable[[Sighting], None],
        on_gone: Callable[[NodeId], None],
        clock: Clock,
        bus_address: str | None = None,
    ) -> None:
        """None: the system bus, wherever it is."""
        self._on_seen = on_seen
        self._on_gone = on_gone
        self._clock = clock
        self._bus_address = bus_address
        self._bus: dbus.bus.BusConnection | None = None
        self._browser: str | None = None  # its path in Avahi
        self._names: dict[_Name, Sighting | None] = {}
        self._due: OrderedDict[_Name, float] = OrderedDict()  # the soonest first
        self._resolving: _Name | None = None
        self._sentence = ""
        self._loop = GLib.MainLoop()
        self._thread = threading.Thread(target=self._run, name="browse", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        GLib.idle_add(self._loop.quit)
        self._thread.join(_STOP_S)

    def _run(self) -> None:
        sources = (
            GLib.timeout_add_seconds(_AGAIN_S, self._look),
            GLib.timeout_add(_TICK_MS, self._resolve_next),
        )
        GLib.idle_add(lambda: not self._look())
        self._loop.run()  # type: ignore[no-untyped-call]  # its stubs have no types
        for source in sources:
            GLib.source_remove(source)
        if self._bus is not None:
            self._bus.close()

    def _look(self) -> bool:
        """Browse, if we do not yet; called every few seconds."""
        if self._browser is None:
            try:
                self._browse()
            except dbus.DBusException as error:
                self._say(f"cannot look for nodes: {error.get_dbus_message()}")
        return GLib.SOURCE_CONTINUE

    def _browse(self) -> None:
        bus = self._connection()
        server = dbus.Interface(bus.get_object(_AVAHI, "/", introspect=False), _SERVER)
        # Signals wait until we are back in the loop, so none is missed.
        self._browser = str(
            server.ServiceBrowserNew(
                dbus.Int32(_ANY),
                dbus.Int32(_IPV4),
                SERVICE,
                "",
                dbus.UInt32(0),
                timeout=_CALL_S,
            )
        )
        self._say("looking for nodes")

    def _connection(self) -> dbus.bus.BusConnection:
        if self._bus is not None and self._bus.get_is_connected():
            return self._bus
        bus = dbus.bus.BusConnection(
            self._bus_address or dbus.bus.BusConnection.TYPE_SYSTEM,
            mainloop=dbus.mainloop.glib.DBusGMainLoop(),
        )
        bus.set_exit_on_disconnect(False)
        bus.call_on_disconnection(self._on_disconnect)
        bus.watch_name_owner(_AVAHI, self._on_owner)
        for signal, handler in (
            ("ItemNew", self._on_new),
            ("ItemRemove", self._on_old),
        ):
            bus.add_signal_receiver(
                handler, signal, _BROWSER, _AVAHI, path_keyword="path"
            )
        self._bus = bus
        return bus

    def _on_owner(self, owner: str) -> None:
        self._forget_all()
        if owner:
            self._look()

    def _on_disconnect(self, _bus: object) -> None:
        self._bus = None
        self._forget_all()

    def _forget_all(self) -> None:
        self._browser = None
        self._resolving = None
        self._due.clear()
        names, self._names = self._names, {}
        for seen in names.values():
            if seen is not None:
                self._on_gone(seen.node_id)

    def _on_new(
        self,
        interface: int,
        protocol: int,
        name: str,
        kind: str,
        domain: str,
        _flags: int,
        path: str,
    ) -> None:
        known = _Name(int(interface), int(protocol), str(name), str(kind), str(domain))
        if path != self._browser or len(self._names) >= _NAMES_MAX:
            return
        self._names.setdefault(known, None)
        self._due[known] = 0.0
        self._due.move_to_end(known, last=False)

    def _on_old(
        self,
        interface: int,
        protocol: int,
        name: str,
        kind: str,
        domain: str,
        _flags: int,
        path: str,
    ) -> None:
        known = _Name(int(interface), int(protocol), str(name), str(kind), str(domain))
        if path != self._browser:
            return
        self._due.pop(known, None)
        seen = self._names.pop(known, None)
        if seen is not None and not self._is_seen(seen.node_id):
            self._on_gone(seen.node_id)

    def _is_seen(self, node_id: NodeId) -> bool:
        """Tell whether a node is announced on another interface as well."""
        return any(
            seen is not None and seen.node_id == node_id
            for seen in self._names.values()
        )

    def _resolve_next(self) -> bool:
        """Ask for the record of the name that is due, one at a time."""
        now = self._clock.monotonic()
        if self._resolving is None and self._bus is not None and self._due:
            name, due_at = next(iter(self._due.items()))
            if due_at <= now:
                del self._due[name]
                self._resolve(name)
        return GLib.SOURCE_CONTINUE

    def _resolve(self, name: _Name) -> None:
        assert self._bus is not None
        self._resolving = name
        server = dbus.Interface(
            self._bus.get_object(_AVAHI, "/", introspect=False), _SERVER
        )

        def end() -> bool:
            """Let the next one come; tell whether this answer still counts."""
            if self._resolving != name:
                return False
            self._resolving = None
            if name not in self._names:
                return False
            # One that left and came back meanwhile is due already.
            self._due.setdefault(name, self._clock.monotonic() + _RESOLVE_AGAIN_S)
            return True

        def found(*answer: Any) -> None:
            if end():
                self._found(name, str(answer[7]), int(answer[8]), answer[9])

        def failed(error: dbus.DBusException) -> None:
            end()
            log.debug("%s has no record: %s", name.name, error.get_dbus_message())

        server.ResolveService(
            dbus.Int32(name.interface),
            dbus.Int32(name.protocol),
            name.name,
            name.kind,
            name.domain,
            dbus.Int32(_IPV4),
            dbus.UInt32(0),
            timeout=_RESOLVE_S,
            byte_arrays=True,
            reply_handler=found,
            error_handler=failed,
        )

    def _found(self, name: _Name, address: str, port: int, texts: Any) -> None:
        seen = sighting(read_texts(texts), address, port)
        self._names[name] = seen
        if seen is not None:
            self._on_seen(seen)

    def _say(self, sentence: str) -> None:
        if sentence != self._sentence:
            log.info("%s", sentence)
        self._sentence = sentence
