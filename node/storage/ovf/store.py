"""Pack the documents of a storage domain's VMs into an OVF_STORE, and read one.

An OVF_STORE is a plain tar: info.json, metadata.json, <VM id>.ovf for each.
Reading trusts nothing: regular files with exactly these names, sizes within
what is there, nothing twice. What lies behind the archive's end is ignored: on
block storage the volume is larger than the tar. Both go piece by piece, as a store
may be large: only its documents are held, and those compressed. Pure. Source: oVirt's
ProcessOvfUpdateForStorageDomainCommand, POSIX ustar.

    header, 512 bytes: name 0..100 · size 124..136 octal · checksum 148..156 octal
    (of the header with that field as spaces) · type 156 ("0" or NUL: a file)
"""

import itertools
import json
import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from node.errors import Invalid
from node.model.ids import StorageDomainId, VmId
from node.storage.ovf import description
from node.storage.ovf.document import DOCUMENT_MAX
from node.units import MiB

STORE_MAX: Final = 128 * MiB  # oVirt's OVF_STORE volumes are of this size
DOCUMENTS_MAX: Final = 20_000  # more than a storage domain has disks for
# Of a store, when its documents are compressed: XML becomes a tenth, and what does not
# become a quarter is none. The agent has 80 MB.
HELD_MAX: Final = 24 * MiB

_BLOCK: Final = 512
_RECORD: Final = 20 * _BLOCK  # an archive is a multiple of it, as tar writes them
_INFO: Final = "info.json"
_METADATA: Final = "metadata.json"
_NAME: Final = re.compile(
    r"(?P<vm_id>[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})\.ovf"
    rf"|{re.escape(_INFO)}|{re.escape(_METADATA)}"
)
_OCTAL: Final = re.compile(rb"[ \0]*([0-7]{1,11})[ \0]*")
_FILES: Final = (b"0", b"\0")
_DOWN: Final = 0  # oVirt's number of a VM that does not run
_FAST: Final = 1  # of zlib: twice as fast as its usual, and a tenth larger


class DamagedOvfStore(Invalid):
    """It is no OVF_STORE, or one that nobody should unpack."""

    code = "damaged_ovf_store"
    remedy = "Use the storage domain's other OVF_STORE; it is written anew hourly."


class Documents(Mapping[VmId, bytes]):
    """Documents by their VMs, held compressed."""

    def __init__(self, documents: Iterable[tuple[VmId, bytes]]) -> None:
        """Each is asked for when the one before is compressed. DamagedOvfStore."""
        self._packed: dict[VmId, bytes] = {}
        size_bytes = 0
        for vm_id, data in documents:
            packed = self._packed[vm_id] = zlib.compress(data, _FAST)
            size_bytes += len(packed)
            if size_bytes > HELD_MAX:
                raise DamagedOvfStore("its documents are too large to be held")

    def __getitem__(self, vm_id: VmId) -> bytes:
        return zlib.decompress(self._packed[vm_id])

    def __iter__(self) -> Iterator[VmId]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)


@dataclass(frozen=True, slots=True)
class OvfStore:
    documents: Mapping[VmId, bytes]  # VMs and templates, as they are written
    updated_at: str | None = None  # RFC 3339
    storage_domain_ids: tuple[StorageDomainId, ...] = ()
    # oVirt's numbers of the states of VMs
    states: Mapping[VmId, int] = field(default_factory=dict)

    def not_down(self) -> frozenset[VmId]:
        """Return the VMs that may run somewhere: start none of them unasked."""
        return frozenset(
            vm_id for vm_id, state in self.states.items() if state != _DOWN
        )


def write(store: OvfStore, at: datetime) -> Iterator[bytes]:
    """Yield the tar in pieces; the same store and moment give the same bytes."""
    info = {
        "Last Updated": description.java_date(at),
        "Storage Domains": [{"uuid": each} for each in store.storage_domain_ids],
    }
    metadata = {"VM Status": dict(sorted(store.states.items()))}
    files = itertools.chain(
        [(_INFO, json.dumps(info, indent=2).encode())],
        ((f"{each}.ovf", store.documents[each]) for each in sorted(store.documents)),
        [(_METADATA, json.dumps(metadata, indent=2).encode())],
    )
    written = 0
    for name, data in files:
        header = tarfile.TarInfo(name)
        header.size = len(data)
        header.mtime = int(at.astimezone(UTC).timestamp())
        padding = bytes(-len(data) % _BLOCK)
        yield header.tobuf(tarfile.USTAR_FORMAT)
        yield data
        yield padding
        written += _BLOCK + len(data) + len(padding)
    end = 2 * _BLOCK
    yield bytes(end + -(written + end) % _RECORD)


