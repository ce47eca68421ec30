"""Let nginx serve what we are now: write its configuration, reload it."""

import logging
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from node import vault

log = logging.getLogger(__name__)

CONFIGURATION: Final = "nginx.conf"
_PID: Final = "nginx.pid"
_IPV6: Final = Path("/proc/net/if_inet6")


class Front:
    """nginx of a node or of an aggregator; `render` returns its configuration."""

    def __init__(self, run_folder: Path, render: Callable[[], str]) -> None:
        self._run_folder = run_folder
        self._render = render
        self._lock = threading.Lock()

    @property
    def configuration(self) -> Path:
        return self._run_folder / CONFIGURATION

    def argv(self, nginx: str = "nginx") -> tuple[str, ...]:
        """Return the command that runs nginx in the foreground."""
        path = str(self.configuration)
        return (nginx, "-e", "stderr", "-c", path, "-g", "daemon off;")

    def refresh(self) -> bool:
        """Write the configuration and reload nginx; tell whether nginx was told.

        nginx that does not run reads it when it starts.
        """
        with self._lock:
            vault.write(self.configuration, self._render(), vault.PUBLIC)
            pid = self._pid()
            if pid is None:
                log.info("nginx does not run yet; wrote %s", self.configuration)
                return False
            try:
                os.kill(pid, signal.SIGHUP)
            except ProcessLookupError:
                log.info("nginx of pid %d is gone; wrote %s", pid, self.configuration)
                return False
            log.info("reloaded nginx, pid %d", pid)
            return True

    def _pid(self) -> int | None:
        """Return the pid of a running nginx that is ours; None if there is none."""
        text = (vault.read(self._run_folder / _PID) or "").strip()
        if not text.isdecimal():
            return None
        # The file outlives a killed nginx, and its pid may be somebody else's now.
        try:
            name = Path(f"/proc/{text}/comm").read_text().strip()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return int(text) if name == "nginx" else None


def has_ipv6() -> bool:
    """Tell whether this machine's kernel speaks IPv6 here."""
    return _IPV6.exists()
