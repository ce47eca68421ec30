"""A face parses strictly, answers errors as data, and lets few requests wait."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import flask
import pytest
from flask.testing import FlaskClient

from node.errors import Busy, Denied
from node.http import face
from node.model.verbs import ActionGroup, Caller, Object, Query, Verb

ID = "6f1c0000-0000-4000-8000-000000000001"


@dataclass(frozen=True, slots=True)
class Ask:
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Told:
    text: str


def _verb(name: str, method: str, path: str, **more: object) -> Verb:
    return Verb(
        name,
        method,
        path,
        "Test.",
        ActionGroup.READ,
        Object.NODE,
        Told,
        callers=frozenset({Caller.LOCAL}),
        **more,  # type: ignore[arg-type]  # the optional fields of Verb
    )


READ = _verb(
    "read",
    "GET",
    "/v1/things/{thing_id}",
    query=(Query("since", int, ""), Query("wait_s", float, "")),
)
WRITE = _verb("write", "POST", "/v1/things", request=Ask, status=201)
PICTURE = _verb("picture", "GET", "/v1/picture", media_type="image/png")
FAIL = _verb("fail", "GET", "/v1/fail")
BUG = _verb("bug", "GET", "/v1/bug")


class Waits:
    """Requests that wait until told to go on."""

    def __init__(self) -> None:
        self.started = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.allowed: list[float] = []

    def read(self, thing_id: str, since: int = 0, wait_s: float = 0.0) -> Told:
        self.allowed.append(wait_s)
        if wait_s:
            self.started.release()
            self.go_on.wait(10)
        return Told(f"{thing_id} {since}")


@pytest.fixture
def waits() -> Iterator[Waits]:
    waits = Waits()
    yield waits
    waits.go_on.set()


@pytest.fixture
def app(waits: Waits) -> flask.Flask:
    def fail() -> Told:
        raise Busy("another one runs", retry_after_s=3)

    def bug() -> Told:
        raise ZeroDivisionError

    routes = flask.Blueprint("things", __name__)
    face.bind(routes, READ, waits.read)
    face.bind(routes, WRITE, lambda request: Told(str(request.size_bytes)))
    face.bind(routes, PICTURE, lambda: b"\x89PNG")
    face.bind(routes, FAIL, fail)
    face.bind(routes, BUG, bug)

    def authorize(verb: Verb, path: object) -> None:
        if flask.request.headers.get("X-Nobody"):
            raise Denied("not you")

    return face.create_app("test", (routes,), authorize)


@pytest.fixture
def client(app: flask.Flask) -> FlaskClient:
    return app.test_client()


def test_answers_with_the_reply(client: FlaskClient) -> None:
    reply = client.get(f"/v1/things/{ID}?since=4")
    assert (reply.status_code, reply.json) == (200, {"text": f"{ID} 4"})


def test_answers_with_the_status_of_the_verb(client: FlaskClient) -> None:
    reply = client.post("/v1/things", json={"size_bytes": 7})
    assert (reply.status_code, reply.json) == (201, {"text": "7"})


def test_answers_bytes_as_they_are(client: FlaskClient) -> None:
    reply = client.get("/v1/picture")
    assert (reply.content_type, reply.data) == ("image/png", b"\x89PNG")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        pytest.param("GET", "/v1/things/x", None, 400, "malformed_id", id="id"),
        pytest.param(
            "GET", f"/v1/things/{ID}?since=x", None, 400, "bad_query", id="not-a-number"
        ),
        pytest.param(
            "GET", f"/v1/things/{ID}?wait_s=nan", None, 400, "bad_query", id="nan"
        ),
        pytest.param(
            "GET", f"/v1/things/{ID}?since=-1", None, 400, "bad_query", id="negative"
        ),
        pytest.param(
            "GET", f"/v1/things/{ID}?cat=1", None, 400, "bad_query", id="unknown-query"
        ),
        pytest.param("POST", "/v1/things", b"{", 400, "malformed", id="not-json"),
        pytest.param("POST", "/v1/things", b"{}", 400, "missing_field", id="missing"),
        pytest.param(
            "POST",
            "/v1/things",
            b'{"size_bytes":1,"cat":2}',
            400,
            "unknown_field",
            id="unknown-field",
        ),
        pytest.param(
            "POST", "/v1/things", b'{"size_bytes":"1"}', 400, "malformed", id="type"
        ),
        pytest.param(
            "POST",
            "/v1/things",
            b" " * (face.BODY_BYTES_MAX + 1),
            413,
            "request_entity_too_large",
            id="oversize",
        ),
        pytest.param("GET", "/v1/nothing", None, 404, "not_found", id="no-such-path"),
        pytest.param(
            "DELETE", "/v1/things", None, 405, "method_not_allowed", id="method"
        ),
        pytest.param("GET", "/v1/fail", None, 423, "busy", id="own-error"),
    ],
)
def test_refuses(
    client: FlaskClient,
    method: str,
    path: str,
    body: bytes | None,
    status: int,
    code: str,
) -> None:
    reply = client.open(path, method=method, data=body)
    assert reply.status_code == status
    assert reply.json is not None
    assert reply.json["error"]["code"] == code
    assert reply.json["error"]["message"]


def test_tells_when_to_retry(client: FlaskClient) -> None:
    assert client.get("/v1/fail").headers["Retry-After"] == "3"


def test_asks_who_may_before_it_acts(client: FlaskClient, waits: Waits) -> None:
    reply = client.get(f"/v1/things/{ID}", headers={"X-Nobody": "1"})
    assert reply.status_code == 403
    assert waits.allowed == []


def test_hides_a_bug_but_logs_it(
    client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    reply = client.get("/v1/bug")
    assert reply.status_code == 500
    assert reply.json is not None
    assert reply.json["error"]["code"] == "internal_error"
    assert "ZeroDivisionError" in caplog.text


def test_echoes_the_correlation_id_without_what_does_not_belong(
    client: FlaskClient,
) -> None:
    reply = client.get("/v1/picture", headers={"X-Correlation-Id": "a-1 <b>"})
    assert reply.headers["X-Correlation-Id"] == "a-1b"


def test_answers_at_once_when_too_many_wait(app: flask.Flask, waits: Waits) -> None:
    threads = [
        threading.Thread(
            target=lambda: app.test_client().get(f"/v1/things/{ID}?wait_s=5")
        )
        for _ in range(face.WAITERS)
    ]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert waits.started.acquire(timeout=10)
    app.test_client().get(f"/v1/things/{ID}?wait_s=5")
    assert waits.allowed[-1] == 0.0
    waits.go_on.set()
    for thread in threads:
        thread.join(10)


def test_bounds_the_wait(client: FlaskClient, waits: Waits) -> None:
    waits.go_on.set()
    client.get(f"/v1/things/{ID}?wait_s=9000")
    assert waits.allowed == [face.WAIT_S_MAX]
