"""Make the UEFI variables of a VM beside its definition: they go where it goes.

QEMU writes to the file as long as the guest runs. It is made by the node that starts
the VM, whose storage process holds the VM's lease then: without it the write is
refused, however late it comes.
"""

from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Final

from node.errors import Error
from node.model.ids import VmId
from node.storage.domains.access import Access
from node.storage.formats.layout import FILE_MODE
from node.storage.guard import Guard
from node.storage.process.file_operations import FileMissing
from node.storage.process.protocol import Need

_DEADLINE_S: Final = 10.0  # somebody waits for the VM to start


def ensure(
    guard: Guard,
    access: Access,
    vm_id: VmId,
    first: Callable[[], bytes],
    need: Need | None,
) -> PurePosixPath:
    """Return where they lie; `first` is what they start as. Idempotent.

    `need` None: no other node can start the VM.
    """
    needs = () if need is None else (need,)
    files = access.files(guard, needs, _DEADLINE_S)
    path = access.layout.vm_variables(vm_id)
    try:
        files.stat(str(path))
    except Error as error:
        if error.code != FileMissing.code:
            raise
        files.write_whole(str(path), first(), FILE_MODE)
    return path
