"""Run a command in a throw-away VM: this machine's programs, Debian's own kernel.

For what the machine's kernel lacks or a lab must not touch: NFS, loop devices with
other sectors, device-mapper. The VM sees the machine's root through virtiofs, below
a layer in memory, and is emulated, so it needs no KVM: 8 s and as much memory as asked
for. It has no network but loopback.

    build/kernel/<package>/   Debian's cloud kernel, unpacked once
"""

import gzip
import logging
import os
import shlex
import subprocess
import tempfile
import time
from collections import abc
from dataclasses import dataclass
from pathlib import Path

from tests.lab import command, cpio, errors, guest, layout, requirements

log = logging.getLogger(__name__)

TIMEOUT_S = 120.0
MEMORY_MIB = 1024
CPUS = 2
PROCESSOR = "max"  # all that QEMU emulates; an older one has less to emulate
_HERE = Path(__file__).parent
_BUILD = layout.CHECKOUT / "build"
_BUSYBOX = Path("/bin/busybox")
# Slack of the outer deadline behind the one that ends QEMU.
_GRACE_S = 5.0
_UNPACK_TIMEOUT_S = 120.0
_TAIL_CHARACTERS = 1000  # of each thing that a failed VM said

# virtiofsd's words in C (Debian 12) and in Rust (Debian 13), in the order of
# requirements.VIRTIOFSD. The capability is one that the machine's root may lack.
_VIRTIOFSD_WORDS = (
    "-o source=/ -o cache=always -o sandbox=chroot -o modcaps=-sys_resource",
    "--shared-dir=/ --cache=always --sandbox=chroot --modcaps=-sys_resource",
)
_MODULE_TOPS = ("lib/modules", "usr/lib/modules")  # Debian 12, Debian 13
_MODULES = ("virtio_pci", "virtiofs", "overlay")
# What protects a real processor only slows an emulated one down, and a timer that a
# busy machine makes late is not broken.
_SHORTCUTS = "mitigations=off no5lvl no_timer_check"
# Of the serial ports, the first is the kernel's console; see vm-main.sh.
_FILES = ("output", "errors", "status")
_PORTS = [word for name in _FILES for word in ("-serial", f"file:{name}")]
_FOLDERS = ("dev", "proc", "sys", "machine", "layer", "root")

# virtiofsd ends when QEMU lets go of its socket. Its file of pids is named after the
# socket as it is told here, for all VMs of the machine in one folder.
_SCRIPT = """\
cd "$1" || exit; socket=$2 virtiofsd=$3 timeout=$4; shift 4
$virtiofsd --socket-path="$socket" >virtiofsd.log 2>&1 &
for _ in $(seq 100); do [ -S "$socket" ] && break; sleep 0.05; done
exec timeout --kill-after=1 "$timeout" "$@"
"""


@dataclass(frozen=True, slots=True)
class Kernel:
    """An unpacked kernel."""

    root: Path

    @property
    def image(self) -> Path:
        return next((self.root / "boot").glob("vmlinuz-*"))

    @property
    def modules(self) -> Path:
        version = self.image.name.removeprefix("vmlinuz-")
        found = (self.root / top / version for top in _MODULE_TOPS)
        return next(path for path in found if path.is_dir())


