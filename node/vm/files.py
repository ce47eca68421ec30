"""Keep what a node has of its VMs itself: serial logs, firmware variables.

    <state>/images/<name>.qcow2        what new disks are copied from
    <state>/nvram/<vm id>.fd           0660 root:<group>, made whole or not at all
    <state>/serial/<vm id>.log         written and rotated by virtlogd
    <state>/domains/<vm id>.xml        the domain that it was started as last, for hooks

Disks, and as a rule the variables, lie on pools. QEMU opens the variables by the group.
"""

import logging
import os
import shutil
from pathlib import Path

from node.errors import NotFound, Unsupported
from node.model.ids import VmId
from node.units import MiB
from node.vm.devices import firmware

log = logging.getLogger(__name__)

SERIAL_TAIL_MAX = MiB
_MODE = 0o660


class NoUefi(Unsupported):
    """OVMF is not installed."""

    code = "no_uefi"
    remedy = "Install the package ovmf on the node, or choose the firmware bios."


class NotStarted(NotFound):
    """The VM has never been started on this node."""

    code = "vm_never_started"
    remedy = "Start the VM first."


def has_uefi() -> bool:
    """Tell whether guests can start by UEFI here: OVMF is installed."""
    return firmware.OVMF_CODE.exists() and firmware.OVMF_VARIABLES.exists()


def check_uefi() -> None:
    """Refuse to start a guest by UEFI where it cannot be; NoUefi."""
    if not has_uefi():
        raise NoUefi(f"{firmware.OVMF_CODE} is not there")


class VmFiles:
    """The node's own files of VMs, below its state folder."""

    def __init__(self, state: Path, group: str) -> None:
        self.images = state / "images"
        self._nvram = state / "nvram"
        self._serial = state / "serial"
        self._domains = state / "domains"
        self._group = group

    def prepare(self) -> None:
        """Make the folders that all VMs share; QEMU may pass through them."""
        for folder in (self.images, self._nvram, self._serial, self._domains):
            folder.mkdir(parents=True, exist_ok=True, mode=0o755)

    def serial_log(self, vm_id: VmId) -> Path:
        """Return the file that the VM's serial line is written to."""
        return self._serial / f"{vm_id}.log"

    def keep_domain(self, vm_id: VmId, xml: str) -> None:
        """Keep what a VM is started as; a power cut needs it no more."""
        new = self._domain(vm_id).with_suffix(".new")
        new.write_text(xml)
        new.rename(self._domain(vm_id))

    def read_domain(self, vm_id: VmId) -> str:
        """Return what a VM was started as last; NotStarted: never here."""
        try:
            return self._domain(vm_id).read_text()
        except FileNotFoundError as error:
            raise NotStarted(f"VM {vm_id} was not started here", vm_id=vm_id) from error

    def first_variables(self, vm_id: VmId) -> bytes:
        """Return what a VM's UEFI variables start as: those that this node kept."""
        own = self.own_variables(vm_id)
        return (own if own.exists() else firmware.OVMF_VARIABLES).read_bytes()

    def variables(self, vm_id: VmId, beside: Path) -> Path:
        """Return where a VM of a pool has its UEFI variables: beside its definition.

        Where NFS lets root pass through no folder libvirt finds no file, and would make
        another one: there they are a node's own, and begin anew on the next one.
        """
        if os.access(beside, os.F_OK):  # as libvirt asks
            return beside
        own = self.own_variables(vm_id)
        if not own.exists():
            self._make_variables(own)
        log.warning("%s cannot be seen: the node's own variables are used", beside)
        return own

    def remove(self, vm_id: VmId) -> None:
        """Remove what this node keeps of a VM that is deleted. Idempotent."""
        own = self.own_variables(vm_id)
        log_file = self.serial_log(vm_id)
        self._domain(vm_id).unlink(missing_ok=True)
        for path in (own, log_file, *log_file.parent.glob(f"{log_file.name}.*")):
            path.unlink(missing_ok=True)

    def read_serial(self, vm_id: VmId, tail_bytes: int) -> bytes:
        """Return the end of what the VM wrote; empty if it wrote nothing yet."""
        wanted = max(0, min(tail_bytes, SERIAL_TAIL_MAX))
        newest = self.serial_log(vm_id)
        text = read_tail(newest, wanted)
        if len(text) < wanted:
            rotated = newest.with_name(f"{newest.name}.0")
            text = read_tail(rotated, wanted - len(text)) + text
        return text

    def _make_variables(self, path: Path) -> None:
        check_uefi()
        new = path.with_suffix(".new")
        shutil.copyfile(firmware.OVMF_VARIABLES, new)
        shutil.chown(new, group=self._group)
        new.chmod(_MODE)
        _sync(new)
        new.rename(path)
        _sync(path.parent)

    def _domain(self, vm_id: VmId) -> Path:
        return self._domains / f"{vm_id}.xml"

    def own_variables(self, vm_id: VmId) -> Path:
        """Return where this node keeps a VM's UEFI variables, if nobody else does."""
        return self._nvram / f"{vm_id}.fd"


def read_tail(path: Path, size: int) -> bytes:
    """Return the last bytes of a file; empty if it is not there."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - size))
            return file.read(size)
    except FileNotFoundError:
        return b""


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
