"""Be the agent's storage part in a host: one JSON object a line, each way.

{"do": "become"} → {"said": …} or {"error": code, "message": …}

python -m tests.lab.story.spm_driver NODE_ID POOL_ID MOUNT RUN_FOLDER
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from node import log as logs
from node.clock import SystemClock
from node.errors import Error
from node.model.ids import NodeId
from node.policy.spm import Timing
from node.storage.aside import Aside
from node.storage.domains import formatting
from node.storage.domains.access import Access, LocalFolders
from node.storage.formats.domain_meta import DomainClass, DomainMeta, DomainType
from node.storage.formats.layout import Layout
from node.storage.guard import SocketGuard
from node.storage.process.__main__ import SOCKET
from node.storage.spm.candidacy import Candidacy, Self
from node.storage.spm.pool import Options, Pool
from node.system import command
from node.system.mounts import SystemMounts

IO_TIMEOUT_S = 3
SOURCE = "nas.lab:/shared"
# Leaving, or joining after a crash, at the speed of the lab.
ASIDE_S = 60.0
WATCHDOG = Path("/run/wdmd/wdmd.sock")
WRITER = "writer"
LOCAL_FOLDERS = LocalFolders(SystemMounts(command.run).find)
# As much faster than in the product as sanlock is here.
TIMING = Timing(election_s=10.0, turn_s=15.0, publication_s=10.0, retry_s=20.0)


class Driver:
    """What the test asks for, by name."""

    def __init__(self, node_id: str, pool_id: str, mount: str, run_folder: str) -> None:
        self._mount = PurePosixPath(mount)
        self._node_id = NodeId(node_id)
        self._guard = SocketGuard(Path(run_folder) / SOCKET)
        self._pool = Pool(
            pool_id,
            self._node_id,
            self._guard,
            SystemClock(),
            local_folders=LOCAL_FOLDERS,
            recover=lambda _term: None,
            remember=lambda _map: None,
            has_watchdog=WATCHDOG.exists,
            options=Options(io_timeout_s=IO_TIMEOUT_S),
        )
        self._aside = Aside()
        self._candidacy = Candidacy(
            self._pool,
            self._guard,
            self._node_id,
            SystemClock(),
            lambda: Self(node_id, self._hears_leader),
            TIMING,
            self._aside.do,
        )
        self._hears_leader = True

    def make(self, sd: str) -> None:
        access = self._access(sd)
        meta = DomainMeta(
            sd, DomainType.POSIXFS, DomainClass.DATA, "lab", access.source
        )
        now_s = int(time.time())
        formatting.make(self._guard, access, meta, now_s, LOCAL_FOLDERS, IO_TIMEOUT_S)

    def create(self, sd: str) -> int:
        self._pool.create(self._access(sd))
        return self._pool.spm.term().lease_version

    def attach(self, sd: str) -> int:
        self._pool.attach(self._access(sd))
        return self._pool.activate(sd).generation

    def connect(self, sd: str) -> int:
        """Return our host id on a storage domain of the pool."""
        self._pool.connect(self._access(sd))
        self._pool.refresh()
        return self._pool.join(self._access(sd))

    def become(self, lease_version: int | None = None) -> int:
        return self._pool.spm.become(lease_version).lease_version

    def leave(self, stand_back_s: float = 0.0) -> None:
        self._pool.spm.leave(stand_back_s)

    def ask(self, lease_version: int) -> None:
        self._candidacy.ask(lease_version)

    def lose_leader(self) -> None:
        """Hear no aggregator any more."""
        self._hears_leader = False

    def go_round(self) -> dict[str, Any]:
        """Do a round, and what it began."""
        sight = self._candidacy.go_round()
        self._aside.wait(ASIDE_S)
        return {
            "state": self._pool.spm.state,
            "reason": sight.reason.code if sight.reason else "",
            "holder": sight.holder.node_id if sight.holder else None,
            "liveness": sight.holder.liveness if sight.holder else None,
            "is_serving": bool(sight.holder and sight.holder.is_serving),
            "members": {each.node_id: each.host_id for each in sight.members},
        }

    def state(self) -> str:
        self._pool.spm.check()
        return self._pool.spm.state

    def write(self, sd: str) -> None:
        """Let a program write under the manager's lease until it is killed."""
        term = self._pool.spm.term()
        path = self._access(sd).layout.images / WRITER
        loop = f"while :; do echo {self._node_id} >>{path}; sleep 0.02; done"
        step_id = f"{WRITER}-{term.number}"
        self._guard.run(step_id, ["/bin/sh", "-c", loop], term.needs(sd))

    def touch(self, sd: str) -> None:
        """Do one thing that only the manager may."""
        with self._pool.spm.work() as term:
            access = self._access(sd)
            files = access.files(self._guard, term.needs(sd))
            files.write_whole(str(access.layout.images / "touched"), b"x", 0o660)

    def _access(self, sd: str) -> Access:
        return Access(Layout(self._mount / sd), SOURCE)


def main() -> None:
    """Answer until nobody asks any more."""
    logs.configure("DEBUG")
    driver = Driver(*sys.argv[1:])
    for line in sys.stdin:
        request = json.loads(line)
        verb: Callable[..., Any] = getattr(driver, request.pop("do"))
        try:
            answer = {"said": verb(**request)}
        except Error as error:
            answer = {"error": error.code, "message": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
