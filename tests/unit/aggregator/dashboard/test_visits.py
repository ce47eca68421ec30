"""Tests of aggregator.dashboard.visits."""

import flask
import pytest
from hypothesis import given
from hypothesis import strategies as some

from aggregator.dashboard import visits
from aggregator.dashboard.visits import Note

SECURE = "https://aggregator.test"
PLAIN = "http://aggregator.test"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        pytest.param("/ui/vms?q=a", "/ui/vms?q=a", id="ours"),
        pytest.param("//evil.test/", "/", id="another-host"),
        pytest.param("/\\evil.test/", "/", id="another-host-by-backslash"),
        pytest.param("https://evil.test/", "/", id="whole-address"),
        pytest.param("javascript:alert(1)", "/", id="script"),
        pytest.param("/ui\r\nSet-Cookie: a=b", "/", id="another-header"),
        pytest.param("/ui\tx", "/", id="control-character"),
        pytest.param("", "/", id="empty"),
        pytest.param(None, "/", id="none"),
    ],
)
def test_local_path_stays_on_this_site(text: str | None, path: str) -> None:
    assert visits.local_path(text, "/") == path


def _cookies(base: str, change: Note | str, proto: str = "") -> str:
    headers = {"X-Forwarded-Proto": proto}
    app = flask.Flask("test")
    with app.test_request_context("/", base_url=base, headers=headers):
        response = flask.make_response("")
        if isinstance(change, Note):
            visits.leave_note(response, change)
        else:
            visits.open_session(response, change)
        return response.headers["Set-Cookie"]


def test_open_session_hides_the_token_from_scripts_and_other_sites() -> None:
    assert _cookies(SECURE, "t0ken") == (
        "__Host-skerry=t0ken; Secure; HttpOnly; Path=/; SameSite=Strict"
    )


def test_open_session_is_secure_when_nginx_ends_tls() -> None:
    assert _cookies(PLAIN, "t0ken", "https").startswith("__Host-skerry=t0ken; Secure")


def test_open_session_works_without_tls() -> None:
    assert _cookies(PLAIN, "t0ken") == (
        "skerry=t0ken; HttpOnly; Path=/; SameSite=Strict"
    )


@given(some.text(max_size=200), some.text(max_size=200))
def test_a_note_reaches_the_next_page(text: str, remedy: str) -> None:
    cookie = _cookies(PLAIN, Note("bad", text, remedy)).split(";")[0]
    with flask.Flask("test").test_request_context("/", headers={"Cookie": cookie}):
        assert visits.read_note() == Note("bad", text, remedy)


@pytest.mark.parametrize(
    "packed",
    [
        pytest.param("", id="empty"),
        pytest.param("!!!", id="no-base64"),
        pytest.param("e30=", id="no-fields"),
        pytest.param("W10=", id="a-list"),
        pytest.param("é", id="not-ascii"),
    ],
)
def test_a_note_that_is_none_is_passed_over(packed: str) -> None:
    headers = {"Cookie": f"skerry-note={packed}"}
    with flask.Flask("test").test_request_context("/", headers=headers):
        assert visits.read_note() is None


def test_address_is_what_nginx_saw() -> None:
    headers = {"X-Real-IP": "192.0.2.77"}
    with flask.Flask("test").test_request_context("/", headers=headers):
        assert visits.address() == "192.0.2.77"
