"""Read addresses as people type them.

Pure. host, host:port, an IPv6 address, [IPv6]:port.
"""

import re
from typing import Final

from node.errors import Invalid

_ADDRESS: Final = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([^\[\]:\s]+))(?::(\d{1,5}))?")


class BadAddress(Invalid):
    code = "bad_address"
    remedy = "Give a host name or an IP address, with :port if it is not the usual one."


def parse_address(text: str, port: int) -> tuple[str, int]:
    """Return host and port of an address as a person types it; BadAddress."""
    text = text.strip()
    if text.count(":") > 1 and not text.startswith("["):
        text = f"[{text}]"
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise BadAddress(f"{text[:80]!r} is no address", field="address")
    number = int(match[3]) if match[3] else port
    if not 0 < number < 65536:
        raise BadAddress(f"{number} is no port", field="address")
    return match[1] or match[2], number
