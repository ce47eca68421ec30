"""Know the SHA-256 of base images: each file is read once, in the background.

What was found is remembered with the file's inode, size and time of change; a file
that differs in one of them is another one. The reader rests as long as it reads and
runs at the lowest priority, so that guests have the disk first.
"""

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from node.errors import Error
from node.model.host import Image
from node.storage import images
from node.store import Store
from node.units import MiB

log = logging.getLogger(__name__)

_SETTING: Final = "image_checksums"
_PIECE: Final = 4 * MiB  # some hundredths of a second on a slow disk
_NICEST: Final = 19
# A file that is being copied here changes all the time: look again after a while.
_AGAIN_S: Final = 5.0

# inode, size in bytes, time of change in ns, SHA-256
Known = Mapping[str, tuple[int, int, int, str]]


class Checksums:
    """Lists the images of a folder, with the checksums that are known."""

    def __init__(self, folder: Path, store: Store, on_news: Callable[[], None]) -> None:
        self._folder = folder
        self._store = store
        self._on_news = on_news
        # Never changed in place: who lists needs no lock.
        self._known: Known = {
            name: (each[0], each[1], each[2], each[3])
            for name, each in (store.setting(_SETTING) or {}).items()
        }
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="checksums", daemon=True)

    def list(self) -> tuple[Image, ...]:
        """Return the images; those without a checksum get theirs later."""
        found = tuple(
            replace(image, sha256=self._checksum(image.name))
            for image in images.list_images(self._folder)
        )
        if not all(image.sha256 for image in found):
            self._wake.set()
        return found

    def start(self) -> None:
        self._thread.start()

    def stop(self, deadline_s: float) -> None:
        """Stop; a file that is half read is read anew at the next start."""
        self._stopped.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(deadline_s)

    def read_missing(self) -> None:
        """Read the files whose checksums are not known, and remember them."""
        listed = images.list_images(self._folder)
        missing = [each.name for each in listed if not self._checksum(each.name)]
        for name in missing:
            found = self._read(self._path(name))
            if found is None:
                continue
            known = {**self._known, name: found}
            self._known = {
                each.name: known[each.name] for each in listed if each.name in known
            }
            with self._store.change() as change:
                change.set(
                    _SETTING, {key: list(each) for key, each in self._known.items()}
                )
            self._on_news()

    def _run(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICEST)
        while True:
            self._wake.wait()
            self._wake.clear()
            if self._stopped.is_set():
                return
            try:
                self.read_missing()
            except Error as error:
                log.warning("checksums of images cannot be kept: %s", error)
            self._stopped.wait(_AGAIN_S)

    def _checksum(self, name: str) -> str:
        known = self._known.get(name)
        if known is None:
            return ""
        try:
            is_same = _identity(self._path(name).stat()) == known[:3]
        except OSError:
            return ""
        return known[3] if is_same else ""

    def _read(self, path: Path) -> tuple[int, int, int, str] | None:
        """Return a file's identity and checksum; None if it changed meanwhile."""
        began = time.monotonic()
        digest = hashlib.sha256()
        try:
            with path.open("rb", buffering=0) as file:
                before = _identity(os.fstat(file.fileno()))
                while True:
                    piece_began = time.monotonic()
                    piece = file.read(_PIECE)
                    digest.update(piece)
                    if not piece:
                        break
                    if self._stopped.wait(time.monotonic() - piece_began):
                        return None
            after = _identity(path.stat())
        except OSError as error:
            log.debug("image %s cannot be read: %s", path, error)
            return None
        if before != after:
            log.debug("image %s changed while it was read", path)
            return None
        log.info("checksum of %s known after %.1f s", path, time.monotonic() - began)
        return (*before, digest.hexdigest())

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}{images.SUFFIX}"


def _identity(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns
