"""Send a file to an image, or fetch one, over several connections at once.

A window of the image is moved by all connections, then flushed: who is interrupted
goes on after the last whole window. Holes travel as a word. Sizes are bytes.
"""

import os
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from node.errors import Error
from node.transfer import checksum
from node.transfer.checksum import BLOCK_BYTES, ZeroDigests
from node.transfer.extents import Extent
from node.transfer.remote import Remote
from node.units import MiB

# One window is sent again at most, and a flush each so many bytes costs little.
WINDOW_BYTES: Final = 64 * MiB
# One request: a connection that breaks loses no more.
PIECE_BYTES: Final = 16 * MiB
ALGORITHM: Final = "sha256"

# Told after each window, and each piece: so many bytes of the image are done.
Tell = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Piece:
    start: int
    length: int
    is_zero: bool


def file_extents(file: int, size_bytes: int) -> Iterator[Extent]:
    """Yield the data and holes of a file; what is after its end is zeros."""
    end = min(os.fstat(file).st_size, size_bytes)
    start = 0
    while start < end:
        try:
            data = min(os.lseek(file, start, os.SEEK_DATA), end)
        except OSError:  # nothing but a hole is left
            data = end
        if data > start:
            yield Extent(start, data - start, True, True)
        hole = data
        if data < end:
            hole = min(os.lseek(file, data, os.SEEK_HOLE), end)
            yield Extent(data, hole - data, False, False)
        start = hole
    if end < size_bytes:
        yield Extent(end, size_bytes - end, True, True)


def pieces(extents: Iterable[Extent], start: int, end: int) -> Iterator[Piece]:
    """Cut what lies between two places into requests. Pure."""
    for extent in extents:
        at, stop = max(extent.start, start), min(extent.end, end)
        step = max(stop - at, 1) if extent.is_zero else PIECE_BYTES
        while at < stop:
            length = min(step, stop - at)
            yield Piece(at, length, extent.is_zero)
            at += length


def file_checksum(file: int, size_bytes: int) -> str:
    """Sum a file up as the server does with an image."""
    new = checksum.hasher(ALGORITHM)
    whole, zeros = new(), ZeroDigests(new)
    for block in checksum.blocks(file_extents(file, size_bytes), BLOCK_BYTES):
        if block.is_zero:
            whole.update(zeros.of(block.length))
            continue
        hashed = new()
        data = os.pread(file, block.length, block.start)
        hashed.update(data)
        hashed.update(bytes(block.length - len(data)))  # after the file's end
        whole.update(hashed.digest())
    return str(whole.hexdigest())


def upload(
    url: str,
    context: ssl.SSLContext,
    file: int,
    size_bytes: int,
    done_bytes: int,
    tell: Tell,
) -> None:
    """Send what comes after `done_bytes`; `tell` hears what was flushed."""

    def move(remote: Remote, piece: Piece) -> None:
        if piece.is_zero:
            remote.zero(piece.start, piece.length)
        else:
            remote.put(file, piece.start, piece.length)

    extents = tuple(file_extents(file, size_bytes))
    with _Crew(url, context) as crew:
        for start in range(done_bytes, size_bytes, WINDOW_BYTES):
            end = min(start + WINDOW_BYTES, size_bytes)
            crew.work(tuple(pieces(extents, start, end)), move)
            crew.first.flush()
            tell(end)


def download(
    url: str,
    context: ssl.SSLContext,
    file: int,
    size_bytes: int,
    done_bytes: int,
    tell: Tell,
) -> None:
    """Fetch what comes after `done_bytes` into a file that has holes elsewhere."""

    def move(remote: Remote, piece: Piece) -> None:
        if not piece.is_zero:
            remote.get(file, piece.start, piece.length)

    with _Crew(url, context) as crew:
        extents = crew.first.extents()
        for start in range(done_bytes, size_bytes, WINDOW_BYTES):
            end = min(start + WINDOW_BYTES, size_bytes)
            crew.work(tuple(pieces(extents, start, end)), move)
            os.fsync(file)
            tell(end)


class _Crew:
    """As many connections as the server offers, each with a thread while it works."""

    def __init__(self, url: str, context: ssl.SSLContext) -> None:
        self.first = Remote(url, context)
        self._remotes = [self.first]
        self._url = url
        self._context = context

    def __enter__(self) -> "_Crew":
        try:
            count = self.first.offer().connections
        except BaseException:
            self.first.close()
            raise
        self._remotes += [Remote(self._url, self._context) for _ in range(count - 1)]
        return self

    def __exit__(self, *_: object) -> None:
        for remote in self._remotes:
            remote.close()

    def work(
        self, todo: Sequence[Piece], move: Callable[[Remote, Piece], None]
    ) -> None:
        """Move all pieces; the first error after all have stopped."""
        left = iter(todo)
        lock = threading.Lock()
        errors: list[BaseException] = []

        def run(remote: Remote) -> None:
            while not errors:
                with lock:
                    piece = next(left, None)
                if piece is None:
                    return
                try:
                    move(remote, piece)
                except (Error, OSError) as error:
                    errors.append(error)

        count = min(len(self._remotes), len(todo))
        threads = [
            threading.Thread(target=run, args=(remote,), name="image", daemon=True)
            for remote in self._remotes[:count]
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
