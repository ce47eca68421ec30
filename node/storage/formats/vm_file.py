"""Read and write the file that a VM's definition lies in, and choose among copies.

Pure. The file is one line of JSON and one line `sha256=` with the digest of the
first, without its newline. What was deleted leaves a tombstone: the same file without
a definition. The highest generation wins, so an older copy on a storage domain that
returns neither comes back nor overwrites; at one generation a tombstone wins, and two
definitions that differ are an alarm. Source: DESIGN section 5,
docs/formats/storage-domain.md.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from node import wire
from node.errors import Conflict, Failed, Invalid, Unsupported
from node.model.ids import VmId
from node.model.vm import Vm
from node.storage.formats import layout
from node.units import KiB

SCHEMA: Final = 1
# A VM with 16 disks and 8 cards needs 6 KiB, and 9 KiB for each of 32 snapshots.
SIZE_MAX: Final = 512 * KiB
NAME: Final = "definition"
_DIGEST = re.compile(rb"(.*)\nsha256=([0-9a-f]{64})\n")
_SCHEMA = re.compile(rb'\{"schema":([0-9]{1,9})[,}]')


class VmFileDamaged(Failed):
    """A VM's file does not hold what we write."""

    code = "vm_file_damaged"
    remedy = (
        "Nothing was changed, and nothing will be while the file is there. Restore it "
        "from a backup, or remove it by hand if the VM is not needed."
    )


class NewerVmFile(Unsupported):
    """A newer version of the node wrote the file."""

    code = "newer_vm_file"
    remedy = "Upgrade this node, or let an upgraded one become the manager."


class VmFilesDiffer(Conflict):
    """Two copies have one generation and different contents."""

    code = "vm_files_differ"
    remedy = "Compare the two files that the message names, and remove the wrong one."


class BadVmFile(Invalid):
    code = "bad_vm_file"
    remedy = "Correct what the message names."


@dataclass(frozen=True, slots=True)
class VmFile:
    schema: int  # stays the first field: it is read before the others
    vm_id: VmId
    generation: int  # grows with each change, the deletion as well
    written_at: str  # RFC 3339
    vm: Vm | None = None  # None: it was deleted

    @property
    def rank(self) -> tuple[int, bool]:
        return self.generation, self.vm is None


def parse(data: bytes, vm_id: str) -> VmFile:
    """Return a VM's file; VmFileDamaged or NewerVmFile if it cannot be.

    `vm_id` is the folder's name, which the content must bear too.
    """
    found = _DIGEST.fullmatch(data) if len(data) <= SIZE_MAX else None
    if found is None:
        raise VmFileDamaged("the file is no VM's", size_bytes=len(data))
    body, digest = found[1], found[2].decode()
    if hashlib.sha256(body).hexdigest() != digest:
        raise VmFileDamaged("the content does not have the digest that it names")
    schema = _SCHEMA.match(body)
    if schema and int(schema[1]) > SCHEMA:
        raise NewerVmFile(f"the file has schema {int(schema[1])}, we know {SCHEMA}")
    try:
        # Its fields as well: what is not known would be lost by the next change.
        file = wire.decode(VmFile, body)
        _check(file)
    except Invalid as error:
        raise VmFileDamaged(f"the file says what cannot be: {error}") from error
    if file.vm_id != vm_id:
        raise VmFileDamaged(f"the file is that of VM {file.vm_id}")
    return file


def write(file: VmFile) -> bytes:
    """Return the bytes of a VM's file; BadVmFile."""
    _check(file)
    body = wire.encode(file)
    data = b"%b\nsha256=%b\n" % (body, hashlib.sha256(body).hexdigest().encode())
    if len(data) > SIZE_MAX:
        raise BadVmFile(f"the definition has {len(data)} bytes", size_bytes=len(data))
    return data


def newest(copies: Mapping[str, VmFile]) -> str | None:
    """Return the storage domain whose copy wins; None if there is none.

    Raises VmFilesDiffer if two would win that differ.
    """
    best = max((each.rank for each in copies.values()), default=None)
    winners = sorted(key for key, each in copies.items() if each.rank == best)
    if not winners:
        return None
    first, *others = winners
    for other in others:
        if copies[other].vm != copies[first].vm:
            raise VmFilesDiffer(
                f"VM {copies[first].vm_id} has two definitions of generation "
                f"{copies[first].generation}, on storage domains {first} and {other}",
                vm_id=copies[first].vm_id,
                first=first,
                second=other,
            )
    return first


def _check(file: VmFile) -> None:
    layout.check_id(file.vm_id)
    rules = (
        (file.schema == SCHEMA, f"its schema is not {SCHEMA}"),
        (file.generation >= 1, "its generation is below 1"),
        (_is_moment(file.written_at), "it does not say when it was written"),
        (
            file.vm is None or file.vm.spec.vm_id == file.vm_id,
            "the definition is that of another VM",
        ),
        (
            file.vm is None or file.vm.generation == file.generation,
            "the definition has another generation",
        ),
    )
    for is_kept, complaint in rules:
        if not is_kept:
            raise BadVmFile(f"VM {file.vm_id}: {complaint}")


def _is_moment(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False
