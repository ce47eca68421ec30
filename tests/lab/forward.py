"""Forward connections of an inherited listening socket to another network.

Runs alone (`python3 -I forward.py DESCRIPTOR ADDRESS PORT`): the socket listens in
the machine's network namespace and was handed in; this process lives in the
switch's, and so do the connections it makes.
"""

import asyncio
import contextlib
import socket
import sys

CONNECTIONS_MAX = 256  # a browser opens six; beyond this they wait in the backlog
CONNECT_TIMEOUT_S = 5.0
CHUNK_BYTES = 65536


async def serve(listener: socket.socket, address: str, port: int) -> None:
    """Forward for ever."""
    room = asyncio.Semaphore(CONNECTIONS_MAX)

    async def forward(
        near_in: asyncio.StreamReader, near_out: asyncio.StreamWriter
    ) -> None:
        async with room:
            # A peer that is off or hangs up is the user's test, not our failure.
            with contextlib.suppress(OSError, TimeoutError):
                far_in, far_out = await asyncio.wait_for(
                    asyncio.open_connection(address, port), CONNECT_TIMEOUT_S
                )
                await asyncio.gather(pump(near_in, far_out), pump(far_in, near_out))
                far_out.close()
            near_out.close()

    server = await asyncio.start_server(forward, sock=listener)
    async with server:
        await server.serve_forever()


async def pump(source: asyncio.StreamReader, destination: asyncio.StreamWriter) -> None:
    """Copy one direction until its end, then tell the other side of the end."""
    with contextlib.suppress(OSError):
        while chunk := await source.read(CHUNK_BYTES):
            destination.write(chunk)
            await destination.drain()
        if destination.can_write_eof():
            destination.write_eof()


if __name__ == "__main__":
    inherited = socket.socket(fileno=int(sys.argv[1]))
    inherited.setblocking(False)
    asyncio.run(serve(inherited, sys.argv[2], int(sys.argv[3])))
