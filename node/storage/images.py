"""List the base images: qcow2 files that the node's administrator put there.

The size a guest sees is read from the file's header. An image that refers to
another file (a backing or data file) is passed over: a guest could read any
file of the host through it.
"""

import logging
import os
from datetime import UTC, datetime
from pathlib import Path

from node.clock import rfc3339
from node.errors import NotFound
from node.model.host import Image
from node.storage.formats import layout, qcow2

log = logging.getLogger(__name__)

SUFFIX = ".qcow2"
_BLOCK = 512  # unit of st_blocks


class ImageUnknown(NotFound):
    """The node has no such image, or its file does not stand alone."""

    code = "base_image_unknown"
    remedy = "See `skerry-node image list` of the node that manages the pool."


def list_images(folder: Path) -> tuple[Image, ...]:
    """Return the images in a folder by name; one that is not there has none."""
    images = []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        name = path.name.removesuffix(SUFFIX)
        if not layout.is_base_image(name):
            log.debug("%s is no name of an image", path)
            continue
        image = _read(path, name)
        if image is not None:
            images.append(image)
    return tuple(images)


def find_image(folder: Path, name: str) -> Image:
    """Return one image, as its file is now; ImageUnknown."""
    image = (
        _read(folder / f"{name}{SUFFIX}", name) if layout.is_base_image(name) else None
    )
    if image is None:
        raise ImageUnknown(f"{name[:80]!a} is no base image of this node", image=name)
    return image


def _read(path: Path, name: str) -> Image | None:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            size = virtual_size(file.read(qcow2.START_BYTES))
    except OSError as error:
        log.debug("image %s cannot be read: %s", path, error)
        return None
    if size is None:
        log.debug("%s is no qcow2 file that stands alone", path)
        return None
    changed = datetime.fromtimestamp(status.st_mtime, UTC)
    return Image(name, size, status.st_blocks * _BLOCK, modified_at=rfc3339(changed))


def virtual_size(header: bytes) -> int | None:
    """Return the size in a qcow2 header; None if it is none, or not alone."""
    found = qcow2.read(header)
    if found is None or found.backing is not None or found.has_data_file:
        return None
    return found.size_bytes
