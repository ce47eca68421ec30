"""`skerry` in a shell of its own, and an aggregator on loopback with real TLS."""

import contextlib
import hashlib
import logging
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import flask
from werkzeug.serving import make_server

from aggregator import rest
from aggregator.api import app as api
from aggregator.cli import client, main
from node import pki
from node.http import face, serving
from node.model.fleet import Role
from tests.fakes import services as fakes
from tests.fakes.papers import PaperFleet
from tests.unit import terminal
from tests.unit.terminal import Ended


def run(*words: str, typed: str = "") -> Ended:
    """Run a command as a person would type it."""
    return terminal.run(main.main, list(words), typed)


@dataclass(frozen=True, slots=True)
class Desk:
    """An aggregator made of fakes, and where it is."""

    fleet: fakes.Fleet
    port: int
    ca: str
    called: list[str]  # names of the verbs

    @property
    def ca_fingerprint(self) -> str:
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(self.ca)).hexdigest()

    def log_in(self) -> None:
        """Keep a session, as `skerry login` would."""
        session = client.Session("127.0.0.1", self.port, "", self.ca)
        token = client.connect(session).login("admin@internal", fakes.PASSWORD)
        client.save(client.session_path(), replace(session, token=token.token))

    def ok(self, *words: str, typed: str = "") -> Ended:
        ended = run(*words, typed=typed)
        assert ended.status == 0, ended.err
        return ended


@contextlib.contextmanager
def serve(
    folder: Path, make_fleet: Callable[[], fakes.Fleet] = fakes.make_fleet
) -> Iterator[Desk]:
    """Serve the API and the CA's certificate until the end."""
    papers = PaperFleet(now=datetime.now(UTC))
    fleet = make_fleet()
    services = replace(fleet.services, ca_certificate=lambda: papers.ca)
    ovirt = face.Application("rest")
    ovirt.register_blueprint(rest.blueprint(services))
    app = api.create(services)
    called: list[str] = []

    @app.before_request
    def note() -> None:
        verb = face.verb_of(app, flask.request.endpoint)
        called.extend([verb.name] if verb else [])

    people = serving.by_prefix(app, {"/ovirt-engine": ovirt})
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server(
        "127.0.0.1", 0, people, threaded=True, ssl_context=_context(papers, folder)
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield Desk(fleet, server.server_port, papers.ca, called)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _context(papers: PaperFleet, folder: Path) -> ssl.SSLContext:
    key = pki.make_key()
    files = folder / "cert.pem", folder / "key.pem"
    request = pki.signing_request(key, "a1")
    files[0].write_text(papers.issue(request, "a1", Role.AGGREGATOR))
    files[1].write_text(pki.dump_key(key).reveal())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    return context
