"""Answer the one verb that an aggregator calls unasked: who leads.

One TLS listener on the loopback stands for the API of all simulated nodes. What
it was told it says back, as a member does.
"""

import http.server
import ssl
import threading
from pathlib import Path


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: there are thousands of calls."""


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        # the handshake is the business of the thread that serves the call
        self.socket = context.wrap_socket(
            self.socket, server_side=True, do_handshake_on_connect=False
        )

    def handle_error(self, request: object, client_address: object) -> None:
        """Pass over callers that hang up: the aggregator is restarted."""


def start(port: int, certificate: Path) -> None:
    """Serve in the background for as long as this process lives."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = _Server(port, context)
    threading.Thread(target=server.serve_forever, daemon=True).start()
