"""Say what runs in each kind of member, and which files it is born with.

Pure but for the machine's own groups: a specification is made here, and carried out
by init.py as PID 1.
"""

import shlex
import textwrap
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.lab import command, layout

CHECKOUT = layout.CHECKOUT
VIRTUAL_ENVIRONMENT = layout.VIRTUAL_ENVIRONMENT
LOG_DIRECTORY = "/var/log/lab"
SHARED_STORAGE = "/run/shared"
STORAGE_SERVICE = "shared"

BUS_SOCKET = "/run/dbus/system_bus_socket"
UDEV = "/lib/systemd/systemd-udevd"
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"

# More than all that QEMU and sanlock ask at once: a request that hangs in the mirror
# must not keep others from hanging there too, where no signal reaches them.
_MIRROR_THREADS = 64

# Tests wait for these. Whoever needs a guest that has booted asks for its address;
# the others need only one that runs.
_FETCH_GAP_S = "1"
_GUEST_WAIT_S = "3"
_UPKEEP_INTERVAL_S = "2"

# sanlock frees a dead host's lease after 8 × io_timeout + 60 s, and the 60 are
# compiled in. Six times faster, that is a test one can wait for; only sanlock sees
# this clock, and every host has the same factor.
SANLOCK_SPEED = 6


@dataclass(frozen=True, slots=True)
class Service:
    """One program that PID 1 keeps running."""

    name: str
    argv: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()
    needs: str = ""  # a path that must exist before it starts
    ready_path: str = ""  # exists as soon as it does its work
    ready_mount: str = ""  # is mounted as soon as it does its work


def services(lab: layout.Layout, place: layout.Place) -> tuple[Service, ...]:
    """Return what runs in a member, in the order of starting."""
    table = {
        layout.Kind.HOST: _host_services,
        layout.Kind.AGGREGATOR: _aggregator_services,
        layout.Kind.SWITCH: _switch_services,
    }
    return table[place.kind](lab, place)


def specification(lab: layout.Layout, place: layout.Place) -> dict[str, Any]:
    """Return everything that a member's PID 1 must know, as JSON has it."""
    directory = lab.member_directory(place.name)
    return {
        "name": place.name,
        "directory": str(directory),
        "record": str(directory / "pid.json"),
        "control": str(directory / "control.sock"),
        "log_directory": LOG_DIRECTORY,
        "environment": command.ENVIRONMENT,
        "directories": _DIRECTORIES,
        "links": _links(lab, place),
        "kernel": _KERNEL,
        "absent": _ABSENT,
        "files": files(lab, place),
        "services": [
            asdict(service) | {"environment": dict(service.environment)}
            for service in services(lab, place)
        ],
    }


def files(lab: layout.Layout, place: layout.Place) -> dict[str, str]:
    """Return the files a member is born with: path → text."""
    machine_id = place.node_id.replace("-", "") + "\n"
    born = {
        "/etc/hostname": f"{place.name}\n",
        "/etc/machine-id": machine_id,
        "/var/lib/dbus/machine-id": machine_id,
        "/etc/hosts": hosts_file(lab),
        "/etc/resolv.conf": f"nameserver {lab.subnet}.{layout.SWITCH_NUMBER}\n",
    }
    if place.kind is layout.Kind.SWITCH:
        return born
    born["/etc/avahi/avahi-daemon.conf"] = _avahi_conf(place)
    if place.kind is layout.Kind.AGGREGATOR:
        born["/etc/skerry/aggregator.conf"] = _ini(
            "aggregator",
            name=place.name,
            address=place.address,
            upkeep_interval_s=_UPKEEP_INTERVAL_S,
        )
        return born
    return born | {
        "/etc/skerry/node.conf": _ini(
            "node",
            node_id=place.node_id,
            name=place.name,
            address=place.address,
            fetch_gap_s=_FETCH_GAP_S,
            guest_wait_s=_GUEST_WAIT_S,
            permits_scratch_storage="yes",
        ),
        "/etc/libvirt/libvirtd.conf": _libvirtd_conf(place),
        "/etc/libvirt/qemu.conf": _QEMU_CONF,
        "/etc/libvirt/qemu-sanlock.conf": _QEMU_SANLOCK_CONF,
        "/etc/group": Path("/etc/group").read_text() + _STORAGE_GROUP,
        "/etc/passwd": Path("/etc/passwd").read_text() + _STORAGE_USER,
    }


