"""Say whether a watchdog daemon serves: the door to wdmd's socket.

Only that somebody listens is asked. sanlock itself joins no lockspace unless wdmd takes
its client. Source: wdmd(8).
"""

import socket
from pathlib import Path
from typing import Final

SOCKET: Final = Path("/run/wdmd/wdmd.sock")
_CONNECT_S: Final = 1.0  # it is on this machine


def is_served(path: Path = SOCKET) -> bool:
    """Tell whether a daemon listens there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(_CONNECT_S)
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True