def read(pieces: Iterable[bytes]) -> OvfStore:
    """Return what an OVF_STORE holds; DamagedOvfStore if it is none.

    No more pieces are asked for than there are to the archive's end.
    """
    words: dict[str, bytes] = {}  # what is no document
    documents = Documents(_documents(_files(_Source(pieces)), words))
    if _INFO not in words:
        raise DamagedOvfStore(f"{_INFO} is missing")
    info = _json(words[_INFO], _INFO)
    metadata = _json(words.get(_METADATA, b"{}"), _METADATA)
    return OvfStore(
        documents,
        description.moment_of(info.get("Last Updated")),
        description.storage_domains_of(info.get("Storage Domains")),
        _states(metadata.get("VM Status")),
    )


def _documents(
    files: Iterable[tuple[str, bytes]], words: dict[str, bytes]
) -> Iterator[tuple[VmId, bytes]]:
    """Yield the documents among the files, and put the others into `words`."""
    names: set[str] = set()
    for name, content in files:
        if name in names:
            raise DamagedOvfStore(f"{name} stands there twice", name=name)
        if len(names) > DOCUMENTS_MAX:
            raise DamagedOvfStore(f"there are more than {DOCUMENTS_MAX} documents")
        names.add(name)
        if name in (_INFO, _METADATA):
            words[name] = content
        else:
            yield VmId(name.removesuffix(".ovf")), content


class _Source:
    """The bytes of a store, from its beginning."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.at = 0  # how much was taken
        self._pieces = iter(pieces)
        self._piece = memoryview(b"")

    def take(self, size_bytes: int) -> bytes:
        """Return the next bytes; fewer at the end. DamagedOvfStore: too many."""
        taken = bytearray()
        while len(taken) < size_bytes:
            if not self._piece:
                following = next(self._pieces, None)
                if following is None:
                    break
                self._piece = memoryview(following)
            wanted = size_bytes - len(taken)
            taken += self._piece[:wanted]
            self._piece = self._piece[wanted:]
        self.at += len(taken)
        if self.at > STORE_MAX:
            raise DamagedOvfStore(f"the store has {self.at} bytes", size=self.at)
        return bytes(taken)


def _files(source: _Source) -> Iterator[tuple[str, bytes]]:
    while True:
        at = source.at
        header = source.take(_BLOCK)
        if len(header) < _BLOCK:
            raise DamagedOvfStore("the archive has no end", offset=at)
        if not any(header):
            return
        name, size = _header(header, at)
        if size > DOCUMENT_MAX:
            raise DamagedOvfStore(f"{name} cannot have {size} bytes", name=name)
        yield name, source.take(size)
        source.take(-size % _BLOCK)


def _header(header: bytes, at: int) -> tuple[str, int]:
    summed = sum(header[:148]) + 8 * ord(" ") + sum(header[156:])
    if _octal(header[148:156], at) != summed:
        raise DamagedOvfStore(f"the header at {at} is damaged", offset=at)
    name = header[:100].rstrip(b"\0").decode("ascii", "replace")
    if (
        header[156:157] not in _FILES
        or not _NAME.fullmatch(name)
        or any(header[345:500])
    ):
        shown = name[:80]
        raise DamagedOvfStore(f"{shown!r} does not belong into an OVF_STORE", offset=at)
    return name, _octal(header[124:136], at)


def _octal(text: bytes, at: int) -> int:
    match = _OCTAL.fullmatch(text)
    if match is None:
        raise DamagedOvfStore(f"the header at {at} has no number there", offset=at)
    return int(match[1], 8)


def _json(data: bytes, name: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DamagedOvfStore(f"{name} is not JSON: {error}", name=name) from error
    if not isinstance(value, dict):
        raise DamagedOvfStore(f"{name} is not a JSON object", name=name)
    return value


def _states(value: Any) -> dict[VmId, int]:
    if not isinstance(value, dict):
        return {}
    return {
        VmId(each): state
        for each, state in value.items()
        if type(state) is int and _NAME.fullmatch(f"{each}.ovf")
    }
