"""Whether a watchdog daemon serves: its socket, and somebody behind it."""

import socket
from pathlib import Path

from node.system import watchdog


def test_is_served_only_while_somebody_listens(tmp_path: Path) -> None:
    path = tmp_path / "wdmd.sock"
    assert not watchdog.is_served(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(path))
        assert not watchdog.is_served(path)
        server.listen()
        assert watchdog.is_served(path)
    assert path.exists()
    assert not watchdog.is_served(path)
