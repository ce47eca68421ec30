"""Find out whether KVM really works: boot a kernel with it.

Neither /dev/kvm nor libvirt's capabilities prove it: where virtualization is
nested, both can lie. Once per boot, kernel and QEMU, a throw-away QEMU must
bring a kernel to its first line of output. Source: DESIGN section 6.
"""

import logging
import threading
from collections.abc import Callable
from pathlib import PurePath
from typing import Final

from node.errors import Error
from node.model.host import KvmFacts
from node.store import Store
from node.system import command
from node.system.procfs import Procfs

log = logging.getLogger(__name__)

_QEMU: Final = "qemu-system-x86_64"
# A kernel speaks within a second; a machine under load may take some more.
_DEADLINE_S: Final = 10.0
_VERSION_S: Final = 10.0
_SETTING: Final = "kvm_probe"
_PENDING: Final = KvmFacts(False, "the probe of KVM has not ended yet")


class KvmProbe:
    """Until the probe has ended, guests are emulated."""

    def __init__(
        self,
        store: Store,
        procfs: Procfs,
        run: command.Run,
        first_line: command.FirstLine,
        boot_id: str,
        *,
        is_wanted: bool = True,
        kernel: str = "",
    ) -> None:
        """`kernel` is the path of what to boot; empty: what is in /boot."""
        self._store = store
        self._procfs = procfs
        self._run = run
        self._first_line = first_line
        self._boot_id = boot_id
        self._is_wanted = is_wanted
        self._kernel = kernel
        self._facts = _PENDING

    def facts(self) -> KvmFacts:
        """Return what is known by now; never waits."""
        return self._facts

    def start(self, on_end: Callable[[], None]) -> None:
        """Probe beside everything else, and call when the result is there."""

        def probe() -> None:
            self.probe()
            on_end()

        threading.Thread(target=probe, name="kvm-probe", daemon=True).start()

    def probe(self) -> KvmFacts:
        """Find out, or remember; takes up to ten seconds."""
        self._facts = self._find_out()
        log.info(
            "KVM is %s: %s",
            "usable" if self._facts.is_usable else "not usable",
            self._facts.detail,
        )
        return self._facts

    def _find_out(self) -> KvmFacts:
        if not self._is_wanted:
            return KvmFacts(False, "emulation is set to always")
        if not self._procfs.paths("/dev", "kvm"):
            return KvmFacts(False, "there is no /dev/kvm")
        kernel = self._kernel or _newest(self._procfs)
        if not kernel:
            return KvmFacts(False, "there is no kernel in /boot to try it with")
        try:
            version = self._run([_QEMU, "--version"], timeout_s=_VERSION_S).text
        except Error as error:
            return KvmFacts(False, str(error))
        key = [self._boot_id, self._procfs.kernel(), version, kernel]
        known = self._store.setting(_SETTING)
        if known is not None and known["key"] == key:
            return KvmFacts(known["is_usable"], known["detail"])
        facts = self._boot(kernel)
        self._remember(key, facts)
        return facts

    def _boot(self, kernel: str) -> KvmFacts:
        try:
            result = self._first_line(_argv(kernel), timeout_s=_DEADLINE_S)
        except command.CommandTimedOut:
            detail = f"a guest wrote nothing within {_DEADLINE_S:g} s"
            return KvmFacts(False, detail)
        except Error as error:
            return KvmFacts(False, str(error))
        if result.status == 0:
            return KvmFacts(True, result.text[:200])
        complaint = result.stderr.decode(errors="replace").strip().partition("\n")[0]
        return KvmFacts(False, complaint[:200] or f"QEMU ended ({result.status})")

    def _remember(self, key: list[str], facts: KvmFacts) -> None:
        value = {"key": key, "is_usable": facts.is_usable, "detail": facts.detail}
        try:
            with self._store.change() as change:
                change.set(_SETTING, value)
        except Error as error:
            log.warning("the result of the probe is not kept: %s", error)


def _newest(procfs: Procfs) -> str:
    """Return the running kernel if it is in /boot, else the last by name."""
    kernels = procfs.paths("/boot", "vmlinuz*")
    running = f"vmlinuz-{procfs.kernel()}"
    same = [path for path in kernels if PurePath(path).name == running]
    return (same or list(kernels) or [""])[-1]


def _argv(kernel: str) -> tuple[str, ...]:
    """Return a QEMU that can only print: no disk, no network, no display.

    `edd=off` keeps the 16-bit part of the kernel silent, which runs even where
    KVM cannot do long mode.
    """
    return (
        _QEMU,
        *("-no-user-config", "-nodefaults", "-no-reboot"),
        *("-machine", "pc", "-accel", "kvm", "-cpu", "host"),
        *("-m", "128", "-display", "none", "-serial", "stdio"),
        *("-sandbox", "on,elevateprivileges=deny,spawn=deny"),
        *("-kernel", kernel),
        *("-append", "console=ttyS0 earlyprintk=ttyS0 edd=off panic=-1"),
    )
