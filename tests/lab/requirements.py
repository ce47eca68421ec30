"""Tell what the machine lacks to run the lab, and how to get it.

The table is pure; `missing` and `check_directory` look at the machine.
"""

import os
import shutil
from collections import abc
from dataclasses import dataclass
from pathlib import Path

from tests.lab import command, errors, members

# Program → Debian package that brings it.
PROGRAMS = {
    "ip": "iproute2",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "setsid": "util-linux",
    "umount": "mount",
    "dbus-daemon": "dbus-daemon",
    "avahi-daemon": "avahi-daemon",
    "virtlogd": "libvirt-daemon-system",
    "libvirtd": "libvirt-daemon-system",
    "virsh": "libvirt-clients",
    "qemu-system-x86_64": "qemu-system-x86",
    "sanlock": "sanlock",
    "nginx": "nginx",
    "dnsmasq": "dnsmasq-base",
    "gcc": "gcc",
    "pkg-config": "pkg-config",
}
FILES = {
    members.FAKETIME: "libfaketime",
    "/usr/include/fuse3/fuse.h": "libfuse3-dev",
    members.UDEV: "udev",
    "/etc/libvirt/qemu": "libvirt-daemon-system",
}
# Device → module of the kernel that makes it.
DEVICES = {"/dev/fuse": "fuse", "/dev/net/tun": "tun"}
# What only building the guest's image needs.
BUILD_PROGRAMS = {
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "depmod": "kmod",
    "busybox": "busybox-static",
    "ldd": "libc-bin",
    "mkfs.fat": "dosfstools",
    "mcopy": "mtools",
    "syslinux": "syslinux",
    "qemu-img": "qemu-utils",
}
# What only the throw-away VM needs; either path of virtiofsd will do.
VM_PROGRAMS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "depmod": "kmod",
    "busybox": "busybox-static",
}
# What the checks of storage run in it, besides the lab's.
NFS_PROGRAMS = {
    "exportfs": "nfs-kernel-server",
    "rpc.nfsd": "nfs-kernel-server",
    "mount.nfs": "nfs-common",
    "rpcbind": "rpcbind",
    "nft": "nftables",
    "sanlock": "sanlock",
    "setpriv": "util-linux",
    "qemu-io": "qemu-utils",
    "dmsetup": "dmsetup",
    "virtlogd": "libvirt-daemon-system",
    "libvirtd": "libvirt-daemon-system",
    "as": "binutils",
    "ld": "binutils",
}
VIRTIOFSD = {
    "/usr/lib/qemu/virtiofsd": "qemu-system-common",
    "/usr/libexec/virtiofsd": "virtiofsd",
}
BUILD_FILES = {"/usr/lib/syslinux/mbr/mbr.bin": "syslinux-common"}

# An overlay's upper layer can lie neither on another overlay nor on a tmpfs that
# lacks extended attributes; images on tmpfs have no O_DIRECT either.
_UNFIT_FILESYSTEMS = frozenset({"overlay", "tmpfs", "ramfs", "nfs", "nfs4"})
_OVERLAID = (Path("/etc"), Path("/var"), Path("/run"))


@dataclass(frozen=True, slots=True)
class Lack:
    """Something that is needed and not here."""

    what: str
    package: str = ""  # empty: no package brings it, but `remedy` does
    remedy: str = ""


def missing() -> list[Lack]:
    """Return what the lab needs and this machine lacks."""
    lacks = _lacking(PROGRAMS, FILES)
    if os.geteuid() != 0:
        lacks.append(Lack("root, for namespaces and mounts", remedy="become root"))
    return lacks + [
        Lack(device, remedy=f"modprobe {module}")
        for device, module in DEVICES.items()
        if not Path(device).exists()
    ]


def missing_for_build() -> list[Lack]:
    """Return what the guest's build needs and is not here."""
    return _lacking(BUILD_PROGRAMS, BUILD_FILES)


def missing_for_vm() -> list[Lack]:
    """Return what the throw-away VM needs and is not here."""
    lacks = _lacking(VM_PROGRAMS, {})
    if not any(Path(path).exists() for path in VIRTIOFSD):
        lacks.append(Lack("virtiofsd", "virtiofsd"))
    return lacks


def missing_for_nfs() -> list[Lack]:
    """Return what storage on NFS in the throw-away VM needs and is not here."""
    return _lacking(NFS_PROGRAMS, {members.FAKETIME: "libfaketime"})


def describe(lacks: abc.Sequence[Lack]) -> str:
    """Return what lacks in one sentence."""
    return "missing: " + ", ".join(lack.what for lack in lacks)


def check(lacks: abc.Sequence[Lack]) -> None:
    """Raise `Missing`, naming all that lacks and the command that gets it."""
    if not lacks:
        return
    packages = sorted({lack.package for lack in lacks if lack.package})
    remedies = [lack.remedy for lack in lacks if lack.remedy]
    if packages:
        remedies.append(f"apt-get install {' '.join(packages)}")
    raise errors.Missing("machine", describe(lacks), remedy="; ".join(remedies))


def check_directory(directory: Path) -> None:
    """Refuse a directory that an overlay's upper layer cannot lie in."""
    remedy = "set SKERRY_LAB_DIR to a place on ext4, xfs or btrfs, such as /srv/lab"
    for top in _OVERLAID:
        if directory.is_relative_to(top) or directory.resolve().is_relative_to(top):
            raise errors.Missing(
                "directory",
                f"{directory} is below {top}, which the members overlay",
                remedy=remedy,
            )
    kind = filesystem(directory, Path("/proc/self/mountinfo").read_text())
    if kind in _UNFIT_FILESYSTEMS:
        raise errors.Missing(
            "directory", f"{directory} is on {kind}, which has no layers", remedy=remedy
        )


def filesystem(path: Path, mountinfo: str) -> str:
    """Return the file system's type at a path; the last mount wins."""
    best, kind = -1, ""
    for line in mountinfo.splitlines():
        mount, _, source = line.partition(" - ")
        point = Path(mount.split()[4])
        if path.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), source.split()[0]
    return kind


def _lacking(
    programs: abc.Mapping[str, str], paths: abc.Mapping[str, str]
) -> list[Lack]:
    search = command.ENVIRONMENT["PATH"]
    lacks = [
        Lack(program, package)
        for program, package in programs.items()
        if shutil.which(program, path=search) is None
    ]
    return lacks + [
        Lack(path, package)
        for path, package in paths.items()
        if not Path(path).exists()
    ]
