"""Test that the lab's members are hosts of their own, and break as hosts do."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections import abc
from pathlib import Path

import pytest

from tests.lab import (
    Lab,
    control,
    errors,
    layout,
    polling,
    processes,
    requirements,
    running,
)
from tests.lab import lab as lab_module
from tests.ports import free_port

pytestmark = pytest.mark.lab

GUEST_BOOT_TIMEOUT_S = 180.0  # 5 s alone, far more beside others on two cores
HOSTS = ("h1", "h2", "h3")
BASE_SERVICES = {"dbus", "avahi", "udev", "virtlogd", "libvirtd", "shared", "sanlock"}
# Six times faster, io_timeout 3 joins in a second.
LOCKSPACE = "LAB:{host_id}:/run/shared/ids:0"

GUEST = """
<domain type='qemu'>
  <name>probe</name><memory unit='MiB'>128</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <features><acpi/></features>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/>
      <source file='/var/lib/skerry/images/lab-guest.qcow2'/>
      <target dev='vda' bus='virtio'/><readonly/>
    </disk>
    <interface type='bridge'>
      <source bridge='ovirtmgmt'/><model type='virtio'/>
    </interface>
    <serial type='pty'><log file='/var/log/libvirt/qemu/probe.serial'/></serial>
    <channel type='unix'>
      <target type='virtio' name='org.qemu.guest_agent.0'/>
    </channel>
  </devices>
</domain>
"""

SILENT_LISTENER = """
import socket
listener = socket.create_server(("", 7777))
connection, _ = listener.accept()
listener.accept()
"""
CLIENT = """
import socket
connection = socket.create_connection(("{address}", 7777), 5)
print("connected", flush=True)
connection.settimeout(2)
try:
    print("heard", connection.recv(1))
except TimeoutError:
    print("silence")
"""
ECHO = """
import socket
listener = socket.create_server(("", 443))
while True:
    connection, _ = listener.accept()
    connection.sendall(connection.recv(99).upper())
    connection.close()
