"""What every door of ours has."""

import dataclasses
import json
import re

from node.http import nginx

OPEN = nginx.Door("open", "Anybody.", 7441, "/c.pem", "/k.pem", "/open.sock")
CLOSED = nginx.Door(
    "closed", "Members.", 7440, "/c.pem", "/k.pem", "/x.sock", "/ca.pem", "/crl.pem"
)


def text_of(*doors: nginx.Door, has_ipv6: bool = False) -> str:
    return nginx.render(nginx.Front("/run/x", doors, has_ipv6))


def test_render_drops_identity_headers_when_nobody_is_asked() -> None:
    text = text_of(OPEN)
    for name in ("Role", "Subject", "Fingerprint"):
        assert f'proxy_set_header X-Skerry-{name} "";' in text
    assert "ssl_verify_client" not in text


def test_render_asks_for_certificates_when_a_ca_is_given() -> None:
    text = text_of(CLOSED)
    assert "ssl_verify_client on;" in text
    assert "ssl_client_certificate /ca.pem;" in text
    assert "ssl_crl /crl.pem;" in text
    assert "X-Skerry-Role $skerry_role;" in text


def test_render_listens_on_ipv6_only_where_there_is_some() -> None:
    assert "[::]" not in text_of(OPEN)
    assert "listen [::]:7441 ssl ipv6only=on;" in text_of(OPEN, has_ipv6=True)


def test_render_answers_in_the_form_of_our_errors() -> None:
    bodies = re.findall(r"return \d+ '(.*)'; }", text_of(OPEN))
    reports = [json.loads(body)["error"] for body in bodies]
    assert {each["code"] for each in reports} == {
        "certificate_refused",
        "body_too_large",
        "service_down",
    }
    assert all(each["remedy"] for each in reports)


def test_render_opens_no_file_outside_the_run_folder() -> None:
    paths = re.findall(r"(?:_temp_path|pid) (\S+);", text_of(OPEN))
    assert len(paths) == 6
    assert all(path.startswith("/run/x/") for path in paths)


def test_render_keeps_nothing_of_a_stream_and_bounds_the_others() -> None:
    text = text_of(dataclasses.replace(OPEN, is_stream=True))
    for line in (
        "client_max_body_size 0;",
        "proxy_request_buffering off;",
        "proxy_buffering off;",
        "proxy_read_timeout 1h;",
    ):
        assert line in text
        assert line not in text_of(OPEN)