def run(
    argv: abc.Sequence[str],
    *,
    timeout_s: float = TIMEOUT_S,
    memory_mib: int = MEMORY_MIB,
    cpus: int = CPUS,
    processor: str = PROCESSOR,
) -> subprocess.CompletedProcess[str]:
    """Run a command as root in a VM of its own; return its output and status.

    After `timeout_s`, which includes the boot, the VM is
    ended and `TimedOut` raised; `StepFailed` tells that it ended without a status.
    """
    requirements.check(requirements.missing_for_vm())
    begin = time.monotonic()
    kernel = _kernel()
    with tempfile.TemporaryDirectory(dir=_BUILD, prefix="vm-") as work:
        (Path(work) / "initrd").write_bytes(_initrd(kernel, argv))
        socket = f"{Path(work).name}.sock"
        words = _qemu(kernel, memory_mib, processor, cpus, socket)
        shell = ["/bin/sh", "-c", _SCRIPT, "vm", work, socket, _virtiofsd()]
        done = command.run(
            [*shell, str(timeout_s), *words], timeout_s=timeout_s + _GRACE_S
        )
        output, faults, status, virtiofsd = (
            _text(Path(work) / name) for name in (*_FILES, "virtiofsd.log")
        )
    took_s = time.monotonic() - begin
    if status.startswith("status "):
        log.info("the VM ended with a %s (%.1f s)", status.strip(), took_s)
        code = int(status.split()[1])
        return subprocess.CompletedProcess(argv, code, output, faults)
    said = (output, faults, done.stdout, done.stderr, virtiofsd)
    problem = "".join(text[-_TAIL_CHARACTERS:] for text in said)
    if took_s >= timeout_s:
        raise errors.TimedOut(
            "vm",
            f"`{shlex.join(argv)}` was ended after {timeout_s:.0f} s: {problem}",
            remedy="give it more time, or see where it hangs",
        )
    raise errors.StepFailed(
        "vm", f"it ended without a status: {problem}", remedy="read what it says"
    )


def _kernel() -> Kernel:
    """Return the kernel, unpacked now unless it lies there."""
    with guest.alone():
        package = guest.kernel_package()
        directory = _BUILD / "kernel" / package.stem
        if not directory.exists():
            directory.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=directory.parent) as work:
                _unpack(package, Path(work) / "root").replace(directory)
    return Kernel(directory)


def _unpack(package: Path, root: Path) -> Path:
    """Unpack a kernel, ready for modprobe, and return where it is."""
    command.check(
        ["dpkg-deb", "-x", str(package), str(root)], timeout_s=_UNPACK_TIMEOUT_S
    )
    version = Kernel(root).image.name.removeprefix("vmlinuz-")
    top = Kernel(root).modules.parents[2]
    command.check(["depmod", "-b", str(top), version], timeout_s=_UNPACK_TIMEOUT_S)
    return root


def _initrd(kernel: Kernel, argv: abc.Sequence[str]) -> bytes:
    """Return the first file system: what mounts the machine's root, and the command."""
    dependencies = (kernel.modules / "modules.dep").read_text()
    order = guest.load_order(dependencies, _MODULES)
    names = [f"{guest.module_name(path)}.ko" for path in order]
    main = f"KERNEL_ROOT={shlex.quote(os.fspath(kernel.root))}\n"
    main += (_HERE / "vm-main.sh").read_text()
    entries = [
        cpio.file("init", (_HERE / "vm-init.sh").read_bytes(), 0o755),
        cpio.file("bin/busybox", _BUSYBOX.read_bytes(), 0o755),
        cpio.file("lib/modules/order", "".join(f"{n}\n" for n in names).encode()),
        cpio.file("vm-main.sh", main.encode()),
        cpio.file("vm-command.sh", f"exec {shlex.join(argv)}\n".encode()),
        *(cpio.file(f"{folder}/.keep", b"") for folder in _FOLDERS),
    ]
    entries += [
        cpio.file(f"lib/modules/{name}", guest.plain_module(kernel.modules / path))
        for name, path in zip(names, order, strict=True)
    ]
    return gzip.compress(cpio.archive(entries), 1, mtime=0)


def _qemu(
    kernel: Kernel, memory_mib: int, processor: str, cpus: int, socket: str
) -> list[str]:
    memory = f"memory-backend-memfd,id=memory,size={memory_mib}M,share=on"
    share = "vhost-user-fs-pci,chardev=machine,tag=machine"
    return [
        *("qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi"),
        *("-cpu", processor, "-smp", str(cpus), "-m", str(memory_mib)),
        *("-object", memory, "-numa", "node,memdev=memory"),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-serial", "stdio", *_PORTS),
        *("-chardev", f"socket,id=machine,path={socket}", "-device", share),
        *("-kernel", str(kernel.image), "-initrd", "initrd"),
        *("-append", f"console=ttyS0 quiet panic=-1 {_SHORTCUTS}"),
    ]


def _virtiofsd() -> str:
    pairs = zip(requirements.VIRTIOFSD, _VIRTIOFSD_WORDS, strict=True)
    return next(f"{path} {words}" for path, words in pairs if Path(path).exists())


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""
