"""Build the lab's guest: a real Linux of 16 MB that boots in seconds without KVM.

Debian's cloud kernel, busybox and QEMU's guest agent, as a bootable qcow2 disk (MBR,
FAT, syslinux) and as kernel and initial RAM disk for direct boot. No mounts, no loop
devices. Built once; again only when one of its inputs changes.

    build/cache/deb/     packages as downloaded
    build/guest/         lab-guest.qcow2, vmlinuz, initrd.img and their stamp

    0      440     446        510 512      1 MiB                     disk
    │ boot code │ … │ 1 partition │ 55aa │ … │ FAT: kernel, RAM disk, syslinux │
"""

import contextlib
import fcntl
import gzip
import hashlib
import logging
import lzma
import os
import shutil
import struct
import tempfile
import time
from collections import abc
from dataclasses import dataclass
from pathlib import Path

from tests.lab import command, cpio, errors, layout, requirements

log = logging.getLogger(__name__)

_BUILD = layout.CHECKOUT / "build"
_CACHE = _BUILD / "cache"
_HERE = Path(__file__).parent
_RECIPE = (Path(__file__), _HERE / "guest-init.sh", _HERE / "cpio.py")
_BUSYBOX = Path("/bin/busybox")
_BOOT_CODE = Path("/usr/lib/syslinux/mbr/mbr.bin")
_DOWNLOAD_TIMEOUT_S = 600.0  # 40 MB
_AGENT_PACKAGE = "qemu-guest-agent"
_KERNEL_PACKAGE = "linux-image-cloud-amd64"  # depends on the newest real one

# Wanted kernel modules; what they need comes before them by itself.
MODULES = (
    *("virtio_pci", "virtio_blk", "virtio_net", "virtio_console", "virtio_rng"),
    *("virtio_balloon", "virtio_scsi", "sd_mod", "sr_mod", "isofs", "button", "evdev"),
)

_MIB = 1 << 20
_SECTOR = 512
_PARTITION_START = _MIB  # where every partitioning tool begins
_FAT_SLACK = 4 * _MIB  # syslinux itself, the FATs, and room to grow
_FAT16_MIN = 16 * _MIB  # mkfs.fat makes no FAT16 on less
_PARTITION_TYPE = 0x0E  # FAT16 with linear addresses
_BOOTABLE = 0x80

# Linux login root with the password lab, as crypt(3) has it.
_PASSWORD = "$1$labguest$lCEGlPSNPJcsDB2Ly6EoI."
_CONSOLES = "console=tty0 console=ttyS0 quiet"
# What protects a real processor, and a fifth level of page tables, cost an emulated
# one a sixth of its boot.
_SHORTCUTS = "mitigations=off no5lvl"
_SYSLINUX_CONFIGURATION = f"""\
DEFAULT lab
PROMPT 0
SERIAL 0 115200
LABEL lab
 KERNEL vmlinuz
 APPEND initrd=initrd.img {_CONSOLES} {_SHORTCUTS}
"""
_DHCP_EVENT = """\
#!/bin/sh
case "$1" in bound | renew)
    ip address flush dev "$interface"
    ip address add "$ip/${mask:-24}" dev "$interface"
    # A line of its own, whatever prompt stands on the console.
    printf '\\nLABGUEST address %s\\n' "$ip" >/dev/console ;;
esac
"""
_SHUTDOWN = """\
#!/bin/sh
case "$*" in *-r*) exec reboot -f ;; *) exec poweroff -f ;; esac
"""


@dataclass(frozen=True, slots=True)
class Guest:
    """Where the three files of the guest are."""

    disk: Path
    kernel: Path
    initrd: Path


def build() -> Guest:
    """Return the guest, built now if it is not there or its inputs changed."""
    directory = _BUILD / "guest"
    made = Guest(
        directory / "lab-guest.qcow2", directory / "vmlinuz", directory / "initrd.img"
    )
    stamp = directory / "inputs.sha256"
    if _is_fresh(made, stamp):
        return made
    requirements.check(requirements.missing_for_build())
    with alone():
        if _is_fresh(made, stamp):  # somebody else built it while we waited
            return made
        begin = time.monotonic()
        log.info("building the guest's image (once)")
        packages = _download(_CACHE / "deb")
        with tempfile.TemporaryDirectory(dir=_BUILD, prefix="guest-") as work:
            _make(Path(work), packages)
            stamp.unlink(missing_ok=True)
            directory.mkdir(exist_ok=True)
            for path in (made.disk, made.kernel, made.initrd):
                (Path(work) / path.name).replace(path)
        stamp.write_text(_digest(packages))
        log.info("the guest's image is built (%.1f s)", time.monotonic() - begin)
    return made


