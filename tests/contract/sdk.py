"""Serve the REST API of a fleet of fakes on loopback, for oVirt's Python SDK."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import ovirtsdk4 as sdk
import waitress.server
from waitress import wasyncore

from aggregator import rest
from node.http import face
from tests.fakes.services import PASSWORD, Fleet

USER = "admin@internal"


@dataclass(frozen=True, slots=True)
class Served:
    fleet: Fleet
    url: str


@contextlib.contextmanager
def serve(fleet: Fleet) -> Iterator[Served]:
    """Serve a fleet until the end of the block."""
    app = face.Application(__name__)
    app.register_blueprint(rest.blueprint(fleet.services))
    listener = socket.create_server(("127.0.0.1", 0))
    channels: dict[int, object] = {}
    server = waitress.server.create_server(
        app, map=channels, sockets=[listener], threads=2
    )
    stopping = threading.Event()

    def run() -> None:
        while not stopping.is_set():
            wasyncore.loop(timeout=0.1, map=channels, count=1)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield Served(fleet, f"http://127.0.0.1:{listener.getsockname()[1]}")
    finally:
        stopping.set()
        thread.join(10)
        server.task_dispatcher.shutdown()
        wasyncore.close_all(channels)
        listener.close()


def connect(served: Served, **options: object) -> sdk.Connection:
    """Return the SDK's connection, which is not opened yet."""
    settings = {"username": USER, "password": PASSWORD, **options}
    return sdk.Connection(url=f"{served.url}/ovirt-engine/api", **settings)
