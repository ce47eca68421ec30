"""Serve what needs no login: the health of the API and the fleet's certificate."""

import flask
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from aggregator.services import Services

# Monitoring compares with exactly this.
HEALTHY = "DB Up!Welcome to Health Status!"
_RESOURCES = frozenset({"ca-certificate", "qemu-ca-certificate"})


def add_routes(routes: flask.Blueprint, services: Services) -> None:
    """Serve health and pki-resource."""

    @routes.get("/ovirt-engine/services/health")
    def health() -> flask.Response:
        services.database.records("setting").list()  # an error if it is down
        return flask.Response(HEALTHY, mimetype="text/html")

    @routes.get("/ovirt-engine/services/pki-resource")
    def pki() -> flask.Response:
        name = flask.request.args.get("resource", "ca-certificate")
        form = flask.request.args.get("format", "X509-PEM")
        if name not in _RESOURCES:
            return flask.Response("no such resource\n", 400, mimetype="text/plain")
        pem = services.ca_certificate()
        if form == "X509-PEM-CA":
            return flask.Response(pem, mimetype="application/x-x509-ca-cert")
        if form == "X509-PEM":
            return flask.Response(pem, mimetype="application/x-x509-cert")
        if form == "OPENSSH-PUBKEY":
            return flask.Response(_ssh_key(pem), mimetype="text/plain")
        return flask.Response("no such format\n", 400, mimetype="text/plain")


def _ssh_key(pem: str) -> bytes:
    key = x509.load_pem_x509_certificate(pem.encode()).public_key()
    encoded: bytes = key.public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return encoded + b" skerry\n"
