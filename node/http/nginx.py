"""Write a configuration for nginx, where all our TLS ends.

Pure. A door is a port with its certificate and the socket of the application
behind it. The identity headers of clients are dropped; behind a door that asks
for client certificates ours are set: role and subject from a certificate that
the fleet's CA signed. Source: nginx.org/en/docs, the modules http_ssl,
http_proxy, http_map and http_core.
"""

import json
from dataclasses import dataclass
from typing import Final

# A sealed copy of the documents of 2,500 nodes takes about 1 MiB.
BODY_MAX: Final = "2m"
# Longer than the longest wait that a verb allows (20 s).
READ_TIMEOUT: Final = "60s"
# A sum over a whole disk takes long to answer; transfers have a patience of their own.
STREAM_TIMEOUT: Final = "1h"
# Connections to an application that stay open: as many as it has threads.
_KEPT_OPEN: Final = 8

# The code of nginx's own answer when the application is away or breaks off: whether
# it has acted is not known.
SERVICE_DOWN: Final = "service_down"

# A subject as RFC 2253 writes it; a name cannot hold what ends a part of it.
_SUBJECT: Final = r"^CN=([0-9A-Za-z._-]+),OU=(node|aggregator),O=[0-9a-f-]+$"

_FRAME: Final = """\
# Written by Skerry at each start and change; edits are lost.
user {user};
worker_processes {workers};
pid {run}/nginx.pid;
error_log stderr warn;

events {{
    worker_connections {connections};
}}

http {{
    access_log off;
    server_tokens off;
    default_type application/json;
    underscores_in_headers off;  # else X_Skerry_Role would pass for X-Skerry-Role
    client_max_body_size {body_max};
    client_body_buffer_size {body_max};
    client_body_temp_path {run}/nginx-body;
    proxy_temp_path {run}/nginx-proxy;
    fastcgi_temp_path {run}/nginx-fastcgi;
    uwsgi_temp_path {run}/nginx-uwsgi;
    scgi_temp_path {run}/nginx-scgi;
    proxy_max_temp_file_size 0;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_cache none;  # so that a new CA or a revocation counts at once
    ssl_session_tickets off;

    map $ssl_client_s_dn $skerry_subject {{
        default "";
        "~{subject}" $1;
    }}
    map $ssl_client_s_dn $skerry_role {{
        default "";
        "~{subject}" $2;
    }}
{doors}}}
"""

_DOOR: Final = """
    # {comment}
    upstream {name} {{
        server unix:{socket};
        keepalive {kept_open};
    }}
    server {{
{listen}
        ssl_certificate {certificate};
        ssl_certificate_key {key};
{verify}{errors}
        location / {{
            proxy_pass http://{name};
            proxy_http_version 1.1;
            proxy_read_timeout {read_timeout};
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Real-IP $remote_addr;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto https;
{identity}{stream}
        }}
{more}    }}
"""

_VERIFY: Final = """\
        ssl_client_certificate {ca};
        ssl_verify_client on;
        ssl_verify_depth 1;
"""

# The application logs who was refused and answers; if it is down, nginx answers.
_REFUSED: Final = """\
        error_page 495 496 =403 @refused;
        location @refused {{
            proxy_pass http://{name};
            proxy_http_version 1.1;
            proxy_method GET;
            proxy_pass_request_headers off;
            proxy_pass_request_body off;
            proxy_set_header Connection "";
            proxy_set_header Content-Length "";
            proxy_set_header X-Real-IP $remote_addr;
            proxy_set_header X-Skerry-Refused $ssl_client_verify;
            recursive_error_pages on;
            error_page 502 504 =403 @certificate_refused;
        }}
"""

# The fingerprint is SHA-1, the only one that nginx has: for logs alone.
_IDENTITY: Final = """\
            proxy_set_header X-Skerry-Role $skerry_role;
            proxy_set_header X-Skerry-Subject $skerry_subject;
            proxy_set_header X-Skerry-Fingerprint $ssl_client_fingerprint;
            proxy_set_header X-Skerry-Refused "";"""