def _links(lab: layout.Layout, place: layout.Place) -> dict[str, str]:
    """Return the links that a member has from its boot: path → target."""
    if place.kind is not layout.Kind.HOST:
        return {}
    return {"/run/wdmd/wdmd.sock": str(lab.watchdog_socket(place.name))}


def hosts_file(lab: layout.Layout) -> str:
    """Return /etc/hosts: every member by name, in every member the same."""
    lines = ["127.0.0.1 localhost", "::1 localhost"]
    lines += [f"{p.address} {p.name} {p.name}.lab" for p in layout.places(lab)]
    return "\n".join(lines) + "\n"


def _host_services(lab: layout.Layout, place: layout.Place) -> tuple[Service, ...]:
    return (
        *_discovery_services(),
        Service("udev", (UDEV,), ready_path="/run/udev/control"),
        Service("virtlogd", ("virtlogd",), ready_path="/run/libvirt/virtlogd-sock"),
        Service(
            "libvirtd",
            ("libvirtd",),
            needs="/run/libvirt/virtlogd-sock",
            ready_path="/run/libvirt/libvirt-sock",
        ),
        Service(
            STORAGE_SERVICE,
            # What a killed one left mounted must go first.
            _shell(
                f"umount -l {SHARED_STORAGE} 2>/dev/null; exec "
                + shlex.join(_mirror(lab, place))
            ),
            ready_mount=SHARED_STORAGE,
        ),
        Service(
            "sanlock",
            # No real-time priority, no locked memory: the machine's root may lack
            # CAP_SYS_RESOURCE. The name is the node's id.
            (
                *("sanlock", "daemon", "-D", "-w", "1", "-h", "0", "-l", "0"),
                *("-e", place.node_id),
            ),
            environment=(
                ("SANLOCK_PRIVILEGED", "0"),
                ("SANLOCK_RUN_DIR", "/run/sanlock"),
                ("LD_PRELOAD", FAKETIME),
                ("FAKETIME", f"+0 x{SANLOCK_SPEED}"),
            ),
            ready_path="/run/sanlock/sanlock.sock",
        ),
        Service(
            "skerry-storage",
            (str(VIRTUAL_ENVIRONMENT / "bin/python"), "-m", "node.storage.process"),
            needs=_product("skerry-node")[0],
            ready_path="/run/skerry/storage.sock",
        ),
        Service(
            "skerry-transfer",
            (str(VIRTUAL_ENVIRONMENT / "bin/python"), "-m", "node.transfer"),
            needs=_product("skerry-node")[0],
            ready_path="/run/skerry/transfer/transfer.sock",
        ),
        _nginx_service("/run/skerry"),
        Service(
            "agent",
            _product("skerry-node"),
            environment=(("MALLOC_ARENA_MAX", "2"),),
            needs=_product("skerry-node")[0],
        ),
    )


def _mirror(lab: layout.Layout, place: layout.Place) -> tuple[str, ...]:
    # libvirt takes the subtype for a cluster file system: it migrates over it.
    options = (
        "fsname=nas.lab:/shared,subtype=glusterfs,allow_other,default_permissions,"
        f"max_threads={_MIRROR_THREADS}"
    )
    return (
        *(str(layout.MIRROR), str(lab.shared)),
        *(str(lab.witness_log(place.name)), str(lab.fault_file(place.name))),
        *("-f", "-o", options, SHARED_STORAGE),
    )


def _aggregator_services(
    lab: layout.Layout, place: layout.Place
) -> tuple[Service, ...]:
    return (
        *_discovery_services(),
        _nginx_service("/run/skerry-aggregator"),
        Service(
            "aggregator",
            _product("skerry-aggregator"),
            needs="/var/lib/skerry-aggregator/initialized",
        ),
    )


def _switch_services(lab: layout.Layout, place: layout.Place) -> tuple[Service, ...]:
    guests = f"{lab.subnet}.100,{lab.subnet}.199,255.255.255.0,1h"
    names = [f"--host-record={p.name},{p.address}" for p in layout.places(lab)]
    return (
        Service(
            "dnsmasq",
            (
                *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null"),
                *("--user=root", "--bind-interfaces", "--interface=switch"),
                *("--no-resolv", "--no-hosts", "--no-ping", "--dhcp-authoritative"),
                f"--dhcp-range={guests}",
                "--dhcp-option=option:router",  # no route out of the lab
                "--dhcp-leasefile=/var/lib/misc/dnsmasq.leases",
                "--pid-file=/run/dnsmasq.pid",
                *names,
            ),
            ready_path="/run/dnsmasq.pid",
        ),
    )


