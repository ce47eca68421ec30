"""Read what the image files of this machine are: their format and size.

Only the header is read, and nothing that it names is opened. What a node is sent it
looks at itself before a guest may use it. Sizes are bytes.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from node.errors import Conflict, Invalid
from node.model.storage import DiskFormat
from node.storage.formats import qcow2

SECTOR_BYTES: Final = 4096  # of the storage domains with the largest sectors
_MAGIC: Final = b"QFI\xfb"


class NoImage(Invalid):
    code = "no_image"
    remedy = "Name a file that holds a disk: raw, or qcow2."


class ImageNotWhole(Conflict):
    """A part of the disk lies in another file."""

    code = "image_not_whole"
    remedy = "Make one file of it first: qemu-img convert -O qcow2 FILE WHOLE."


class OtherFormat(Conflict):
    code = "image_format_differs"
    remedy = (
        "Convert it first, or leave --format out: qemu-img convert -O raw FILE NEW."
    )


@dataclass(frozen=True, slots=True)
class Image:
    disk_format: DiskFormat
    file_bytes: int
    size_bytes: int  # of the disk in it, in whole sectors


def read(path: Path) -> Image:
    """Return what a file is; NoImage, ImageNotWhole."""
    try:
        with path.open("rb") as file:
            start = file.read(qcow2.START_BYTES)
            file.seek(0)
            start = file.read(qcow2.needed(start))
            file_bytes = path.stat().st_size
    except OSError as error:
        raise NoImage(f"{path} cannot be read: {error.strerror}") from error
    if not start:
        raise NoImage(f"{path} is empty")
    if not start.startswith(_MAGIC):
        return Image(DiskFormat.RAW, file_bytes, whole(file_bytes))
    header = qcow2.read(start)
    if header is None:
        raise NoImage(f"{path} is a damaged qcow2 file, or of an old version")
    if header.backing is not None or header.has_data_file:
        raise ImageNotWhole(f"{path} needs another file")
    return Image(DiskFormat.QCOW2, file_bytes, header.size_bytes)


def whole(size_bytes: int) -> int:
    """Return a size in whole sectors."""
    return -(-size_bytes // SECTOR_BYTES) * SECTOR_BYTES
