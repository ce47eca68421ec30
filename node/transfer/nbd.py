"""Read and write an image through the unix socket of a qemu-nbd.

Requests may be under way together: `ask_…` returns at once, `wait` collects. One
thread at a time uses a client. Source: NBD's proto.md; why it is ours:
docs/decisions/0005-transfers.md.
"""

import contextlib
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from node.clock import Clock
from node.errors import Error, Failed, Unavailable
from node.transfer import extents, nbd_wire
from node.transfer.nbd_wire import Chunk, Command, Export, NotNbd, Option, OptionReply
from node.transfer.stream import PeerGone, PeerSilent, Stream

# Its socket is there some milliseconds before it listens. A dead one refuses, too.
_LISTEN_LOOKS: Final = 20
_LISTEN_LOOK_S: Final = 0.025
# A qemu-nbd that has all the connections it wants does not greet another one.
GREETING_S: Final = 10.0
# Storage that takes longer hangs; no client waits as long.
REQUEST_S: Final = 120.0
# More than one at a time would let others starve; QEMU takes up to 2 GiB.
ZERO_BYTES_MAX: Final = 256 * 1024 * 1024
STATUS_BYTES_MAX: Final = 1024 * 1024 * 1024
_ANSWERS_MAX: Final = 64  # to one option; more is no server

# NBD's error numbers that say what to do.
_NO_SPACE: Final = 28
_FORBIDDEN: Final = 1


class ImageUnreachable(Unavailable):
    """qemu-nbd does not answer, or is gone."""

    code = "image_unreachable"
    remedy = "See whether the transfer still runs; begin it again if not."


class StorageHangs(Unavailable):
    code = "storage_hangs"
    remedy = "See why the storage of this image does not answer, then send it again."


class ImageFailed(Failed):
    """The storage refused a read or a write."""

    code = "image_failed"
    remedy = "Read the log of the qemu-nbd that serves this image, then send it again."


class NoSpace(ImageFailed):
    code = "no_space"
    remedy = "Free or add space on the storage domain, then send it again."


class ImageReadOnly(ImageFailed):
    code = "image_read_only"
    remedy = "Begin a transfer that may write."


@dataclass(slots=True)
class _Asked:
    """A request under way, and what has come of it."""

    command: Command
    offset: int = 0
    view: memoryview | None = None  # where a read's data go
    got: int = 0
    statuses: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    error: Error | None = None
    is_done: bool = False


