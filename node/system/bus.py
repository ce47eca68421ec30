"""Announce a service on the network: the door to Avahi, over D-Bus.

What was asked for stays announced: when Avahi or the bus goes away and returns,
it is announced anew. Where its texts alone change, the name stays: who misses that it
came back would not ask for it for up to an hour. One thread makes all calls and looks
every few seconds; the methods only leave word for it. It runs no main loop: GLib's is
libvirt's, whose events would wait for an Avahi that hangs. Source: avahi-daemon's
D-Bus interface, org.freedesktop.Avahi.Server and .EntryGroup.
"""

import logging
import queue
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import dbus
import dbus.bus
import dbus.mainloop

log = logging.getLogger(__name__)

_AVAHI: Final = "org.freedesktop.Avahi"
_SERVER: Final = "org.freedesktop.Avahi.Server"
_GROUP: Final = "org.freedesktop.Avahi.EntryGroup"
_NO_REPLY: Final = "org.freedesktop.DBus.Error.NoReply"
_RUNNING: Final = 2  # AVAHI_SERVER_RUNNING: its own name is settled
_ESTABLISHED: Final = 2  # AVAHI_ENTRY_GROUP_ESTABLISHED
_COLLISION: Final = 3  # AVAHI_ENTRY_GROUP_COLLISION
_ANY: Final = -1  # all interfaces, both protocols
# Avahi answers in milliseconds; this long, and it hangs.
_CALL_S: Final = 5.0
_AGAIN_S: Final = 5.0
_STOP_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Service:
    name: str  # unique on the network, up to 63 bytes
    kind: str  # such as _http._tcp
    port: int
    texts: Mapping[str, str]  # each pair up to 255 bytes


class Announcer(Protocol):
    def announce(self, service: Service) -> None:
        """Announce this from now on, instead of what was announced before."""

    def close(self) -> None:
        """Take back what was announced, and end."""


