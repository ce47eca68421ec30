"""Be an NBD server with an image in memory, or one that breaks the protocol."""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from node.transfer import nbd_wire
from node.transfer.extents import ALLOCATION
from node.transfer.nbd_wire import Chunk, Command, Export, Option, OptionReply

DEADLINE_S = 30.0


@dataclass(frozen=True, slots=True)
class Request:
    command: int
    flags: int
    handle: int
    offset: int
    length: int


@dataclass(slots=True)
class Server:
    """Answers all connections; `reply` and `greeting` are for breaking things."""

    data: bytearray
    flags: Export = Export.FLUSH | Export.WRITE_ZEROES | Export.MULTI
    greeting: bytes = nbd_wire.GREETING.pack(
        nbd_wire.MAGIC, nbd_wire.OPTION_MAGIC, nbd_wire.FIXED_NEWSTYLE
    )
    option: Callable[[int], bytes] | None = None
    reply: Callable[[Request], bytes] | None = None
    connections: list[socket.socket] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    def serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, struct.error), connection:
            connection.sendall(self.greeting)
            _receive(connection, nbd_wire.CLIENT_FLAGS.size)
            self._negotiate(connection)
            while True:
                self._answer(connection)

    def hang_up(self) -> None:
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _negotiate(self, connection: socket.socket) -> None:
        kind = 0
        while kind != Option.GO:
            head = _receive(connection, nbd_wire.OPTION.size)
            _, kind, length = nbd_wire.OPTION.unpack(head)
            _receive(connection, length)
            if self.option is not None:
                connection.sendall(self.option(kind))
                continue
            if kind == Option.SET_META_CONTEXT:
                named = struct.pack(">I", 0) + ALLOCATION.encode()
                connection.sendall(option_reply(kind, OptionReply.META_CONTEXT, named))
            if kind == Option.GO:
                info = struct.pack(">HQH", 0, len(self.data), self.flags)
                connection.sendall(option_reply(kind, OptionReply.INFO, info))
            connection.sendall(option_reply(kind, OptionReply.ACK))

    def _answer(self, connection: socket.socket) -> None:
        head = nbd_wire.REQUEST.unpack(_receive(connection, nbd_wire.REQUEST.size))
        _, flags, command, handle, offset, length = head
        request = Request(command, flags, handle, offset, length)
        payload = _receive(connection, length) if command == Command.WRITE else b""
        self.requests.append(request)
        if self.reply is not None:
            connection.sendall(self.reply(request))
            return
        if command == Command.WRITE:
            self.data[offset : offset + length] = payload
        if command == Command.WRITE_ZEROES:
            self.data[offset : offset + length] = bytes(length)
        if command == Command.READ:
            data = nbd_wire.OFFSET.pack(offset) + self.data[offset : offset + length]
            connection.sendall(chunk(handle, Chunk.DATA, data, is_done=False))
        if command == Command.BLOCK_STATUS:
            status = struct.pack(">III", 0, length, 0)
            connection.sendall(chunk(handle, Chunk.BLOCK_STATUS, status, is_done=False))
        if command != Command.DISCONNECT:
            connection.sendall(chunk(handle, Chunk.NONE))


def option_reply(kind: int, reply: int, payload: bytes = b"") -> bytes:
    head = (nbd_wire.OPTION_REPLY_MAGIC, kind, reply, len(payload))
    return nbd_wire.OPTION_REPLY.pack(*head) + payload


def chunk(handle: int, kind: int, payload: bytes = b"", is_done: bool = True) -> bytes:
    head = (nbd_wire.STRUCTURED_MAGIC, int(is_done), kind, handle, len(payload))
    return nbd_wire.STRUCTURED.pack(*head) + payload


def simple(handle: int, error: int = 0) -> bytes:
    return nbd_wire.SIMPLE.pack(nbd_wire.SIMPLE_MAGIC, error, handle)


@contextlib.contextmanager
def listening(server: Server, path: Path) -> Iterator[Server]:
    """Let a server answer at a socket until the end."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen()
    threads: list[threading.Thread] = []

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                server.connections.append(connection)
                threads.append(
                    threading.Thread(target=server.serve, args=(connection,))
                )
                threads[-1].start()

    threads.append(threading.Thread(target=accept))
    threads[0].start()
    try:
        yield server
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        threads[0].join(DEADLINE_S)
        server.hang_up()
        for thread in threads:
            thread.join(DEADLINE_S)
            assert not thread.is_alive()
        path.unlink()


def _receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise ConnectionResetError
        data += piece
    return data