class Nbd:
    """A connection to one export."""

    def __init__(self, path: str, export: str, is_dirty: bool, clock: Clock) -> None:
        """Connect; `is_dirty`: with the one bitmap that the server exports."""
        self.size_bytes = 0
        self.contexts: dict[int, str] = {}
        self._flags = Export(0)
        self._asked: dict[int, _Asked] = {}
        self._last_handle = 0
        self._is_broken = False
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._stream = Stream(connection, clock)
        self._stream.patience_s = GREETING_S
        try:
            _connect(connection, path)
            self._greet(export, is_dirty)
        except (OSError, PeerGone, PeerSilent) as error:
            self._stream.close()
            raise ImageUnreachable(f"qemu-nbd does not answer: {error}") from error
        except NotNbd:
            self._stream.close()
            raise
        self._stream.patience_s = REQUEST_S

    @property
    def may_share(self) -> bool:
        """Tell whether others may write at the same time, and one flush for all."""
        return Export.MULTI in self._flags

    @property
    def is_usable(self) -> bool:
        """Tell whether this connection is free and sound."""
        return not (self._is_broken or self._asked or self._stream.has_news())

    def ask_read(self, offset: int, view: memoryview) -> int:
        """Ask for bytes, which `wait` puts into the view; return a handle."""
        return self._ask(Command.READ, offset, len(view), view=view)

    def ask_write(self, offset: int, view: memoryview) -> int:
        """Send bytes; the view is free afterwards. Return a handle."""
        return self._ask(Command.WRITE, offset, len(view), view)

    def wait(self, handle: int) -> None:
        """Return when a request has ended well; raise what it ended with."""
        self._finish(handle)

    def zero(self, offset: int, length: int, is_sparse: bool) -> None:
        """Let bytes read as zeroes; sparse: without the space, if possible."""
        assert length <= ZERO_BYTES_MAX, "the caller takes steps"
        flags = 0 if is_sparse else nbd_wire.NO_HOLE
        self._finish(self._ask(Command.WRITE_ZEROES, offset, length, flags=flags))

    def flush(self) -> None:
        """Return when what was written is on the storage."""
        if Export.FLUSH in self._flags:
            self._finish(self._ask(Command.FLUSH, 0, 0))

    def statuses(self, offset: int, length: int) -> dict[str, extents.Status]:
        """Return what each context says from here on, perhaps not up to the end."""
        asked = self._finish(self._ask(Command.BLOCK_STATUS, offset, length))
        return {self.contexts[number]: said for number, said in asked.statuses.items()}

    def close(self) -> None:
        """Say good-bye and hang up."""
        with contextlib.suppress(Error):
            if not self._is_broken:
                self._request(Command.DISCONNECT, 0, 0, 0, 0)
        self._stream.close()

    def _greet(self, export: str, is_dirty: bool) -> None:
        magic, option_magic, flags = nbd_wire.GREETING.unpack(
            self._stream.read(nbd_wire.GREETING.size)
        )
        if (magic, option_magic) != (nbd_wire.MAGIC, nbd_wire.OPTION_MAGIC):
            raise NotNbd("this is no NBD server")
        if not flags & nbd_wire.FIXED_NEWSTYLE:
            raise NotNbd("the NBD server speaks an old form")
        self._stream.send(nbd_wire.CLIENT_FLAGS.pack(nbd_wire.FIXED_NEWSTYLE))
        self._option(Option.STRUCTURED_REPLY)
        queries = [extents.ALLOCATION, extents.DEPTH]
        if is_dirty:
            queries += self._bitmaps(export)
        wanted = nbd_wire.meta_contexts(export, queries)
        self.contexts = dict(
            nbd_wire.read_meta_context(payload)
            for kind, payload in self._option(Option.SET_META_CONTEXT, wanted)
            if kind == OptionReply.META_CONTEXT
        )
        if extents.ALLOCATION not in self.contexts.values():
            raise NotNbd("the NBD server does not say where data are")
        for kind, payload in self._option(Option.GO, nbd_wire.go(export)):
            info = nbd_wire.read_info(payload) if kind == OptionReply.INFO else None
            if info is not None:
                self.size_bytes, self._flags = info.size_bytes, info.flags

    def _bitmaps(self, export: str) -> list[str]:
        """Return the name of the exported bitmap; two would contradict each other."""
        wanted = nbd_wire.meta_contexts(export, [extents.DIRTY])
        found = [
            nbd_wire.read_meta_context(payload)[1]
            for kind, payload in self._option(Option.LIST_META_CONTEXT, wanted)
            if kind == OptionReply.META_CONTEXT
        ]
        return found if len(found) == 1 else []

    def _option(self, kind: Option, payload: bytes = b"") -> list[tuple[int, bytes]]:
        """Ask for an option; return the answers before the last one."""
        self._stream.send(nbd_wire.option(kind, payload))
        answers: list[tuple[int, bytes]] = []
        while len(answers) < _ANSWERS_MAX:
            magic, option, reply, length = nbd_wire.OPTION_REPLY.unpack(
                self._stream.read(nbd_wire.OPTION_REPLY.size)
            )
            if (magic, option) != (nbd_wire.OPTION_REPLY_MAGIC, kind):
                raise NotNbd(f"the answer to {kind.name} is none")
            if length > nbd_wire.OPTION_BYTES_MAX:
                raise NotNbd(f"the answer to {kind.name} has {length} bytes")
            data = bytes(self._stream.read(length))
            if reply == OptionReply.ACK:
                return answers
            if reply & nbd_wire.OPTION_ERROR:
                text = data.decode(errors="replace")
                raise NotNbd(f"{kind.name} was refused: {text or hex(reply)}")
            answers.append((reply, data))
        raise NotNbd(f"the answer to {kind.name} does not end")

    def _ask(
        self,
        command: Command,
        offset: int,
        length: int,
        payload: memoryview | bytes = b"",
        *,
        view: memoryview | None = None,
        flags: int = 0,
    ) -> int:
        self._last_handle += 1
        handle = self._last_handle
        self._asked[handle] = _Asked(command, offset, view)
        self._request(command, flags, handle, offset, length, payload)
        return handle

    def _request(
        self,
        command: Command,
        flags: int,
        handle: int,
        offset: int,
        length: int,
        payload: memoryview | bytes = b"",
    ) -> None:
        head = nbd_wire.REQUEST.pack(
            nbd_wire.REQUEST_MAGIC, flags, command, handle, offset, length
        )
        with self._unbroken():
            self._stream.send(head, payload)

    def _finish(self, handle: int) -> _Asked:
        asked = self._asked[handle]
        with self._unbroken():
            while not asked.is_done:
                self._receive()
        del self._asked[handle]
        if asked.error is not None:
            raise asked.error
        if asked.view is not None and asked.got < len(asked.view):
            self._is_broken = True
            raise NotNbd("a read was answered in part")
        return asked

    @contextlib.contextmanager
    def _unbroken(self) -> Iterator[None]:
        """Give the connection up if anything goes wrong on it."""
        is_sound = False
        try:
            yield
            is_sound = True
        except PeerGone as error:
            raise ImageUnreachable(f"qemu-nbd is gone: {error}") from error
        except PeerSilent as error:
            raise StorageHangs(f"no answer for {REQUEST_S:g} s") from error
        finally:
            self._is_broken = self._is_broken or not is_sound

    def _receive(self) -> None:
        """Take one reply, whomever it is for."""
        head = self._stream.read(nbd_wire.SIMPLE.size)
        magic, error, handle = nbd_wire.SIMPLE.unpack(head)
        if magic == nbd_wire.SIMPLE_MAGIC:
            asked = self._asked_for(handle)
            if asked.view is not None:
                raise NotNbd("a read was answered without its structure")
            asked.error = _error(error, "") if error else None
            asked.is_done = True
            return
        if magic != nbd_wire.STRUCTURED_MAGIC:
            raise NotNbd("the reply has another magic number")
        head += self._stream.read(nbd_wire.STRUCTURED.size - len(head))
        _, flags, kind, handle, length = nbd_wire.STRUCTURED.unpack(head)
        asked = self._asked_for(handle)
        self._receive_chunk(asked, kind, length)
        asked.is_done = bool(flags & nbd_wire.CHUNK_DONE)

    def _asked_for(self, handle: int) -> _Asked:
        asked = self._asked.get(handle)
        if asked is None or asked.is_done:
            raise NotNbd("a reply to what was not asked")
        return asked

    def _receive_chunk(self, asked: _Asked, kind: int, length: int) -> None:
        if kind & nbd_wire.CHUNK_ERROR:
            payload = self._payload(length, nbd_wire.ERROR_BYTES_MAX)
            asked.error = asked.error or _error(*nbd_wire.read_error(payload))
        elif kind == Chunk.DATA:
            data_length = length - nbd_wire.OFFSET.size
            (offset,) = nbd_wire.OFFSET.unpack(self._payload(nbd_wire.OFFSET.size))
            target = _target(asked, offset, data_length)
            if self._stream.fill(target) < data_length:
                raise PeerGone("the connection has ended")
            asked.got += data_length
        elif kind == Chunk.HOLE:
            offset, size = nbd_wire.HOLE.unpack(self._payload(length))
            _target(asked, offset, size)[:] = bytes(size)
            asked.got += size
        elif kind == Chunk.BLOCK_STATUS and asked.command is Command.BLOCK_STATUS:
            payload = self._payload(length, nbd_wire.STATUS_BYTES_MAX)
            number, said = nbd_wire.read_status(payload)
            if number not in self.contexts:
                raise NotNbd("a block status of no context that was asked for")
            asked.statuses[number] = said
        elif kind != Chunk.NONE or length:
            raise NotNbd(f"a reply of unknown kind {kind}")

    def _payload(self, length: int, length_max: int = nbd_wire.HOLE.size) -> bytes:
        if length > length_max:
            raise NotNbd(f"a reply of {length} bytes")
        return bytes(self._stream.read(length))


def _connect(connection: socket.socket, path: str) -> None:
    """Connect to who listens there, or will in a moment; OSError."""
    for _ in range(_LISTEN_LOOKS):
        with contextlib.suppress(ConnectionRefusedError):
            connection.connect(path)
            return
        time.sleep(_LISTEN_LOOK_S)
    connection.connect(path)


def _target(asked: _Asked, offset: int, length: int) -> memoryview:
    """Return the place in a read's view; NotNbd if it is not in there."""
    start = offset - asked.offset
    if asked.view is None or start < 0 or not 0 < length <= len(asked.view) - start:
        raise NotNbd("data that were not asked for")
    return asked.view[start : start + length]


def _error(number: int, text: str) -> Error:
    kinds: dict[int, type[ImageFailed]] = {
        _NO_SPACE: NoSpace,
        _FORBIDDEN: ImageReadOnly,
    }
    kind = kinds.get(number, ImageFailed)
    return kind(f"the storage says: {text or f'error {number}'}")
