"""Find ports for servers of tests.

The kernel's own ranges are left out: it may give such a port to any connection of any
process before the server listens. Source: ip(7) on ip_local_port_range.
"""

import random
import socket
from pathlib import Path
from typing import Final

_RANGE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_FIRST: Final = 10_000  # above those of well-known services

_given: set[int] = set()


def free_port() -> int:
    """Return a port of the loopback where nobody listens, another one each time."""
    end = int(_RANGE.read_text().split()[0])
    candidates = random.SystemRandom().sample(range(_FIRST, end), end - _FIRST)
    port = next(each for each in candidates if each not in _given and _is_free(each))
    _given.add(port)
    return port


def free_ports(count: int) -> list[int]:
    return [free_port() for _ in range(count)]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
