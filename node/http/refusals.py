"""Log and answer who came to a door of ours without a good certificate.

nginx passes such a request on, with its reason in X-Skerry-Refused and nothing
that the stranger sent. Anybody can knock: one line is logged in a while.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final

from node import wire
from node.clock import Clock

log = logging.getLogger(__name__)

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]

LOG_EVERY_S: Final = 1.0  # more often a stranger would fill the log
_REASON: Final = "HTTP_X_SKERRY_REFUSED"
_MISSING: Final = "NONE"  # what nginx calls it
_ANSWER: Final = wire.encode(
    {
        "error": {
            "kind": "denied",
            "code": "certificate_refused",
            "message": "the request or its certificate was refused",
            "remedy": "Call over TLS, with a certificate of this fleet "
            "that has not ended.",
        }
    }
)


class Refusals:
    """Count strangers, and log the first of each while."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._logged_at = float("-inf")
        self._unlogged = 0

    def behind(self, application: Application) -> Application:
        """Return an application that sees only who was not refused."""

        def serve(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            reason = environ.get(_REASON, "")
            if not reason:
                return application(environ, start_response)
            self.note(environ.get("HTTP_X_REAL_IP", ""), reason)
            headers = [
                ("Content-Type", "application/json"),
                ("Content-Length", str(len(_ANSWER))),
            ]
            start_response("403 Forbidden", headers)
            return [_ANSWER]

        return serve

    def note(self, address: str, reason: str) -> None:
        """Log a refusal, or count it until the next one that is logged."""
        now = self._clock.monotonic()
        with self._lock:
            if now - self._logged_at < LOG_EVERY_S:
                self._unlogged += 1
                return
            self._logged_at, unlogged, self._unlogged = now, self._unlogged, 0
        why = "it has no certificate" if reason == _MISSING else reason
        log.warning("refused %s: %s (%d more before)", address, why, unlogged)
