"""Be PID 1 of a lab member: mount its own world, then supervise its services.

Runs alone (`python3 -I init.py SPEC LIFELINE`, standard library only), since it is
the first process of new mount, PID, UTS, IPC, network and cgroup namespaces. SPEC
is the JSON file that `tests.lab.members.specification` makes. LIFELINE is a file
descriptor: "ready" is written there, and its end tells the starter of our death.

Power loss is SIGKILL of this process: the kernel then ends all others at once, and
what is left is what was on the disk. Services end in any order and are started again;
QEMU, a daemon that libvirtd leaves behind, only becomes our child, to be reaped.
Source: namespaces(7), pid_namespaces(7), mount(2).
"""

import contextlib
import ctypes
import fcntl
import json
import os
import selectors
import shutil
import signal
import socket
import stat
import sys
import time
import uuid
from pathlib import Path
from typing import Any

MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_MOVE = 2, 4, 8, 4096, 8192
MNT_DETACH = 2

DELAY_FIRST_S = 0.2  # before a service that ended is started again, doubled each time
DELAY_LAST_S = 2.0
STEADY_S = 5.0  # a service that ran as long as this begins at the first delay again
READY_POLL_S = 0.02
NEEDS_POLL_S = 0.2
CLIENT_TIMEOUT_S = 10.0  # a client that says nothing may not hold PID 1 up
REQUEST_BYTES_MAX = 65536
FILES_PASSED_MAX = 4
LOG_BYTES_MAX = 16 << 20  # of one service, before a restart begins a new log
FIRST_PASSED = 3  # descriptor that a service finds its passed sockets at
SPARE_DESCRIPTOR = 64  # where we keep them, out of the way of the services' own

# Character devices are kept from the machine's /dev; kvm is not among them, because
# a /dev/kvm that cannot run a kernel makes libvirt probe QEMU again on every call.
DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "fuse", "net/tun")
LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "fd/0",
    "stdout": "fd/1",
    "stderr": "fd/2",
    "ptmx": "pts/ptmx",
}

libc = ctypes.CDLL(None, use_errno=True)


class Service:
    """One program of the table and the process it is now."""

    def __init__(self, entry: dict[str, Any], passed: list[int]) -> None:
        self.name: str = entry["name"]
        self.argv: list[str] = entry["argv"]
        self.environment: dict[str, str] = entry["environment"]
        self.needs: str = entry["needs"]
        self.ready_path: str = entry["ready_path"]
        self.ready_mount: str = entry["ready_mount"]
        self.passed = passed
        self.is_wanted = True
        self.pid = 0
        self.starts = 0
        self.started_at = 0.0
        self.due_at = 0.0
        self.delay_s = DELAY_FIRST_S
        self.last_status: int | None = None


def main(spec_path: str, lifeline: int) -> None:
    """Set the member up and never return."""
    os.set_inheritable(lifeline, False)
    spec = json.loads(Path(spec_path).read_text())
    record_identity(Path(spec["record"]))
    socket.sethostname(spec["name"])
    mount_world(spec)
    configure(spec)
    Supervisor(spec, lifeline).run()


def record_identity(record: Path) -> None:
    """Write who we are to the machine: until /proc is ours, it shows its view."""
    pid = int(os.readlink("/proc/self"))
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    identity = {"pid": pid, "start_time": int(fields[19]), "boot_id": boot_id}
    write_whole(record, json.dumps(identity))


def mount_world(spec: dict[str, Any]) -> None:
    """Mount this member's own /proc, /sys, cgroups, /etc, /var, /run and /dev."""
    groups = Path("/proc/self/cgroup").read_text().splitlines()
    detach("/sys")
    mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount_cgroups(groups)
    disk = spec["directory"]
    for name in ("etc", "var"):
        layers = f"lowerdir=/{name},upperdir={disk}/{name}.u,workdir={disk}/{name}.w"
        mount("overlay", f"/{name}", "overlay", 0, layers)
    # The old /run also held other members' network namespaces alive.
    detach("/run")
    mount("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    for path, mode in spec["directories"].items():
        Path(path).mkdir(parents=True, exist_ok=True)
        os.chmod(path, mode)
    for path, target in spec["links"].items():
        Path(path).symlink_to(target)
    mount_devices()
    for path, value in spec["kernel"].items():
        Path(path).write_text(value)
    boot_id = Path("/run/boot-id")  # the machine's own never changes
    boot_id.write_text(f"{uuid.uuid4()}\n")
    mount(str(boot_id), "/proc/sys/kernel/random/boot_id", "", MS_BIND)


def mount_cgroups(groups: list[str]) -> None:
    """Mount every hierarchy; the cgroup namespace makes our group its root."""
    root = Path("/sys/fs/cgroup")
    hierarchies = [line.split(":", 2)[1] for line in groups]
    if hierarchies == [""]:
        mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0)
        for controller in (root / "cgroup.controllers").read_text().split():
            try:
                (root / "cgroup.subtree_control").write_text(f"+{controller}")
            except OSError as problem:
                print(f"init: no controller {controller}: {problem}", flush=True)
        return
    mount("tmpfs", "/sys/fs/cgroup", "tmpfs", 0, "mode=755")
    for hierarchy in hierarchies:
        name = hierarchy.removeprefix("name=") or "unified"
        (root / name).mkdir()
        if not hierarchy:
            mount("cgroup2", str(root / name), "cgroup2", 0)
            continue
        is_named = hierarchy.startswith("name=")
        options = f"none,{hierarchy}" if is_named else hierarchy
        mount("cgroup", str(root / name), "cgroup", 0, options)
        for controller in name.split(",") if "," in name else ():
            (root / controller).symlink_to(name)