_NOBODY: Final = """\
            proxy_set_header X-Skerry-Role "";
            proxy_set_header X-Skerry-Subject "";
            proxy_set_header X-Skerry-Fingerprint "";
            proxy_set_header X-Skerry-Refused "";"""

# Bodies of any length pass through as they come, in pieces that fit into memory.
STREAM: Final = """
            client_max_body_size 0;
            proxy_request_buffering off;
            proxy_buffering off;
            proxy_buffer_size 512k;
            proxy_buffers 4 512k;
            proxy_busy_buffers_size 512k;
            proxy_send_timeout 1h;
            keepalive_requests 1000000;"""


@dataclass(frozen=True, slots=True)
class Door:
    """A port that nginx opens; paths are absolute, without blanks."""

    name: str
    comment: str
    port: int
    certificate: str
    key: str
    socket: str  # of the application behind it
    ca: str = ""  # whose certificates clients must have; empty: nobody needs one
    revoked: str = ""  # the CA's list of those that do not count; empty: none
    is_stream: bool = False  # of whole disks
    more: str = ""  # locations beside the application's


@dataclass(frozen=True, slots=True)
class Front:
    run_folder: str
    doors: tuple[Door, ...]
    has_ipv6: bool
    user: str = "www-data"  # of the workers: they must reach the sockets
    workers: str = "1"
    connections: int = 1024  # of one worker


@dataclass(frozen=True, slots=True)
class _OwnAnswer:
    """What nginx says itself, in the form of our errors."""

    causes: str  # nginx's own status codes
    status: int
    kind: str
    code: str
    message: str
    remedy: str


_ANSWERS: Final = (
    _OwnAnswer(
        "400 497",
        403,
        "denied",
        "certificate_refused",
        "the request or its certificate was refused",
        "Call over TLS, with a certificate of this fleet that has not ended.",
    ),
    _OwnAnswer(
        "413",
        400,
        "invalid",
        "body_too_large",
        "the body is too large",
        "Send less at once.",
    ),
    _OwnAnswer(
        "502 504",
        503,
        "unavailable",
        SERVICE_DOWN,
        "the service behind nginx does not answer",
        "Wait a moment; if it stays so, read the log of the service.",
    ),
)


def render(front: Front) -> str:
    """Return nginx.conf."""
    return _FRAME.format(
        user=front.user,
        workers=front.workers,
        run=front.run_folder,
        connections=front.connections,
        body_max=BODY_MAX,
        subject=_SUBJECT,
        doors="".join(_door(door, front.has_ipv6) for door in front.doors),
    )


def _door(door: Door, has_ipv6: bool) -> str:
    verify = _VERIFY.format(ca=door.ca) if door.ca else ""
    if door.revoked:
        verify += f"        ssl_crl {door.revoked};\n"
    refused = _REFUSED.format(name=door.name) if door.ca else ""
    return _DOOR.format(
        comment=door.comment,
        name=door.name,
        socket=door.socket,
        kept_open=_KEPT_OPEN,
        listen=_listen(door.port, has_ipv6),
        certificate=door.certificate,
        key=door.key,
        verify=verify,
        errors="".join(map(_answer, _ANSWERS)) + refused,
        read_timeout=STREAM_TIMEOUT if door.is_stream else READ_TIMEOUT,
        identity=_IDENTITY if door.ca else _NOBODY,
        stream=STREAM if door.is_stream else "",
        more=door.more,
    )


def _listen(port: int, has_ipv6: bool) -> str:
    lines = [f"        listen {port} ssl;"]
    if has_ipv6:
        lines.append(f"        listen [::]:{port} ssl ipv6only=on;")
    return "\n".join(lines)


def _answer(answer: _OwnAnswer) -> str:
    report = {
        "kind": answer.kind,
        "code": answer.code,
        "message": answer.message,
        "remedy": answer.remedy,
    }
    body = json.dumps({"error": report})
    assert "'" not in body, "the body is quoted by this sign"
    return (
        f"        error_page {answer.causes} ={answer.status} @{answer.code};\n"
        f"        location @{answer.code} {{ return {answer.status} '{body}'; }}\n"
    )
