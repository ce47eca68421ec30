"""Announce this node to aggregators on the same network.

The service _skerry._tcp at the admission port, with TXT: id, name, version,
fingerprint, state (waiting or admitted), ca (of the fleet it belongs to), api
(port). Nothing in it is secret, and nothing is believed unchecked.
"""

from typing import Final

from node.model.fleet import AdmissionRequest
from node.model.host import AdmissionState
from node.system import bus

SERVICE: Final = "_skerry._tcp"
_TEXT_BYTES_MAX: Final = 255  # of one pair in a TXT record (RFC 6763, section 6.1)


def service(request: AdmissionRequest) -> bus.Service:
    """Return what to announce for a node that shows this request."""
    is_waiting = request.is_waiting
    state = AdmissionState.WAITING if is_waiting else AdmissionState.ADMITTED
    texts = {
        "id": request.node_id,
        "name": request.name,
        "version": request.version,
        "fingerprint": request.fingerprint,
        "state": state.value,
        "ca": request.ca_fingerprint or "",
        "api": str(request.api_port),
    }
    return bus.Service(
        f"skerry-{request.node_id}",
        SERVICE,
        request.admission_port,
        {key: _fit(key, value) for key, value in texts.items()},
    )


class Discovery:
    """Keep what is announced as the node is."""

    def __init__(self, announcer: bus.Announcer) -> None:
        self._announcer = announcer

    def announce(self, request: AdmissionRequest) -> None:
        """Announce the node; again whenever its admission changes."""
        self._announcer.announce(service(request))

    def close(self) -> None:
        self._announcer.close()


def _fit(key: str, value: str) -> str:
    """Return a value cut to the length that its pair may have."""
    room = _TEXT_BYTES_MAX - len(key.encode()) - 1
    return value.encode()[:room].decode(errors="ignore")
