"""Move bytes between a client and an image, with several requests under way.

What counts as done is what the image's server has confirmed. An upload that breaks
off leaves what was confirmed in place.
"""

import contextlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from node.errors import Error
from node.transfer import checksum, extents, nbd
from node.transfer.checksum import Block
from node.transfer.connection import Exchange
from node.transfer.extents import Extent
from node.transfer.nbd import Nbd
from node.transfer.nbd_wire import NotNbd
from node.transfer.stream import PeerGone
from node.transfer.tickets import Operation

# While one is written, the next comes from the client.
_WRITES_MAX: Final = 2


def upload(exchange: Exchange, image: Nbd, operation: Operation) -> None:
    """Write the body into the image, from where the operation starts."""
    buffer, _ = exchange.buffers()
    asked: deque[tuple[int, int]] = deque()  # (handle, length)

    def confirm(count_max: int) -> None:
        while len(asked) > count_max:
            handle, length = asked.popleft()
            image.wait(handle)
            operation.done += length

    offset = operation.start
    try:
        while exchange.unread_bytes:
            view = buffer[: exchange.unread_bytes]
            got = exchange.fill(view)
            if got:
                asked.append((image.ask_write(offset, view[:got]), got))
                offset += got
            if got < len(view):
                raise PeerGone("the client has ended the body")
            confirm(_WRITES_MAX - 1)
            operation.check()
    except BaseException:
        with contextlib.suppress(Error):
            confirm(0)
        raise
    confirm(0)


def download(
    image: Nbd,
    exchange: Exchange,
    operation: Operation,
    end: int,
    answer: tuple[int, Mapping[str, str]],
) -> None:
    """Send the image's bytes from where the operation starts.

    The answer begins when the first of them are there: until then it can be an error.
    """
    free = deque(exchange.buffers())
    asked: deque[tuple[int, memoryview, memoryview]] = deque()
    offset = operation.start
    while offset < end or asked:
        while free and offset < end:
            buffer = free.popleft()
            view = buffer[: end - offset]
            asked.append((image.ask_read(offset, view), view, buffer))
            offset += len(view)
        handle, view, buffer = asked.popleft()
        image.wait(handle)
        if not exchange.is_begun:
            exchange.begin(*answer)
        exchange.stream.send(view)
        operation.done += len(view)
        operation.check()
        free.append(buffer)
    if not exchange.is_begun:
        exchange.begin(*answer)


def zero(image: Nbd, operation: Operation, size: int, is_sparse: bool) -> None:
    """Let so much read as zeroes, from where the operation starts."""
    while operation.done < size:
        step = min(size - operation.done, nbd.ZERO_BYTES_MAX)
        image.zero(operation.start + operation.done, step, is_sparse)
        operation.done += step
        operation.check()


def describe(image: Nbd, size_bytes: int, unwanted: str) -> Iterator[Extent]:
    """Yield the image's extents; contexts whose name begins so are left out."""
    offset = 0
    while offset < size_bytes:
        length = min(size_bytes - offset, nbd.STATUS_BYTES_MAX)
        statuses = {
            name: status
            for name, status in image.statuses(offset, length).items()
            if not name.startswith(unwanted)
        }
        if extents.ALLOCATION not in statuses:
            raise NotNbd("a block status without its allocation")
        for extent in extents.read(offset, size_bytes, statuses):
            yield extent
            offset = extent.end


def hash_blocks(
    image: Nbd,
    operation: Operation,
    blocks: Iterable[Block],
    algorithm: str,
    buffers: tuple[memoryview, memoryview],
) -> str:
    """Return the checksum of an image's blocks, in hex."""
    new = checksum.hasher(algorithm)
    zeroes = checksum.ZeroDigests(new)
    total = new()
    for block in blocks:
        if block.is_zero:
            total.update(zeroes.of(block.length))
        else:
            hashed = new()
            for view in _read(image, block, buffers):
                hashed.update(view)
            total.update(hashed.digest())
        operation.check()
    digest: str = total.hexdigest()
    return digest


def _read(
    image: Nbd, block: Block, buffers: tuple[memoryview, memoryview]
) -> Iterator[memoryview]:
    """Yield a block's bytes; while one piece is used, the next one comes."""
    ends = block.start + block.length
    asked: deque[tuple[int, memoryview]] = deque()
    offset = block.start
    number = 0
    while offset < ends or asked:
        while len(asked) < len(buffers) and offset < ends:
            view = buffers[number % 2][: ends - offset]
            asked.append((image.ask_read(offset, view), view))
            offset += len(view)
            number += 1
        handle, view = asked.popleft()
        image.wait(handle)
        yield view
