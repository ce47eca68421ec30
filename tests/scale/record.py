"""Record what a node really says, for the generator: `python -m tests.scale.record`.

Boots a host of the lab with a guest in a real, emulated QEMU, and rewrites
recorded/node.json. Needs root; run it again when documents have changed.
"""

import json
import logging
import sys
from typing import Final

from node import VERSION
from node.clock import SystemClock
from tests.scale import lab_host, samples

_TIMEOUT_S: Final = 600.0


def main() -> int:
    """Record, and check that the recording can be read."""
    logging.basicConfig(level="INFO", format="%(message)s", stream=sys.stderr)
    origin = f"a lab node of version {VERSION}, {SystemClock().now():%Y-%m-%d}"
    with lab_host.booted("record") as host:
        text = lab_host.run_inside(host, "recorder", origin, timeout_s=_TIMEOUT_S)
    samples.parse(json.loads(text))
    samples.FILE.write_text(text)
    print(f"wrote {samples.FILE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
