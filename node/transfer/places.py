"""Say where the transfer server listens, to itself and to the agent.

Apart from the server, which the agent need not load.
"""

import os
from pathlib import Path
from typing import Final

SOCKET: Final = "transfer.sock"
TICKETS_SOCKET: Final = "transfer-tickets.sock"
RUN_FOLDER: Final = Path("/run/skerry/transfer")
STORAGE_ID: Final = 36  # vdsm and kvm: who owns the files of every storage domain


def make_folder(folder: Path) -> None:
    """Make the folder of the sockets; root gives it to the storage user."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    if os.geteuid() == 0:
        os.chown(folder, STORAGE_ID, STORAGE_ID)