@contextlib.contextmanager
def alone() -> abc.Iterator[None]:
    """Let one process at a time fetch and build what all labs share."""
    _CACHE.mkdir(parents=True, exist_ok=True)
    with (_CACHE / "guest.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def load_order(dependencies: str, wanted: abc.Iterable[str]) -> list[str]:
    """Return the paths of modules in the order in which to load them.

    `dependencies` is the text of modules.dep: "path: path path …". A wanted module
    that is not there is built into the kernel.
    """
    needs: dict[str, list[str]] = {}
    for line in dependencies.splitlines():
        path, _, rest = line.partition(":")
        needs[path] = rest.split()
    paths = {module_name(path): path for path in needs}
    order: dict[str, None] = {}

    def visit(path: str) -> None:
        for need in needs[path]:
            visit(need)
        order.setdefault(path)

    for name in wanted:
        if name in paths:
            visit(paths[name])
    return list(order)


def boot_sector(code: bytes, partition_bytes: int) -> bytes:
    """Return the disk's first sector: boot code and a table of one partition."""
    # 0xFFFFFF is what a cylinder address says when only the linear one counts.
    entry = struct.pack(
        "<B3sB3sII",
        _BOOTABLE,
        b"\xff\xff\xff",
        _PARTITION_TYPE,
        b"\xff\xff\xff",
        _PARTITION_START // _SECTOR,
        partition_bytes // _SECTOR,
    )
    return code.ljust(446, b"\0") + entry + bytes(48) + b"\x55\xaa"


def kernel_package() -> Path:
    """Return Debian's cloud kernel as a package, fetched now unless it lies there.

    Call it within `alone`.
    """
    return _download(_CACHE / "deb")[0]


def plain_module(path: Path) -> bytes:
    """Return a kernel module as insmod takes it, whatever it is packed with."""
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def module_name(path: str) -> str:
    """Return a module's name: modprobe knows it with _ for -."""
    return path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")


def _make(work: Path, packages: abc.Sequence[Path]) -> None:
    """Build the three files in `work`."""
    root = work / "root"
    for package in packages:
        command.check(["dpkg-deb", "-x", str(package), str(root)], timeout_s=120)
    kernel = next((root / "boot").glob("vmlinuz-*"))
    shutil.copyfile(kernel, work / "vmlinuz")
    version = kernel.name.removeprefix("vmlinuz-")
    (work / "initrd.img").write_bytes(_initrd(root, version))
    _make_disk(work)


def _initrd(root: Path, version: str) -> bytes:
    command.check(["depmod", "-b", str(root), version], timeout_s=120)
    modules = root / "lib/modules" / version
    order = load_order((modules / "modules.dep").read_text(), MODULES)
    names = [f"{module_name(path)}.ko" for path in order]
    init = _HERE / "guest-init.sh"
    agent = root / "usr/sbin/qemu-ga"
    entries = [
        cpio.file("init", init.read_bytes(), 0o755),
        cpio.file("bin/busybox", _BUSYBOX.read_bytes(), 0o755),
        cpio.link("bin/sh", "busybox"),
        cpio.file("sbin/shutdown", _SHUTDOWN.encode(), 0o755),
        cpio.file("sbin/dhcp-event", _DHCP_EVENT.encode(), 0o755),
        cpio.file("sbin/ask", b"#!/bin/sh\nexec login\n", 0o755),
        cpio.file("etc/passwd", f"root:{_PASSWORD}:0:0:root:/root:/bin/sh\n".encode()),
        cpio.file("etc/group", b"root:x:0:\n"),
        cpio.file("etc/securetty", b"ttyS0\n"),
        cpio.file("etc/issue", b"Lab guest (root, password lab)\n"),
        cpio.file("root/.profile", b""),
        cpio.file("var/run/keep", b""),
        cpio.file("lib/modules/order", "".join(f"{n}\n" for n in names).encode()),
        cpio.file("usr/sbin/qemu-ga", agent.read_bytes(), 0o755),
    ]
    entries += [
        cpio.file(f"lib/modules/{name}", plain_module(modules / path))
        for name, path in zip(names, order, strict=True)
    ]
    entries += [
        cpio.file(os.fspath(path).lstrip("/"), path.read_bytes(), 0o755)
        for path in _libraries(agent)
    ]
    return gzip.compress(cpio.archive(entries), 9, mtime=0)


def _make_disk(work: Path) -> None:
    contents = [work / "vmlinuz", work / "initrd.img", work / "syslinux.cfg"]
    (work / "syslinux.cfg").write_text(_SYSLINUX_CONFIGURATION)
    payload = sum(path.stat().st_size for path in contents)
    size = max(-(-(payload + _FAT_SLACK) // _MIB) * _MIB, _FAT16_MIN)
    partition, disk = work / "partition", work / "disk"
    with partition.open("wb") as file:
        file.truncate(size)
    command.check(["mkfs.fat", "-F", "16", "-n", "LAB", str(partition)])
    command.check(["mcopy", "-i", str(partition), *map(str, contents), "::/"])
    command.check(["syslinux", "--install", str(partition)])
    with disk.open("wb") as file:
        file.write(boot_sector(_BOOT_CODE.read_bytes(), size))
        file.seek(_PARTITION_START)
        file.write(partition.read_bytes())
    target = work / "lab-guest.qcow2"
    convert = ["qemu-img", "convert", "-c", "-O", "qcow2", str(disk), str(target)]
    command.check(convert, timeout_s=120)


def _download(directory: Path) -> list[Path]:
    """Return the packages, fetched now unless they lie there."""
    found = _packages(directory)
    if found:
        return found
    directory.mkdir(parents=True, exist_ok=True)
    text = command.check(["apt-cache", "depends", _KERNEL_PACKAGE])
    words = text.split()
    if "Depends:" not in words:
        raise errors.Missing(
            "guest",
            f"apt knows no package {_KERNEL_PACKAGE}",
            remedy="apt-get update",
        )
    kernel = words[words.index("Depends:") + 1]
    # A download that was interrupted must not look like a package.
    with tempfile.TemporaryDirectory(dir=directory, prefix="download-") as fresh:
        shell = 'cd "$0" && exec apt-get -q -o APT::Sandbox::User=root download "$@"'
        command.check(
            ["/bin/sh", "-c", shell, fresh, kernel, _AGENT_PACKAGE],
            timeout_s=_DOWNLOAD_TIMEOUT_S,
        )
        for path in Path(fresh).glob("*.deb"):
            path.replace(directory / path.name)
    return _packages(directory)


def _packages(directory: Path) -> list[Path]:
    """Return kernel and agent, the newest of each; empty if one is not there."""
    patterns = ("linux-image-*-cloud-amd64_*.deb", f"{_AGENT_PACKAGE}_*.deb")
    found = [sorted(directory.glob(p), key=os.path.getmtime) for p in patterns]
    return [paths[-1] for paths in found] if all(found) else []


def _is_fresh(made: Guest, stamp: Path) -> bool:
    packages = _packages(_CACHE / "deb")
    paths = (made.disk, made.kernel, made.initrd, stamp)
    return (
        bool(packages)
        and all(path.exists() for path in paths)
        and stamp.read_text() == _digest(packages)
    )


def _digest(packages: abc.Sequence[Path]) -> str:
    """Return a hash of all that goes into the guest."""
    digest = hashlib.sha256()
    for path in (*_RECIPE, _BUSYBOX, _BOOT_CODE):
        if path.exists():
            digest.update(path.read_bytes())
    for path in packages:  # a package's name and size change with its contents
        digest.update(f"{path.name} {path.stat().st_size}".encode())
    return digest.hexdigest()


def _libraries(program: Path) -> list[Path]:
    """Return the shared libraries of a program, from this machine."""
    words = command.check(["ldd", str(program)]).split()
    return [Path(word) for word in words if word.startswith("/")]
