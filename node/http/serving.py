"""Serve applications on unix sockets, each with threads of its own.

nginx stands before the sockets of the network; its workers reach them by their
group. Nobody else can: whoever writes there is believed to be nginx.
"""

import grp
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import waitress.server

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]

BACKLOG: Final = 1024  # connections of a moment in which all nodes push
CONNECTIONS: Final = 1000
NGINX_GROUP: Final = "www-data"  # whom Debian runs its workers as
IDLE_S: Final = 60  # then a connection that nginx kept open is closed


class Server:
    """One application on one socket; `group` may connect, None: root only."""

    def __init__(
        self,
        path: Path,
        application: Application,
        threads: int,
        group: str | None = None,
    ) -> None:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # of a predecessor that was killed
        self._server = waitress.server.create_server(
            application,
            map={},  # its own: servers of one process must not share sockets
            unix_socket=os.fspath(path),
            unix_socket_perms="600" if group is None else "660",
            threads=threads,
            backlog=BACKLOG,
            connection_limit=CONNECTIONS,
            channel_timeout=IDLE_S,
            asyncore_use_poll=True,  # select cannot hold descriptors above 1023
            clear_untrusted_proxy_headers=False,
            ident="skerry",
        )
        if group is not None:
            os.chown(path, -1, grp.getgrnam(group).gr_gid)
        self._thread = threading.Thread(
            target=self._server.run, name=f"serve-{path.stem}", daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Take no more connections; requests under way are answered."""
        is_running = self._thread.is_alive()
        if is_running:  # its loop must not meet a closed socket
            self._server.trigger.pull_trigger(self._close_door)
        self._server.task_dispatcher.shutdown()
        if not is_running:
            self._server.close()

    def waiting(self) -> int:
        """Return how many requests no thread has taken yet."""
        return len(self._server.task_dispatcher.queue)

    def _close_door(self) -> None:
        """Close what listens; the server's own close would break what goes on."""
        self._server.del_channel()
        self._server.socket.close()


def by_prefix(default: Application, others: Mapping[str, Application]) -> Application:
    """Return an application that passes each path to the one with its prefix."""

    def choose(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        for prefix, application in others.items():
            if path == prefix or path.startswith(prefix + "/"):
                return application(environ, start_response)
        return default(environ, start_response)

    return choose
