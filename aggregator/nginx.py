"""Say which doors an aggregator opens to the network.

Pure. People's, with a certificate of the fleet's CA; the feed, with client
certificates that are not revoked; admission, for nodes without a good one.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from aggregator import authority, passage
from node.http import nginx

# 2,500 nodes keep a connection each, and one more to the application behind.
CONNECTIONS: Final = 8192

_IMAGE: Final = (
    f"^{passage.PREFIX}/(?<skerry_node>[0-9A-Za-z._-]{{1,64}})"
    "(?<skerry_image>/images/[0-9A-Za-z-]{1,64}"
    "(?:/extents|/checksum|/checksum/algorithms)?)$"
)

# Only a member's own certificate is believed, so nothing else is reached here; who the
# client is stays with us.
_PASSAGE: Final = """\

        # Disks, for clients who do not reach the nodes.
        location ~ "{image}" {{
            auth_request {where};
            auth_request_set $skerry_place $upstream_http_{place};
            proxy_pass https://$skerry_place$skerry_image$is_args$args;
            proxy_ssl_trusted_certificate {ca};
            proxy_ssl_verify on;
            proxy_ssl_verify_depth 1;
            proxy_ssl_name $skerry_node;
            proxy_http_version 1.1;
            proxy_read_timeout {timeout};
            proxy_set_header Connection "";
            proxy_set_header Cookie "";
            proxy_set_header Authorization "";{stream}
        }}
        location ^~ {where} {{
            internal;
            client_max_body_size 0;  # the body is not this one's
            proxy_pass http://people;
            proxy_http_version 1.1;
            proxy_method GET;
            proxy_pass_request_headers off;
            proxy_pass_request_body off;
            proxy_set_header Connection "";
            proxy_set_header Content-Length "";
            proxy_set_header {node} $skerry_node;
        }}
"""


@dataclass(frozen=True, slots=True)
class AggregatorFront:
    run_folder: Path
    state_folder: Path
    https_port: int
    feed_port: int
    admission_port: int
    has_ipv6: bool
    user: str = "www-data"


def render(front: AggregatorFront) -> str:
    """Return nginx.conf of an aggregator."""
    people = replace(
        _door(front, "people", "People and their programs.", front.https_port),
        more=_PASSAGE.format(
            image=_IMAGE,
            where=passage.WHERE,
            node=passage.NODE,
            place=passage.PLACE.lower().replace("-", "_"),
            ca=front.state_folder / authority.CA_CERTIFICATE,
            timeout=nginx.STREAM_TIMEOUT,
            stream=nginx.STREAM,
        ),
    )
    admission = _door(
        front,
        "admission",
        "Enrolment and renewal: no client certificates.",
        front.admission_port,
    )
    feed = _door(
        front,
        "ingest",
        "The feed: members of the fleet only.",
        front.feed_port,
        ca=str(front.state_folder / authority.CA_CERTIFICATE),
        revoked=str(front.state_folder / authority.REVOKED),
    )
    return nginx.render(
        nginx.Front(
            str(front.run_folder),
            (people, feed, admission),
            front.has_ipv6,
            front.user,
            workers="auto",
            connections=CONNECTIONS,
        )
    )


def _door(
    front: AggregatorFront,
    name: str,
    comment: str,
    port: int,
    *,
    ca: str = "",
    revoked: str = "",
) -> nginx.Door:
    return nginx.Door(
        name,
        comment,
        port,
        str(front.state_folder / authority.CERTIFICATE),
        str(front.state_folder / authority.KEY),
        str(front.run_folder / f"{name}.sock"),
        ca,
        revoked,
    )