class AvahiAnnouncer:
    """Announce through the avahi-daemon of this machine."""

    def __init__(self, bus_address: str | None = None) -> None:
        """None: the system bus, wherever it is."""
        self._bus_address = bus_address
        # What to announce from now on; None: nothing, and end.
        self._words: queue.SimpleQueue[Service | None] = queue.SimpleQueue()
        self._wanted: Service | None = None
        self._bus: dbus.bus.BusConnection | None = None
        self._group: str | None = None  # path of our entry group in Avahi
        self._owner = ""  # which avahi-daemon made the group
        self._is_disputed = False  # another machine has our name
        self._sentence = ""
        self._thread = threading.Thread(target=self._run, name="avahi", daemon=True)
        self._thread.start()

    def announce(self, service: Service) -> None:
        self._words.put(service)

    def close(self) -> None:
        self._words.put(None)
        self._thread.join(_STOP_S)

    def _run(self) -> None:
        while True:
            try:
                word = self._words.get(timeout=_AGAIN_S)
            except queue.Empty:
                self._look()
                continue
            if word is None:
                break
            if word != self._wanted:
                before, self._wanted = self._wanted, word
                if not self._update(before, word):
                    self._apply(word)
        self._withdraw()
        if self._bus is not None:
            self._bus.close()

    def _look(self) -> None:
        """Make good what went wrong meanwhile; called every few seconds."""
        if self._wanted is not None and not self._is_announced():
            self._apply(self._wanted)

    def _is_announced(self) -> bool:
        """Ask whether what we announced is known still; told if it is another's."""
        bus = self._bus
        if bus is None or self._group is None:
            return False
        try:
            # A restarted Avahi knows nothing of us.
            if str(bus.get_name_owner(_AVAHI)) != self._owner:
                self._group = None
                return False
            state = _interface(bus, self._group, _GROUP).GetState(timeout=_CALL_S)
        except dbus.DBusException as error:
            log.debug("Avahi does not answer: %s", error.get_dbus_message())
            return bus.get_is_connected() and _is_late(error)
        if state == _COLLISION:
            # It may leave; and Avahi asks once only.
            self._is_disputed = True
            self._say("another machine announces our name")
        elif state == _ESTABLISHED and self._wanted is not None:
            self._is_disputed = False
            self._say(f"announced as {self._wanted.name}")
        return bool(state != _COLLISION)

    def _update(self, before: Service | None, wanted: Service) -> bool:
        """Change the texts of what is announced; tell whether that was all."""
        if before is None or replace(before, texts=wanted.texts) != wanted:
            return False
        if not self._is_announced():
            return False
        assert self._bus is not None, "it was asked"
        assert self._group is not None, "it was asked"
        try:
            _update_texts(_interface(self._bus, self._group, _GROUP), wanted)
        except dbus.DBusException as error:
            log.debug("the texts do not change: %s", error.get_dbus_message())
            return False
        return True

    def _apply(self, wanted: Service) -> None:
        """Announce what is wanted; whatever fails is tried again by `_look`."""
        try:
            bus = self._connection()
            self._withdraw()
            server = _interface(bus, "/", _SERVER)
            if server.GetState(timeout=_CALL_S) != _RUNNING:
                self._say("Avahi is not ready yet")
                return
            self._owner = str(bus.get_name_owner(_AVAHI))
            self._group = str(server.EntryGroupNew(timeout=_CALL_S))
            _publish(_interface(bus, self._group, _GROUP), wanted)
            if not self._is_disputed:
                self._say(f"announced as {wanted.name}")
        except dbus.DBusException as error:
            self._say(f"cannot announce this node: {error.get_dbus_message()}")
            self._withdraw()  # a group that holds nothing counts all the same

    def _connection(self) -> dbus.bus.BusConnection:
        if self._bus is not None and self._bus.get_is_connected():
            return self._bus
        self._bus, self._group = None, None
        bus = dbus.bus.BusConnection(
            self._bus_address or dbus.bus.BusConnection.TYPE_SYSTEM,
            mainloop=dbus.mainloop.NULL_MAIN_LOOP,
        )
        bus.set_exit_on_disconnect(False)
        self._bus = bus
        return bus

    def _withdraw(self) -> None:
        group, self._group = self._group, None
        if group is None or self._bus is None or not self._bus.get_is_connected():
            return
        try:
            _interface(self._bus, group, _GROUP).Free(timeout=_CALL_S)
        except dbus.DBusException as error:
            log.debug("the entry group is gone: %s", error.get_dbus_message())

    def _say(self, sentence: str) -> None:
        if sentence != self._sentence:
            log.info("%s", sentence)
        self._sentence = sentence


def _is_late(error: dbus.DBusException) -> bool:
    """Tell whether Avahi only took too long: what we announced may stand still."""
    name: str = error.get_dbus_name()
    return name == _NO_REPLY


def _interface(bus: dbus.bus.BusConnection, path: str, name: str) -> Any:
    # Names are not followed: a restarted Avahi is seen by `_is_announced`.
    return dbus.Interface(bus.get_object(_AVAHI, path, introspect=False), name)


def _publish(group: Any, service: Service) -> None:
    group.AddService(
        dbus.Int32(_ANY),
        dbus.Int32(_ANY),
        dbus.UInt32(0),
        service.name,
        service.kind,
        "",
        "",
        dbus.UInt16(service.port),
        _texts(service),
        timeout=_CALL_S,
    )
    group.Commit(timeout=_CALL_S)


def _update_texts(group: Any, service: Service) -> None:
    group.UpdateServiceTxt(
        dbus.Int32(_ANY),
        dbus.Int32(_ANY),
        dbus.UInt32(0),
        service.name,
        service.kind,
        "",
        _texts(service),
        timeout=_CALL_S,
    )


def _texts(service: Service) -> dbus.Array:
    return dbus.Array(
        [
            dbus.ByteArray(f"{key}={value}".encode())
            for key, value in service.texts.items()
        ],
        signature="ay",
    )
