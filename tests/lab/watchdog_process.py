"""Guard every host of a lab and cut its power when its watchdog would.

The process behind tests.lab.watchdog: `python -m tests.lab.watchdog_process DIRECTORY`.
"""

import fcntl
import itertools
import json
import logging
import os
import selectors
import signal
import socket
import struct
import sys
import time
from collections import abc
from dataclasses import asdict
from pathlib import Path

from tests.lab import layout, members, processes, watchdog, wdmd

log = logging.getLogger(__name__)

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1  # netdevice(7)
_IFREQ = struct.Struct("16sh22x")
_PEER = struct.Struct("3i")  # pid, uid, gid: unix(7)


def now_s() -> float:
    """Return now in sanlock's seconds."""
    return time.monotonic() * members.SANLOCK_SPEED


class Guard:
    """The watchdog of one host: a listener, its clients, and the host's power."""

    def __init__(
        self,
        lab: layout.Layout,
        place: layout.Place,
        selector: selectors.BaseSelector,
    ) -> None:
        self.lab = lab
        self.place = place
        self.selector = selector
        self.first: processes.Identity | None = None  # the host's PID 1
        self.daemon: wdmd.Wdmd | None = None  # None: nobody has asked since its boot
        self.is_failing = False
        self.keys = itertools.count()
        self.switch = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        path = lab.watchdog_socket(place.name)
        path.unlink(missing_ok=True)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(os.fspath(path))
        self.listener.listen()
        selector.register(self.listener, selectors.EVENT_READ, self.accept)

    def accept(self) -> None:
        """Welcome a client: it is a sanlock of the host that is on now."""
        connection, _ = self.listener.accept()
        peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        pid = _PEER.unpack(peer)[0]
        self.look()
        if self.daemon is None:
            self.first = self.power()
            self.daemon = wdmd.Wdmd(last_ping_s=now_s(), next_test_s=now_s())
        key = next(self.keys)
        self.daemon.clients[key] = wdmd.Client(wdmd.Clock(clock_of(pid)))

        def serve() -> None:
            self.serve(connection, key)

        self.selector.register(connection, selectors.EVENT_READ, serve)

    def serve(self, connection: socket.socket, key: int) -> None:
        """Read one message and answer it; a client that went is closed."""
        try:
            message = connection.recv(wdmd.HEADER.size, socket.MSG_WAITALL)
        except ConnectionError:
            message = b""
        if self.daemon is None or key not in self.daemon.clients:
            message = b""  # it is of a boot before this one
        if len(message) == wdmd.HEADER.size and self.daemon is not None:
            reply = self.daemon.answer(key, message, now_s())
            if reply:
                connection.sendall(reply)
            return
        self.selector.unregister(connection)
        connection.close()
        if self.daemon is not None and key in self.daemon.clients:
            self.daemon.close(key)

    def look(self) -> None:
        """Forget a host that lost its power: its watchdog did too."""
        if self.first is not None and not processes.is_alive(self.first):
            log.info("%s is off: its watchdog is too", self.place.name)
            self.first = self.daemon = None
            self.is_failing = False

    def turn(self) -> float | None:
        """Test and fire as it is time; return when to be called again."""
        if self.daemon is None:
            return None
        if now_s() >= self.daemon.fires_at_s:
            self.look()
            if self.daemon is not None:
                self.fire(self.daemon)
            return None
        is_tested = now_s() >= self.daemon.next_test_s
        is_failing = self.daemon.test(now_s())
        if is_tested and is_failing != self.is_failing:
            self.is_failing = is_failing
            log.info("%s %s", self.place.name, "fails" if is_failing else "is well")
        return min(self.daemon.next_test_s, self.daemon.fires_at_s)

    def fire(self, daemon: wdmd.Wdmd) -> None:
        """Cut the host's power: the cables first, so that its peers hear nothing."""
        for port in self.place.ports:
            self.unplug(layout.port_name(self.place, port))
        if self.first is not None:
            processes.send(self.first, signal.SIGKILL)
        fired_ns, fired_s = time.monotonic_ns(), now_s()
        culprit = daemon.culprit(fired_s)
        renewed_s = culprit.renewal_s - culprit.clock.offset_s
        firing = watchdog.Firing(
            host=self.place.name,
            client=culprit.name,
            fired_ns=fired_ns,
            after_renewal_s=round(fired_s - renewed_s, 2),
            after_expiry_s=round(-culprit.left_s(fired_s), 2),
            late_s=round(fired_s - daemon.fires_at_s, 2),
        )
        with (self.lab.watchdog / watchdog.FIRINGS).open("a") as file:
            print(json.dumps(asdict(firing)), file=file)
        log.info("power cut: %s", firing)
        self.first = self.daemon = None
        self.is_failing = False

    def power(self) -> processes.Identity | None:
        """Return the host's PID 1."""
        directory = self.lab.member_directory(self.place.name)
        return processes.read_record(directory / "pid.json")

    def unplug(self, port: str) -> None:
        """Take a port of the switch down, in microseconds."""
        asked = _IFREQ.pack(port.encode(), 0)
        _, flags = _IFREQ.unpack(fcntl.ioctl(self.switch, _SIOCGIFFLAGS, asked))
        down = _IFREQ.pack(port.encode(), flags & ~_IFF_UP)
        fcntl.ioctl(self.switch, _SIOCSIFFLAGS, down)


def clock_of(pid: int) -> float:
    """Return what a process' own clock shows beyond `now_s`, by when it began.

    libfaketime lets it begin with the time of day, and run SANLOCK_SPEED times as fast.
    """
    identity = processes.identify(pid)
    if identity is None:
        return 0.0
    began = identity.start_time / os.sysconf("SC_CLK_TCK")
    day = time.time() - time.monotonic()
    return began + day - began * members.SANLOCK_SPEED


def main(directory: Path) -> None:
    """Guard every host of a lab until killed."""
    lab = layout.parse((directory / "lab.json").read_text())
    selector = selectors.DefaultSelector()
    hosts = [each for each in layout.places(lab) if each.kind is layout.Kind.HOST]
    guards = [Guard(lab, place, selector) for place in hosts]
    identity = processes.identify(os.getpid())
    assert identity is not None
    fresh = lab.watchdog / f"{watchdog.RECORD}.new"
    fresh.write_text(processes.dump(identity))
    fresh.replace(lab.watchdog / watchdog.RECORD)
    log.info("guarding %d hosts", len(guards))
    while True:
        due = [at for guard in guards if (at := guard.turn()) is not None]
        for key, _ in selector.select(_patience_s(due)):
            key.data()


def _patience_s(due: abc.Sequence[float]) -> float | None:
    if not due:
        return None
    return max(0.0, min(due) - now_s()) / members.SANLOCK_SPEED


if __name__ == "__main__":
    logging.basicConfig(
        format="%(asctime)s %(message)s", level=logging.INFO, stream=sys.stderr
    )
    main(Path(sys.argv[1]))
