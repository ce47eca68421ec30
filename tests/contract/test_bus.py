"""A node announces itself and an aggregator on another host finds it.

Real Avahi: two network namespaces with a cable between, in each an avahi-daemon
with a bus of its own. The doors are reached by the buses' sockets.
"""

import contextlib
import logging
import os
import queue
import shutil
import signal
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from aggregator import discovery as browsing
from aggregator.fleet.candidates import Sighting
from node import discovery as announcing
from node.clock import SystemClock
from node.model.fleet import AdmissionRequest
from node.model.ids import Fingerprint, NodeId, VmId
from node.system import bus
from node.system.hypervisor import DomainEvent
from node.system.libvirt_hypervisor import LibvirtHypervisor

pytestmark = pytest.mark.real
DEADLINE_S = 30.0
_CHANGES = 8  # more than a node knows in its life
NODE_ID = NodeId("11111111-2222-4333-8444-000000000001")
REQUEST = AdmissionRequest(NODE_ID, "n1", "0.1.0", Fingerprint("f" * 64), "csr")

EVENT_S = 10.0  # an event comes in milliseconds; a call that hangs lasts longer
TEST_XML = """<domain type='test'>
  <name>skerry-test</name><uuid>{vm_id}</uuid><memory unit='MiB'>16</memory>
  <os><type>hvm</type></os>
</domain>"""

BUS = """\
<busconfig>
  <type>custom</type>
  <listen>unix:path={path}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
    <allow own="*"/>
  </policy>
</busconfig>
"""

AVAHI = """\
[server]
host-name={name}
use-ipv4=yes
use-ipv6=no
allow-interfaces=eth0
ratelimit-interval-usec=1000000
ratelimit-burst=1000
[wide-area]
enable-wide-area=no
[publish]
publish-workstation=no
[rlimits]
"""