def mount_devices() -> None:
    """Mount a /dev of our own with only the devices that a member may see."""
    new = Path("/run/dev")
    new.mkdir()
    mount("tmpfs", str(new), "tmpfs", MS_NOSUID, "mode=755")
    for name in ("net", "mapper", "pts", "shm"):
        (new / name).mkdir()
    loops = [path.name for path in Path("/dev").glob("loop*")]
    for name in (*DEVICES, *loops):
        old = Path("/dev") / name
        if old.exists():
            facts = old.stat()
            os.mknod(new / name, facts.st_mode, facts.st_rdev)
            os.chmod(new / name, stat.S_IMODE(facts.st_mode))
            os.chown(new / name, facts.st_uid, facts.st_gid)
    for name, target in LINKS.items():
        (new / name).symlink_to(target)
    mount(
        "devpts",
        str(new / "pts"),
        "devpts",
        MS_NOSUID | MS_NOEXEC,
        "newinstance,ptmxmode=0666,mode=0620,gid=5",
    )
    mount("tmpfs", str(new / "shm"), "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    # Left below the new one, the old mounts would confuse libvirt's own namespaces.
    detach("/dev")
    mount(str(new), "/dev", "", MS_MOVE)
    new.rmdir()


def configure(spec: dict[str, Any]) -> None:
    """Write the member's files at its first boot; later boots keep its changes.

    An interrupted first boot is done again from the beginning.
    """
    born = Path(spec["directory"]) / "born"
    if born.exists():
        return
    for pattern in spec["absent"]:
        for path in Path("/").glob(pattern.lstrip("/")):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    for path, text in spec["files"].items():
        write_whole(Path(path), text)
    born.touch()


class Supervisor:
    """Keep the services running and answer the lab on a unix socket."""

    def __init__(self, spec: dict[str, Any], lifeline: int) -> None:
        self.services = {
            entry["name"]: Service(entry, []) for entry in spec["services"]
        }
        self.environment: dict[str, str] = spec["environment"]
        self.logs = Path(spec["log_directory"])
        self.lifeline = lifeline
        self.is_announced = False
        self.selector = selectors.DefaultSelector()
        self.wake = self._listen_to_children()
        self.server = self._listen_to_lab(spec["control"])

    def run(self) -> None:
        """Turn for ever: reap, start what is due, answer."""
        while True:
            self.reap()
            self.start_due()
            self.announce()
            for key, _ in self.selector.select(self.patience_s()):
                if key.fd == self.wake:
                    os.read(self.wake, 4096)
                else:
                    self.answer()

    def reap(self) -> None:
        """Collect every process that ended: services, and orphans of the member."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for service in self.services.values():
                if service.pid == pid:
                    end_group(pid)
                    self.note_end(service, status)

    def note_end(self, service: Service, status: int) -> None:
        """Decide when a service that ended is started again."""
        now = time.monotonic()
        if now - service.started_at > STEADY_S:
            service.delay_s = DELAY_FIRST_S
        service.pid = 0
        service.last_status = os.waitstatus_to_exitcode(status)
        service.due_at = now + service.delay_s
        service.delay_s = min(2 * service.delay_s, DELAY_LAST_S)

    def start_due(self) -> None:
        """Start each service that should run, may run now, and does not."""
        now = time.monotonic()
        for service in self.services.values():
            is_due = service.is_wanted and not service.pid and now >= service.due_at
            if is_due and not is_waiting(service):
                self.start(service)

    def start(self, service: Service) -> None:
        """Start one service with its log; a program that is not there is a failure."""
        self.logs.mkdir(parents=True, exist_ok=True)
        log = self.logs / f"{service.name}.log"
        if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
            log.replace(log.with_suffix(".log.1"))
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), append, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        for offset, descriptor in enumerate(service.passed):
            actions.append((os.POSIX_SPAWN_DUP2, descriptor, FIRST_PASSED + offset))
        service.starts += 1
        service.started_at = time.monotonic()
        try:
            service.pid = os.posix_spawnp(
                service.argv[0],
                service.argv,
                {**self.environment, **service.environment},
                file_actions=actions,
                setsid=True,
                setsigmask=(),
                setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),
            )
        except OSError as problem:
            with log.open("a") as file:
                print(f"init: cannot start {service.argv[0]}: {problem}", file=file)
            self.note_end(service, 127 << 8)

    def announce(self) -> None:
        """Tell the starter once that every service it must wait for is there."""
        if self.is_announced:
            return
        mounts = mount_points()
        if not all(is_ready(service, mounts) for service in self.services.values()):
            return
        self.is_announced = True
        try:
            os.write(self.lifeline, b"ready\n")
        except BrokenPipeError:
            print("init: the starter did not wait for us", flush=True)

    def patience_s(self) -> float | None:
        """Return how long nothing can happen by itself; None: for ever."""
        if not self.is_announced:
            return READY_POLL_S
        now = time.monotonic()
        waits = [
            NEEDS_POLL_S if is_waiting(service) else max(0.0, service.due_at - now)
            for service in self.services.values()
            if service.is_wanted and not service.pid
        ]
        return min(waits, default=None)

    def answer(self) -> None:
        """Serve one request: a line of JSON in, a line of JSON out."""
        connection, _ = self.server.accept()
        with connection:
            connection.settimeout(CLIENT_TIMEOUT_S)
            try:
                text, passed, _, _ = socket.recv_fds(
                    connection, REQUEST_BYTES_MAX, FILES_PASSED_MAX
                )
                reply = self.serve(json.loads(text), passed)
                connection.sendall(json.dumps(reply).encode() + b"\n")
            except (OSError, ValueError, LookupError) as problem:
                print(f"init: a request failed: {problem!r}", flush=True)

    def serve(self, request: dict[str, Any], passed: list[int]) -> dict[str, Any]:
        """Do one verb: list, start, stop, add."""
        verb = request["verb"]
        if verb == "list":
            mounts = mount_points()
            return {"services": [describe(s, mounts) for s in self.services.values()]}
        if verb == "add":
            entry = request["service"]
            if entry["name"] in self.services:
                return {"error": f"there is a service {entry['name']} already"}
            kept = [keep(descriptor) for descriptor in passed]
            self.services[entry["name"]] = Service(entry, kept)
            return {}
        service = self.services.get(request["name"])
        if service is None:
            known = ", ".join(self.services)
            return {"error": f"no service {request['name']}; there are: {known}"}
        if verb == "start":
            service.is_wanted, service.due_at = True, 0.0
        elif verb == "stop":
            service.is_wanted = False
            if service.pid:
                os.kill(service.pid, request["signal"])
        return {}

    def _listen_to_children(self) -> int:
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.set_wakeup_fd(writer)
        self.selector.register(reader, selectors.EVENT_READ)
        return reader

    def _listen_to_lab(self, path: str) -> socket.socket:
        Path(path).unlink(missing_ok=True)
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        server.bind(path)
        server.listen()
        self.selector.register(server, selectors.EVENT_READ)
        return server


def is_waiting(service: Service) -> bool:
    """Tell whether the thing a service needs is still absent."""
    return bool(service.needs) and not os.path.exists(service.needs)


def is_ready(service: Service, mounts: list[str]) -> bool:
    """Tell whether a service does its work; one that names no sign always does.

    A mount is looked up in the table, never touched: a hung one would hang PID 1.
    """
    if service.ready_mount:
        return service.ready_mount in mounts
    return not service.ready_path or os.path.exists(service.ready_path)


def describe(service: Service, mounts: list[str]) -> dict[str, Any]:
    """Return what the lab may know of a service."""
    return {
        "name": service.name,
        "pid": service.pid,
        "is_wanted": service.is_wanted,
        "is_waiting": is_waiting(service),
        "is_ready": is_ready(service, mounts),
        "needs": service.needs,
        "starts": service.starts,
        "last_status": service.last_status,
    }


def end_group(pid: int) -> None:
    """End what a service left of its process group, as systemd would.

    Workers of a killed nginx would hold its ports for ever. What made a session of
    its own lives on: QEMU, for one.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def keep(descriptor: int) -> int:
    """Move a received descriptor out of the way of the services' numbers."""
    kept = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, SPARE_DESCRIPTOR)
    os.close(descriptor)
    return kept


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """Mount, or say which mount failed and why."""
    words = (source.encode(), target.encode(), kind.encode())
    if libc.mount(*words, ctypes.c_ulong(flags), data.encode()) != 0:
        number = ctypes.get_errno()
        text = f"mount {kind or 'move'} on {target} ({data}): {os.strerror(number)}"
        raise OSError(number, text)


def detach(path: str) -> None:
    """Unmount everything at or below a path, the newest first."""
    below = path + "/"
    for point in reversed(mount_points()):
        if point == path or point.startswith(below):
            libc.umount2(point.encode(), MNT_DETACH)


def mount_points() -> list[str]:
    """Return where things are mounted, in the order of mounting."""
    table = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
    return [
        line.split()[4].replace("\\040", " ").replace("\\011", "\t")
        for line in table.splitlines()
    ]


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old or the new one, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(text)
    fresh.replace(path)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