"""


def said(host: running.Member, *argv: str, timeout_s: float = 30.0) -> str:
    """Return what a command that must succeed says in a member."""
    done = host.exec(argv, timeout_s=timeout_s)
    assert done.returncode == 0, f"{argv} in {host.name}: {done.stderr}"
    return done.stdout.strip()


def is_answered(host: running.Member, address: str) -> bool:
    argv = ["ping", "-c", "1", "-W", "1", address]
    return host.exec(argv, timeout_s=5.0).returncode == 0


def test_up_starts_every_base_service(lab: Lab) -> None:
    for host in lab.members(layout.Kind.HOST):
        running_now = {state.name for state in host.services() if state.pid}
        assert running_now >= BASE_SERVICES


def test_up_again_changes_nothing(lab: Lab) -> None:
    settings = layout.Settings(lab.plan.lab_id, lab.plan.directory, None)
    before = lab.member("h1").service_pid("libvirtd")
    again = Lab.up(lab.plan.hosts, lab.plan.aggregators, settings)
    assert again == lab
    assert lab.member("h1").service_pid("libvirtd") == before


def test_up_refuses_another_shape_of_a_lab_that_runs(lab: Lab) -> None:
    settings = layout.Settings(lab.plan.lab_id, lab.plan.directory, None)
    with pytest.raises(errors.Collision, match="it is up with 3 hosts"):
        Lab.up(hosts=2, settings=settings)


@pytest.mark.parametrize("name", [*HOSTS, "a1"])
def test_exec_runs_in_a_host_of_that_name_and_address(lab: Lab, name: str) -> None:
    member = lab.member(name)
    assert said(member, "hostname") == name
    assert member.address in said(member, "ip", "-br", "-4", "address")


@pytest.mark.parametrize(
    "path",
    ["/etc/lab-mark", "/var/lib/lab-mark", "/run/lab-mark", "/dev/shm/lab-mark"],
    ids=["etc", "var", "run", "shm"],
)
def test_a_file_of_one_host_is_not_seen_elsewhere(lab: Lab, path: str) -> None:
    said(lab.member("h1"), "touch", path)
    assert lab.member("h2").exec(["test", "-e", path]).returncode == 1
    assert not Path(path).exists()


@pytest.mark.parametrize("space", ["net", "mnt", "pid", "uts", "ipc", "cgroup"])
def test_each_member_has_its_own_namespace(lab: Lab, space: str) -> None:
    members = lab.members()
    seen = {said(each, "readlink", f"/proc/self/ns/{space}") for each in members}
    assert len(seen) == len(members)
    assert os.readlink(f"/proc/self/ns/{space}") not in seen


def test_a_host_sees_no_process_but_its_own(lab: Lab) -> None:
    said(lab.member("h2"), "true")
    commands = said(lab.member("h1"), "ps", "-eo", "pid=,args=").splitlines()
    libvirtds = [line for line in commands if line.split()[1] == "libvirtd"]
    assert len(libvirtds) == 1
    assert commands[0].split()[0] == "1"


def test_a_host_sees_no_kvm(lab: Lab) -> None:
    assert lab.member("h1").exec(["test", "-e", "/dev/kvm"]).returncode == 1


def test_members_reach_each_other_by_name(lab: Lab) -> None:
    assert is_answered(lab.member("h1"), "a1")
    assert lab.in_switch(["ping", "-c", "1", lab.member("h3").address]).returncode == 0


def test_switch_keeps_its_address_whatever_is_plugged_in(lab: Lab) -> None:
    def address() -> str:
        asking = ["ip", "-json", "link", "show", "switch"]
        return str(json.loads(lab.in_switch(asking).stdout)[0]["address"])

    before = address()
    low = "low address 02:00:00:00:00:01 type veth peer name stray"
    for words in (f"add {low}", "set low master switch up"):
        assert lab.in_switch(["ip", "link", *words.split()]).returncode == 0
    after = address()
    assert lab.in_switch(["ip", "link", "delete", "low"]).returncode == 0
    assert after == before


def test_hosts_discover_each_other(lab: Lab) -> None:
    """Over D-Bus, Avahi and multicast: the name is in no file and no DNS."""
    asking = ["dbus-send", "--system", "--print-reply", "--dest=org.freedesktop.Avahi"]
    call = ["/", "org.freedesktop.Avahi.Server.ResolveHostName"]
    words = ["int32:-1", "int32:-1", "string:h2.local", "int32:0", "uint32:0"]
    said_by_h1 = said(lab.member("h1"), *asking, *call, *words)
    assert f'string "{lab.member("h2").address}"' in said_by_h1


def test_hosts_share_their_storage(lab: Lab) -> None:
    said(lab.member("h1"), "sh", "-c", "echo together >/run/shared/word")
    assert said(lab.member("h2"), "cat", "/run/shared/word") == "together"


def test_exec_returns_output_status_and_takes_input(lab: Lab) -> None:
    done = lab.member("h1").exec(["sh", "-c", "cat; echo no >&2; exit 3"], input="yes")
    assert (done.stdout, done.stderr, done.returncode) == ("yes", "no\n", 3)


def test_exec_ends_the_command_at_its_deadline(lab: Lab) -> None:
    host = lab.member("h1")
    with pytest.raises(errors.TimedOut):
        host.exec(["sh", "-c", "sleep 4321 & sleep 4321"], timeout_s=0.5)
    assert "4321" not in said(host, "ps", "-eo", "args=")


class TestGuest:
    """A real guest under libvirt, emulated."""

    @pytest.fixture
    def guest(self, lab: Lab) -> abc.Iterator[running.Member]:
        host = lab.member("h1")
        started = host.exec(["virsh", "create", "/dev/stdin"], input=GUEST)
        assert started.returncode == 0, started.stderr
        with contextlib.ExitStack() as stack:
            stack.callback(host.exec, ["virsh", "destroy", "probe"])
            assert polling.until(
                lambda: bool(self.address(host)), GUEST_BOOT_TIMEOUT_S
            ), f"the guest got no address: {self.serial(host)}"
            yield host

    def serial(self, host: running.Member) -> str:
        done = host.exec(["cat", "/var/log/libvirt/qemu/probe.serial"])
        return done.stdout.replace("\r", "")

    def address(self, host: running.Member) -> str:
        found = re.findall(r"LABGUEST address (\S+)\n", self.serial(host))
        return found[-1] if found else ""

    def test_guest_answers_on_network_serial_and_agent(
        self, lab: Lab, guest: running.Member
    ) -> None:
        address = self.address(guest)
        assert address.startswith(f"{lab.plan.subnet}.1")
        assert polling.until(
            lambda: "LABGUEST ready" in self.serial(guest), GUEST_BOOT_TIMEOUT_S
        )

        def tick() -> int:
            done = lab.in_switch(["wget", "-qO-", f"http://{address}/tick"])
            return int(done.stdout or 0)

        first = tick()
        assert first > 0
        assert polling.until(lambda: tick() > first, 10.0)
        source = ["virsh", "domifaddr", "probe", "--source", "agent"]
        assert polling.until(
            lambda: address in guest.exec(source).stdout, GUEST_BOOT_TIMEOUT_S
        )

    def test_guest_outlives_libvirtd_and_obeys_the_power_button(
        self, guest: running.Member
    ) -> None:
        qemu = int(said(guest, "cat", "/run/libvirt/qemu/probe.pid"))
        os.kill(guest.service_pid("libvirtd"), signal.SIGKILL)
        listed = ["virsh", "domstate", "probe"]
        assert polling.until(
            lambda: guest.exec(listed).stdout.strip() == "running", 20.0
        )
        assert int(said(guest, "cat", "/run/libvirt/qemu/probe.pid")) == qemu
        said(guest, "virsh", "shutdown", "probe")
        assert polling.until(
            lambda: guest.exec(["test", "-d", f"/proc/{qemu}"]).returncode == 1, 30.0
        )


def test_boot_keeps_the_disk_and_loses_the_memory(lab: Lab) -> None:
    host = lab.member("h2")
    for path in ("/etc/kept", "/var/lib/kept", "/run/lost", "/dev/shm/lost"):
        said(host, "touch", path)
    said(host, "ip", "link", "add", "lost0", "type", "bridge")
    host.kill()
    assert not host.is_alive()
    host.boot()
    said(host, "ls", "/etc/kept", "/var/lib/kept")
    for path in ("/run/lost", "/dev/shm/lost", "/sys/class/net/lost0"):
        assert host.exec(["test", "-e", path]).returncode == 1
    assert is_answered(host, lab.member("h1").address)


def test_kill_is_silent_for_the_peers(lab: Lab) -> None:
    """No FIN and no RST: a connection to a host without power just stays open."""
    host = lab.member("h2")
    host.add_service("listener", ["/usr/bin/python3", "-Ic", SILENT_LISTENER])
    listening = ["ss", "-Hltn", "sport = :7777"]
    assert polling.until(lambda: host.exec(listening).stdout != "", 5.0)
    client = CLIENT.format(address=host.address)
    lab.member("h1").add_service("client", ["/usr/bin/python3", "-Ic", client])
    log = lab.member("h1").log
    assert polling.until(lambda: "connected" in log("client"), 5.0)
    host.kill()
    assert polling.until(lambda: len(log("client").split()) > 1, 5.0)
    assert log("client").split()[1] == "silence"


def test_kill_succeeds_while_the_storage_hangs(lab: Lab) -> None:
    host = lab.member("h3")
    host.hang_storage()
    host.add_service("stuck", ["stat", "/run/shared/ids"])
    host.kill()
    assert not host.is_alive()
    host.boot()
    said(host, "stat", "/run/shared")


def test_exec_names_the_remedy_when_the_member_is_off(lab: Lab) -> None:
    lab.member("h3").kill()
    with pytest.raises(errors.NotRunning, match="boot h3"):
        lab.member("h3").exec(["true"])


def test_cut_isolates_a_host_that_runs_on(lab: Lab) -> None:
    host, peer = lab.member("h1"), lab.member("h2")
    host.cut()
    assert not host.is_plugged()
    assert not is_answered(peer, host.address)
    assert said(host, "virsh", "list", "--name") == ""
    assert "NO-CARRIER" in said(host, "ip", "link", "show", "eth0")
    host.heal()
    assert host.is_plugged()
    assert polling.until(lambda: is_answered(peer, host.address), 10.0)


def test_hang_storage_stops_one_host_only(lab: Lab) -> None:
    host, peer = lab.member("h1"), lab.member("h2")
    said(host, "touch", "/run/shared/probe")
    host.hang_storage()
    with pytest.raises(errors.TimedOut):
        host.exec(["cp", "/run/shared/probe", "/run/shared/copy"], timeout_s=1.0)
    said(peer, "stat", "/run/shared/probe")
    host.resume_storage()
    said(host, "cp", "/run/shared/probe", "/run/shared/copy")


def test_storage_returns_after_its_service_was_killed(lab: Lab) -> None:
    host = lab.member("h1")
    os.kill(host.service_pid("shared"), signal.SIGKILL)
    assert polling.until(
        lambda: host.exec(["stat", "/run/shared"]).returncode == 0, 10.0
    )


@pytest.fixture
def lease(lab: Lab) -> abc.Iterator[str]:
    """Join h1 and h2 to a fresh lockspace on the shared storage; yield a lease."""
    one, lease = lab.member("h1"), "LAB:vm:/run/shared/leases:0"
    spaces = {lab.member(f"h{n}"): LOCKSPACE.format(host_id=n) for n in (1, 2)}
    said(one, "truncate", "-s", "1M", "/run/shared/ids", "/run/shared/leases")
    empty = LOCKSPACE.format(host_id=0)
    said(one, "sanlock", "direct", "init", "-s", empty, "-o", "3")
    said(one, "sanlock", "direct", "init", "-r", lease)
    for host, mine in spaces.items():
        said(host, "sanlock", "client", "add_lockspace", "-s", mine, "-o", "3")
    yield lease
    for host, mine in spaces.items():
        host.exec(["sanlock", "client", "rem_lockspace", "-s", mine])
    one.exec(["rm", "-f", "/run/shared/ids", "/run/shared/leases"])


def test_sanlock_grants_a_lease_to_one_host_at_a_time(lab: Lab, lease: str) -> None:
    one, other = lab.member("h1"), lab.member("h2")
    holding = ["sanlock", "client", "command", "-r", lease, "-c"]
    # The command runs once the lease is held; `status` lists it before.
    held = "touch /run/held; exec sleep 600"
    one.add_service("leaseholder", [*holding, "/bin/sh", "-c", held])
    has_begun = ["test", "-e", "/run/held"]
    assert polling.until(lambda: one.exec(has_begun).returncode == 0, 20.0)
    assert other.exec([*holding, "/bin/true"]).returncode != 0
    one.stop_service("leaseholder")
    assert polling.until(
        lambda: other.exec([*holding, "/bin/true"]).returncode == 0, 20.0, 1.0
    )


def test_killed_service_returns_with_another_pid(lab: Lab) -> None:
    host = lab.member("h1")
    before = host.service_pid("avahi")
    os.kill(before, signal.SIGKILL)

    def is_back() -> bool:
        now = {state.name: state for state in host.services()}["avahi"]
        return now.pid > 0 and now.starts > 1 and now.is_ready

    assert polling.until(is_back, 10.0)
    assert host.service_pid("avahi") != before


def test_killed_service_leaves_no_process_of_its_group(lab: Lab) -> None:
    host = lab.member("h1")
    host.add_service("parent", ["/bin/sh", "-c", "sleep 4711 & wait"])

    def children() -> set[str]:
        return set(host.exec(["pgrep", "-xf", "sleep 4711"]).stdout.split())

    assert polling.until(lambda: len(children()) == 1, 10.0)
    before = children()
    os.kill(host.service_pid("parent"), signal.SIGKILL)
    assert polling.until(lambda: len(children() - before) == 1, 10.0)
    assert not children() & before
    host.stop_service("parent")
    assert polling.until(lambda: not children(), 10.0)


def test_stopped_service_stays_away_until_it_is_started(lab: Lab) -> None:
    host = lab.member("h1")
    host.stop_service("avahi")
    with pytest.raises(errors.NotRunning):
        host.service_pid("avahi")
    host.start_service("avahi")
    assert host.service_pid("avahi") > 0


def test_stop_service_ends_one_that_does_not_listen(lab: Lab) -> None:
    host = lab.member("h1")
    os.kill(host.service_pid("avahi"), signal.SIGSTOP)
    host.stop_service("avahi")
    assert {s.name: s.pid for s in host.services()}["avahi"] == 0


def test_side_service_serves_the_members(lab: Lab) -> None:
    lab.start_side(
        "web", ["/usr/bin/python3", "-Im", "http.server", "8099"], {"LANG": "C"}
    )
    url = f"http://{lab.member('sw').address}:8099/"
    argv = ["wget", "-qO-", "--tries=1", "--timeout=2", url]
    assert polling.until(lambda: lab.member("h1").exec(argv).returncode == 0, 10.0), (
        lab.member("sw").log("web")
    )


def test_forward_leads_to_the_aggregator(lab: Lab) -> None:
    lab.member("a1").stop_service("nginx")
    lab.member("a1").add_service("echo", ["/usr/bin/python3", "-Ic", ECHO])
    port = free_port()
    lab.forward(port)

    def reply() -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=5.0) as connection:
            connection.sendall(b"hello")
            return connection.recv(99)

    assert polling.until(lambda: reply() == b"HELLO", 10.0)


def test_forward_refuses_a_port_that_is_taken(lab: Lab) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(errors.Collision, match=str(port)):
            lab.forward(port)


def test_leftovers_name_a_link_of_the_lab_in_the_machines_network() -> None:
    if lacks := requirements.missing():
        pytest.skip(requirements.describe(lacks))
    stray = layout.Layout("stray", Path("/srv/skerry-stray"), "10.0.0", 1, 0)
    mac = layout.mac_address(stray, layout.places(stray)[1], "eth0")
    program = (
        "import os; from tests.lab import lab, layout;"
        "print(lab.leftovers(layout.read_settings(os.environ)))"
    )
    # A network of its own stands for the machine's.
    script = f'ip link add left address {mac} type bridge; exec "$0" -c "$1"'
    words = ["unshare", "--net", "--", "sh", "-ec", script, sys.executable, program]
    environment = {**os.environ, "SKERRY_LAB_ID": "stray", "SKERRY_LAB_DIR": ""}
    found = subprocess.run(
        words,
        cwd=layout.CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == "['link left']\n"


class TestSecondLab:
    """A small lab beside the session's: born, broken and taken down."""

    @pytest.fixture
    def environment(self, lab: Lab) -> abc.Iterator[dict[str, str]]:
        named = {
            **os.environ,
            "SKERRY_LAB_ID": f"{lab.plan.lab_id}-b",
            "SKERRY_LAB_DIR": f"{lab.plan.directory}-b",
            "SKERRY_LAB_SUBNET": "",
        }
        yield named
        lab_module.take_down(layout.read_settings(named))

    @pytest.fixture
    def settings(self, environment: dict[str, str]) -> layout.Settings:
        return layout.read_settings(environment)

    def start(self, environment: dict[str, str]) -> subprocess.Popen[str]:
        """Run `up` as a user does, so that it can be killed."""
        argv = ["/usr/bin/python3", "-m", "tests.lab", "up", "1", "--aggregators", "0"]
        return subprocess.Popen(
            argv,
            cwd=layout.CHECKOUT,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )

    def test_down_leaves_nothing_behind(
        self, lab: Lab, settings: layout.Settings
    ) -> None:
        second = Lab.up(1, 0, settings)
        assert second.plan.directory != lab.plan.directory
        assert lab_module.leftovers(settings) != []
        said(second.member("h1"), "touch", "/run/shared/mine")
        assert lab.member("h1").exec(["test", "-e", "/run/shared/mine"]).returncode == 1
        second.down()
        assert lab_module.leftovers(settings) == []
        assert lab.member("h1").is_alive()

    def test_down_spares_a_directory_that_is_no_lab(
        self, environment: dict[str, str]
    ) -> None:
        # Not `tmp_path`: below a worker's own it is too long for a lab.
        with tempfile.TemporaryDirectory(prefix="lab-") as name:
            mine = Path(name) / "mine"
            mine.touch()
            foreign = {**environment, "SKERRY_LAB_DIR": name}
            with pytest.raises(errors.Collision, match="which no lab put there"):
                lab_module.take_down(layout.read_settings(foreign))
            assert list(Path(name).iterdir()) == [mine]

    # The lines that `up` says: it is killed right after each.
    @pytest.mark.parametrize("after", ["sw boots", "h1 boots", "sw is up", "h1 is up"])
    def test_down_then_up_succeed_when_up_was_killed(
        self, environment: dict[str, str], settings: layout.Settings, after: str
    ) -> None:
        with self.start(environment) as process:
            assert process.stderr is not None
            next(line for line in process.stderr if after in line)
            process.kill()
        lab_module.take_down(settings)
        assert lab_module.leftovers(settings) == []
        assert Lab.up(1, 0, settings).member("h1").is_alive()

    @pytest.mark.parametrize("after", ["sw boots", "h1 boots", "sw is up"])
    def test_up_completes_what_a_killed_up_began(
        self, environment: dict[str, str], settings: layout.Settings, after: str
    ) -> None:
        with self.start(environment) as process:
            assert process.stderr is not None
            next(line for line in process.stderr if after in line)
            process.kill()
        second = Lab.up(1, 0, settings)
        assert said(second.member("h1"), "virsh", "list", "--name") == ""

    def test_up_waits_for_a_pid_1_that_a_killed_up_began(
        self,
        environment: dict[str, str],
        settings: layout.Settings,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        record = settings.directory / "members/h1/pid.json"
        with self.start(environment) as process:
            assert process.stderr is not None
            next(line for line in process.stderr if "h1 boots" in line)
            assert polling.until(record.exists, 10.0, 0.001)
            first = processes.read_record(record)
            assert first is not None
            processes.send(first, signal.SIGSTOP)  # long before it listens
            process.kill()
        really, deaf = control.states, []

        def states(path: Path) -> list[control.State]:
            try:
                return really(path)
            except errors.NotRunning:
                deaf.append(path)
                processes.send(first, signal.SIGCONT)
                raise

        monkeypatch.setattr(control, "states", states)
        second = Lab.up(1, 0, settings)
        assert deaf != []
        assert processes.is_alive(first)
        assert said(second.member("h1"), "virsh", "list", "--name") == ""

    def test_up_names_the_log_when_pid_1_dies_and_then_succeeds(
        self, environment: dict[str, str], settings: layout.Settings
    ) -> None:
        with self.start(environment) as process:
            assert process.stderr is not None
            next(line for line in process.stderr if "h1 boots" in line)
            record = settings.directory / "members/h1/pid.json"
            assert polling.until(record.exists, 10.0, 0.001)
            first = processes.read_record(record)
            assert first is not None
            processes.send(first, signal.SIGKILL)
            rest = process.stderr.read()
        assert process.returncode == 1
        assert "members/h1/console.log" in rest
        assert "remedy: " in rest
        assert Lab.up(1, 0, settings).member("h1").is_alive()