def _discovery_services() -> tuple[Service, ...]:
    return (
        Service(
            "dbus",
            ("dbus-daemon", "--system", "--nofork", "--nopidfile", "--nosyslog"),
            ready_path=BUS_SOCKET,
        ),
        Service(
            "avahi",
            (
                *("avahi-daemon", "--no-drop-root", "--no-rlimits", "--no-chroot"),
                "--no-proc-title",
            ),
            needs=BUS_SOCKET,
            ready_path="/run/avahi-daemon/socket",
        ),
    )


def _nginx_service(run_folder: str) -> Service:
    configuration = f"{run_folder}/nginx.conf"
    argv = ("nginx", "-e", "stderr", "-c", configuration, "-g", "daemon off;")
    return Service("nginx", argv, needs=configuration)


def _product(program: str) -> tuple[str, ...]:
    return (str(VIRTUAL_ENVIRONMENT / "bin" / program), "run")


def _shell(script: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", script)


def _ini(section: str, **options: str) -> str:
    lines = [f"{name} = {value}" for name, value in options.items()]
    return "\n".join([f"[{section}]", *lines]) + "\n"


def _libvirtd_conf(place: layout.Place) -> str:
    # Nobody but root is in a host, and no polkit runs there to be asked.
    return textwrap.dedent(f"""\
        host_uuid = "{place.node_id}"
        unix_sock_group = "libvirt"
        unix_sock_rw_perms = "0770"
        auth_unix_ro = "none"
        auth_unix_rw = "none"
        keepalive_interval = 2
        keepalive_count = 5
        """)


def _avahi_conf(place: layout.Place) -> str:
    is_host = place.kind is layout.Kind.HOST
    interface = layout.MANAGEMENT_BRIDGE if is_host else "eth0"
    return textwrap.dedent(f"""\
        [server]
        host-name={place.name}
        domain-name=local
        use-ipv4=yes
        use-ipv6=no
        allow-interfaces={interface}
        ratelimit-interval-usec=1000000
        ratelimit-burst=1000
        [wide-area]
        enable-wide-area=no
        [publish]
        publish-hinfo=no
        publish-workstation=no
        """)


# The images belong to whom they belong: libvirt changes no owner. The keepalive that
# peer-to-peer migration uses is this one; 2 × 5 s notices a silent peer in a test's
# time, and less than that has broken migrations on a busy machine. sanlock guards
# what bears a lease: libvirt takes no other, and joins no lockspace itself.
_QEMU_CONF = textwrap.dedent("""\
    dynamic_ownership = 0
    remember_owner = 0
    security_driver = "none"
    lock_manager = "sanlock"
    keepalive_interval = 2
    keepalive_count = 5
    """)
# QEMU's user opens what the storage user made, in oVirt's group.
_STORAGE_GROUP = "skerry-storage:x:36:libvirt-qemu\n"
_STORAGE_USER = "skerry-storage:*:36:36::/nonexistent:/usr/sbin/nologin\n"
_QEMU_SANLOCK_CONF = textwrap.dedent("""\
    auto_disk_leases = 0
    require_lease_for_disks = 0
    """)

# Made at every boot, since /run is new: path → mode.
_DIRECTORIES = {
    "/run/lock": 0o1777,
    "/run/dbus": 0o755,
    "/run/avahi-daemon": 0o755,
    "/run/libvirt": 0o755,
    "/run/sanlock": 0o775,
    "/run/wdmd": 0o755,
    SHARED_STORAGE: 0o755,
}

# Two cards on one switch: each answers only for the addresses that are its own.
_KERNEL = {
    "/proc/sys/net/ipv4/conf/all/arp_ignore": "1",
    "/proc/sys/net/ipv4/conf/all/arp_announce": "2",
}

# What the machine itself may have defined must not show through.
_ABSENT = [
    "/etc/libvirt/qemu/*.xml",
    "/etc/libvirt/qemu/autostart/*",
    "/etc/libvirt/qemu/networks/*.xml",
    "/etc/libvirt/qemu/networks/autostart/*",
    "/etc/skerry/*",
    "/etc/systemd/system/*.wants/libvirt-guests.service",
    "/var/lib/libvirt/dnsmasq/*",
    "/var/lib/skerry-*",
]
