"""Lay down on a storage domain what oVirt leaves there: written by hand, not by us."""

import io
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

STORES: Final = (
    "5e5a0fb0-aaaa-4b8e-9c53-000000000001",
    "5e5a0fb0-aaaa-4b8e-9c53-000000000002",
)
_VOLUME: Final = "5e5a0fb0-bbbb-4b8e-9c53-00000000000"
_CAP: Final = 134217728
NOTHING: Final = "00000000-0000-0000-0000-000000000000"


def info(when: str) -> bytes:
    text = f'{{"Last Updated":"{when}","Storage Domains":[]}}'
    return text.encode()


def tar(files: Mapping[str, bytes]) -> bytes:
    """Return an archive as oVirt's engine makes it: names and contents, in order."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in files.items():
            header = tarfile.TarInfo(name)
            header.size, header.mtime, header.mode = len(data), 1709251200, 0o100644
            archive.addfile(header, io.BytesIO(data))
    return packed.getvalue()


def meta(domain: str, image: str, description: str, **others: str) -> str:
    """Return a volume's metadata file."""
    lines = {
        "CAP": str(_CAP),
        "CTIME": "1709251200",
        "DESCRIPTION": description,
        "DISKTYPE": "OVFS",
        "DOMAIN": domain,
        "FORMAT": "RAW",
        "GEN": "0",
        "IMAGE": image,
        "LEGALITY": "LEGAL",
        "PUUID": NOTHING,
        "TYPE": "SPARSE",
        "VOLTYPE": "LEAF",
        **others,
    }
    return "".join(f"{key}={value}\n" for key, value in lines.items()) + "EOF\n"


def put_store(
    root: Path,
    number: int,
    data: bytes,
    when: str = "Fri Mar 01 00:00:00 UTC 2024",
    *,
    is_updated: bool = True,
    size: int | None = None,
) -> Path:
    """Put an OVF_STORE into a storage domain; return its data's file."""
    image, volume = STORES[number], f"{_VOLUME}{number + 1}"
    said = str(is_updated).lower()
    size_bytes = len(data) if size is None else size
    description = (
        f'{{"Updated":{said},"Size":{size_bytes},"Last Updated":"{when}",'
        f'"Storage Domains":[{{"uuid":"{root.name}"}}],'
        '"Disk Description":"OVF_STORE"}'
    )
    path = root / "images" / image / volume
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    os.truncate(path, _CAP)
    Path(f"{path}.meta").write_text(meta(root.name, image, description))
    Path(f"{path}.lease").touch()
    return path
