"""Call the product's TLS ports as somebody who may not, or with borrowed papers.

curl runs at the lab's switch; certificates and keys lie in files of the test.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from node import pki
from node.model.fleet import Role
from node.model.ids import FleetId, NodeId
from tests.lab.fleet import Fleet
from tests.lab.lab import Lab

API_PORT: Final = 7440
NODE_ADMISSION_PORT: Final = 7441
FEED_PORT: Final = 7442
_LIFETIME_S: Final = 3600.0  # longer than any test
_MARK: Final = "\nstatus "


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: Any

    @property
    def code(self) -> str:
        """Return the code of the error that was answered; empty: it was none."""
        return str(self.body["error"]["code"]) if self.status >= 400 else ""


@dataclass(frozen=True, slots=True)
class Papers:
    """A certificate and its key, in files."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class StrangeFleet:
    """A CA of our own, with the names of a real fleet."""

    fleet_id: FleetId
    key: pki.Key
    certificate: str

    @classmethod
    def found(cls, fleet_id: str) -> "StrangeFleet":
        key = pki.make_key()
        named = FleetId(fleet_id)
        return cls(named, key, pki.make_ca(key, named, datetime.now(UTC)))

    def issue(self, csr: str, node_id: str, role: Role = Role.NODE) -> str:
        subject = pki.Subject(NodeId(node_id), role, self.fleet_id)
        now = datetime.now(UTC)
        return pki.issue(self.key, self.certificate, csr, subject, (), now, _LIFETIME_S)


def borrow(fleet: Fleet, name: str, folder: Path) -> Papers:
    """Copy the certificate and the key that a member uses now."""
    is_host = name.startswith("h")
    where = "/var/lib/skerry/pki" if is_host else "/var/lib/skerry-aggregator/pki"
    certificate = "member.pem" if is_host else "certificate.pem"
    return write(
        folder / name,
        fleet.file(name, f"{where}/{certificate}"),
        fleet.file(name, f"{where}/key.pem"),
    )


def foreign(fleet_id: str, name: str, role: Role, folder: Path) -> Papers:
    """Make papers of another CA that say the same as good ones."""
    key = pki.make_key()
    stranger = StrangeFleet.found(fleet_id)
    csr = pki.signing_request(key, name)
    return write(folder / "foreign", stranger.issue(csr, name, role), _text(key))


def self_signed(name: str, folder: Path) -> Papers:
    """Make papers that only their own key vouches for."""
    key = pki.make_key()
    certificate = pki.self_signed(key, name, datetime.now(UTC))
    return write(folder / "self", certificate, _text(key))


def write(stem: Path, certificate: str, key: str) -> Papers:
    """Put papers into two files."""
    papers = Papers(stem.with_suffix(".pem"), stem.with_suffix(".key"))
    papers.certificate.write_text(certificate)
    papers.key.write_text(key)
    return papers


def ask(
    lab: Lab,
    url: str,
    papers: Papers | None = None,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: object = None,
) -> Answer:
    """Send one request; whoever answers is not checked."""
    argv = ["curl", "-sS", "-k", "-m", "10", "-X", method, "-w", _MARK + "%{http_code}"]
    if papers is not None:
        argv += ["--cert", str(papers.certificate), "--key", str(papers.key)]
    for name, value in (headers or {}).items():
        argv += ["-H", f"{name}: {value}"]
    if body is not None:
        argv += ["-H", "Content-Type: application/json", "--data-binary", "@-"]
    text = json.dumps(body) if body is not None else None
    result = lab.in_switch([*argv, url], input=text)
    assert result.returncode == 0, result.stderr
    content, _, status = result.stdout.rpartition(_MARK)
    return Answer(int(status), json.loads(content))


def _text(key: pki.Key) -> str:
    return pki.dump_key(key).reveal()
