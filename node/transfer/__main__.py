"""Be the transfer server: `python -m node.transfer --run-folder FOLDER`.

It becomes the storage user, who may connect to the qemu-nbd of each transfer, and
outlives the agent. Two sockets lie in its folder: transfer.sock is nginx's and local
clients', who need a ticket; transfer-tickets.sock is the agent's, who makes them.
The folder is the storage user's: the qemu-nbds' sockets lie there, too.
"""

import argparse
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Final

from node import log as logs
from node import signals
from node.clock import SystemClock
from node.transfer import places
from node.transfer.images import Images
from node.transfer.server import Server
from node.transfer.ticket_verbs import TicketVerbs
from node.transfer.tickets import Tickets
from node.units import DAY_S, KiB

log = logging.getLogger(__name__)

# The ticket is what lets a client in, so anybody may knock.
_ANYBODY: Final = 0o666
_OWNER: Final = 0o600
_AGENT_CONNECTIONS_MAX: Final = 16
_STACK_BYTES: Final = 512 * KiB  # of a connection's thread: there may be a hundred
_GRACE_S: Final = 10.0  # for requests under way at the end


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    options = _parse(sys.argv[1:])
    logs.configure(options.log_level)
    threading.stack_size(_STACK_BYTES)
    folder: Path = options.run_folder
    if os.geteuid() == 0 and not options.stays_root:
        _become_storage_user(folder)
    clock = SystemClock()
    tickets = Tickets(clock)
    with signals.heard(signal.SIGTERM, signal.SIGINT) as wait:
        images = Server(
            folder / places.SOCKET,
            _ANYBODY,
            Images(tickets, str(folder / places.SOCKET)),
            clock,
        )
        verbs = Server(
            folder / places.TICKETS_SOCKET,
            _OWNER,
            TicketVerbs(tickets),
            clock,
            _AGENT_CONNECTIONS_MAX,
        )
        images.start()
        verbs.start()
        log.info("transfer server %d serves in %s", os.getpid(), folder)
        while wait(DAY_S) is None:
            pass
        images.close(_GRACE_S)
        verbs.close(0)
    log.info("transfer server %d ends", os.getpid())


def _become_storage_user(folder: Path) -> None:
    """Give up root for good, now that our code is loaded."""
    places.make_folder(folder)
    os.setgroups([])
    os.setresgid(places.STORAGE_ID, places.STORAGE_ID, places.STORAGE_ID)
    os.setresuid(places.STORAGE_ID, places.STORAGE_ID, places.STORAGE_ID)


def _parse(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="skerry-transfer", description=__doc__)
    parser.add_argument("--run-folder", type=Path, default=places.RUN_FOLDER)
    parser.add_argument("--log-level", default="INFO")
    parser.add_argument("--stays-root", action="store_true", help="as tests do")
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