@dataclass(slots=True)
class Host:
    """One end of the cable."""

    name: str
    folder: Path
    address: str
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    avahi: subprocess.Popen[bytes] | None = None

    @property
    def bus_address(self) -> str:
        return f"unix:path={self.folder / 'bus.sock'}"

    def start_bus(self) -> None:
        path = self.folder / "bus.sock"
        path.unlink(missing_ok=True)
        configuration = self.folder / "bus.conf"
        configuration.write_text(BUS.format(path=path))
        argv = ("dbus-daemon", f"--config-file={configuration}", "--nofork")
        self._start(*argv, "--nopidfile")
        wait_until(path.exists)

    def start_avahi(self) -> None:
        configuration = self.folder / "avahi.conf"
        configuration.write_text(AVAHI.format(name=self.name))
        script = (
            "mount -t tmpfs none /run && mkdir /run/avahi-daemon && "
            'exec avahi-daemon -f "$0" --no-drop-root --no-rlimits --no-chroot '
            "--no-proc-title"
        )
        self.avahi = self._start(
            "ip", "netns", "exec", self.name, "sh", "-c", script, str(configuration)
        )

    def stop_avahi(self) -> None:
        assert self.avahi is not None
        self.avahi.send_signal(signal.SIGTERM)
        self.avahi.wait(DEADLINE_S)

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()

    def _start(self, *argv: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": self.bus_address}
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(argv, env=environment, stdout=log, stderr=log)
        self.processes.append(process)
        return process


@dataclass(slots=True)
class Seen:
    """What the browser said last."""

    nodes: dict[NodeId, Sighting] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    times: int = 0

    def see(self, sighting: Sighting) -> None:
        with self.lock:
            self.nodes[sighting.node_id] = sighting
            self.times += 1

    def lose(self, node_id: NodeId) -> None:
        with self.lock:
            self.nodes.pop(node_id, None)

    def has(self, node_id: NodeId) -> bool:
        with self.lock:
            return node_id in self.nodes


@dataclass(frozen=True, slots=True)
class Network:
    near: Host
    far: Host


@contextlib.contextmanager
def browser(host: Host) -> Iterator[Seen]:
    seen = Seen()
    browsing_door = browsing.Browser(
        seen.see, seen.lose, SystemClock(), host.bus_address
    )
    browsing_door.start()
    yield seen
    browsing_door.stop()


@contextlib.contextmanager
def announcer(host: Host) -> Iterator[announcing.Discovery]:
    door = announcing.Discovery(bus.AvahiAnnouncer(host.bus_address))
    yield door
    door.close()


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    programs = ("ip", "dbus-daemon", "avahi-daemon")
    if os.geteuid() != 0 or not all(map(shutil.which, programs)):
        pytest.skip("needs root, iproute2, dbus-daemon and avahi-daemon")
    hosts = []
    for number in (1, 2):
        name = f"skt{os.getpid()}-{number}"
        folder = tmp_path / name
        folder.mkdir()
        hosts.append(Host(name, folder, f"192.168.77.{number}/24"))
    one, two = hosts
    try:
        for host in hosts:
            command("ip", "netns", "add", host.name)
        ends = ("eth0", "netns", one.name, "type", "veth")
        command("ip", "link", "add", *ends, "peer", "eth0", "netns", two.name)
        for host in hosts:
            inside = ("ip", "-n", host.name)
            command(*inside, "address", "add", host.address, "dev", "eth0")
            command(*inside, "link", "set", "lo", "up")
            command(*inside, "link", "set", "eth0", "up")
        for host in hosts:
            host.start_bus()
            host.start_avahi()
        yield Network(one, two)
    finally:
        for host in hosts:
            host.end()
            subprocess.run(("ip", "netns", "delete", host.name), check=False)


def command(*argv: str) -> None:
    subprocess.run(argv, check=True, timeout=DEADLINE_S)


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_browser_finds_a_node_with_all_it_says(network: Network) -> None:
    with browser(network.far) as seen, announcer(network.near) as node:
        node.announce(REQUEST)
        wait_until(lambda: seen.has(NODE_ID))
        assert seen.nodes[NODE_ID] == Sighting(
            NODE_ID,
            "n1",
            "192.168.77.1",
            7441,
            "0.1.0",
            REQUEST.fingerprint,
            is_waiting=True,
        )
        node.close()
        wait_until(lambda: not seen.has(NODE_ID))


def test_announcer_comes_back_with_avahi_and_with_the_bus(network: Network) -> None:
    near = network.near
    with browser(network.far) as seen, announcer(near) as node:
        node.announce(REQUEST)
        wait_until(lambda: seen.has(NODE_ID))
        near.stop_avahi()
        wait_until(lambda: not seen.has(NODE_ID))
        near.start_avahi()
        wait_until(lambda: seen.has(NODE_ID))
        near.stop_avahi()
        near.processes[0].kill()
        wait_until(lambda: not seen.has(NODE_ID))
        near.start_bus()
        near.start_avahi()
        wait_until(lambda: seen.has(NODE_ID))


def test_browser_comes_back_with_avahi(network: Network) -> None:
    far = network.far
    with browser(far) as seen, announcer(network.near) as node:
        node.announce(REQUEST)
        wait_until(lambda: seen.has(NODE_ID))
        far.stop_avahi()
        wait_until(lambda: not seen.has(NODE_ID))
        far.start_avahi()
        wait_until(lambda: seen.has(NODE_ID))


def test_browser_learns_that_a_record_changed(
    network: Network,
) -> None:
    """Whether Avahi shows the change at once or only when asked again."""
    door = bus.AvahiAnnouncer(network.near.bus_address)
    with browser(network.far) as seen, contextlib.closing(door):
        node = announcing.Discovery(door)
        node.announce(REQUEST)
        wait_until(lambda: seen.has(NODE_ID))
        entry = door._group
        node.announce(replace(REQUEST, name="n1-renamed"))
        deadline = time.monotonic() + DEADLINE_S + browsing._RESOLVE_AGAIN_S

        def is_renamed() -> bool:
            with seen.lock:
                node_seen = seen.nodes.get(NODE_ID)
            return node_seen is not None and node_seen.name == "n1-renamed"

        while not is_renamed():
            assert time.monotonic() < deadline, "the change was never seen"
            time.sleep(0.05)
        assert door._group == entry, "a name that leaves may be missed when it returns"


def test_announcer_asks_again_for_a_name_that_another_machine_has(
    network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, bus.__name__)
    with announcer(network.far) as other, browser(network.near) as seen:
        other.announce(replace(REQUEST, name="n2"))
        wait_until(lambda: seen.has(NODE_ID))
        with announcer(network.near) as node:
            node.announce(REQUEST)
            wait_until(lambda: "another machine" in caplog.text)
            other.close()
            wait_until(lambda: seen.has(NODE_ID) and seen.nodes[NODE_ID].name == "n1")


def test_announcer_never_collides_with_itself_when_its_state_changes(
    network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, bus.__name__)
    with browser(network.far) as seen, announcer(network.near) as node:
        node.announce(REQUEST)
        wait_until(lambda: "announced as" in caplog.text)
        caplog.clear()
        for number in range(_CHANGES):
            node.announce(replace(REQUEST, is_waiting=bool(number % 2)))
        node.announce(replace(REQUEST, name="n1-last", is_waiting=False))
        deadline = time.monotonic() + DEADLINE_S + browsing._RESOLVE_AGAIN_S

        def is_last() -> bool:
            with seen.lock:
                node_seen = seen.nodes.get(NODE_ID)
            return node_seen is not None and node_seen.name == "n1-last"

        while not is_last():
            assert time.monotonic() < deadline, "the last state was never seen"
            time.sleep(0.05)
        assert not seen.nodes[NODE_ID].is_waiting
    assert caplog.text == "", "what is announced as before is not told again"


def test_bus_that_hangs_delays_no_event_of_libvirt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The peer takes the connection, and says nothing."""
    monkeypatch.setattr(bus, "_CALL_S", 2 * EVENT_S)
    events: queue.Queue[DomainEvent] = queue.Queue()
    is_up = threading.Event()
    hypervisor = LibvirtHypervisor("test:///default")
    hypervisor.open(events.put, lambda is_connected: is_up.set())
    path = tmp_path / "bus.sock"
    with socket.socket(socket.AF_UNIX) as peer:
        peer.bind(str(path))
        peer.listen()
        peer.settimeout(DEADLINE_S)
        assert is_up.wait(DEADLINE_S)
        node = announcing.Discovery(bus.AvahiAnnouncer(f"unix:path={path}"))
        node.announce(REQUEST)
        with peer.accept()[0]:
            vm_id = VmId(str(uuid.uuid4()))
            hypervisor.create(TEST_XML.format(vm_id=vm_id))
            try:
                assert events.get(timeout=EVENT_S).vm_id == vm_id
            finally:
                hypervisor.destroy(vm_id)
                hypervisor.close()
        node.close()


def test_announcer_looks_once_in_an_interval_when_idle(network: Network) -> None:
    looks: list[float] = []

    class Counted(bus.AvahiAnnouncer):
        def _look(self) -> None:
            looks.append(time.monotonic())
            super()._look()

    door = Counted(network.near.bus_address)
    try:
        announcing.Discovery(door).announce(REQUEST)
        wait_until(lambda: len(looks) > 2)
    finally:
        door.close()
    # One when it starts, then one in each interval.
    assert looks[2] - looks[1] > bus._AGAIN_S / 2
