"""Know who looks at a page: cookies, sessions, and forms that are really ours.

A session is a cookie with the token that `access` knows. Over https its name
begins with __Host-, so that no other host can set it. A form carries a word
that only the session's holder was served; a login form, which has no session
yet, the word of a cookie of its own.
"""

import base64
import hmac
import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

import flask

from aggregator.access import Access, Identity
from aggregator.control.orders import Order, Origin
from node.errors import Denied, Error
from node.model.ids import CorrelationId
from node.model.job import JobState

_SESSION: Final = "skerry"
_FORM: Final = "skerry-form"
_NOTE: Final = "skerry-note"
_NOTE_S: Final = 60  # it is shown by the very next page, or is stale
_NOTE_LETTERS: Final = 600  # a cookie has 4096 bytes at most
_CORRELATION = re.compile(r"[0-9a-zA-Z_-]{1,36}")


class FormRefused(Denied):
    """The form was not served by us, or to another session."""

    code = "form_refused"
    remedy = "Open the page again and repeat what you did."


class LoginNeeded(Denied):
    """There is no session, or it has ended."""

    status = 401
    code = "login_needed"
    remedy = "Log in again."


@dataclass(frozen=True, slots=True)
class Visit:
    """Somebody who is logged in, for one request."""

    identity: Identity
    csrf: str
    origin: Origin


@dataclass(frozen=True, slots=True)
class Note:
    """What the next page says on top: how the last form ended."""

    tone: str  # good, bad
    text: str
    remedy: str = ""


def begin(access: Access) -> Visit:
    """Return who sends the request; LoginNeeded if there is no session."""
    token = flask.request.cookies.get(_name(_SESSION), "")
    identity = access.identify(token) if token else None
    if identity is None:
        raise LoginNeeded("the session has ended")
    return Visit(identity, identity.csrf, origin(identity.user))


def origin(user: str) -> Origin:
    """Return who asks for something, from where."""
    given = flask.request.headers.get("X-Correlation-Id", "")
    correlation = given if _CORRELATION.fullmatch(given) else str(uuid.uuid4())
    return Origin(user, address(), CorrelationId(correlation))


def address() -> str:
    """Return the browser's address, as nginx saw it."""
    seen = flask.request.headers.get("X-Real-IP", "")
    return seen or flask.request.remote_addr or "local"


def check_form(visit: Visit) -> None:
    """Let a form pass if it was served to this session; else FormRefused."""
    _compare(flask.request.form.get("csrf", ""), visit.csrf)


def check_login_form() -> None:
    """Let a login form pass if it carries the word of its cookie."""
    _compare(
        flask.request.form.get("csrf", ""),
        flask.request.cookies.get(_name(_FORM), ""),
    )


def _compare(given: str, wanted: str) -> None:
    if not wanted or not hmac.compare_digest(given.encode(), wanted.encode()):
        raise FormRefused("the form was not served to this session")


def open_session(response: flask.Response, token: str) -> None:
    """Give the browser its session, until it is closed or the session ends."""
    _set(response, _SESSION, token)


def close_session(response: flask.Response) -> None:
    """Make the browser forget its session."""
    _set(response, _SESSION, "", max_age_s=0)


def session_token() -> str:
    """Return the token that the browser sent; empty if it has none."""
    return flask.request.cookies.get(_name(_SESSION), "")


def serve_login_word(response: flask.Response, word: str) -> None:
    """Give the browser the word that its login form must carry."""
    _set(response, _FORM, word)


def login_word() -> str:
    """Return the word that the browser has already, or a new one."""
    return flask.request.cookies.get(_name(_FORM), "") or uuid.uuid4().hex


def leave_note(response: flask.Response, note: Note) -> None:
    """Let the next page say how this ended."""
    cut = Note(note.tone, note.text[:_NOTE_LETTERS], note.remedy[:_NOTE_LETTERS])
    packed = base64.urlsafe_b64encode(json.dumps(asdict(cut)).encode())
    _set(response, _NOTE, packed.decode(), max_age_s=_NOTE_S)


def error_note(error: Error) -> Note:
    """Return the note that tells of an error."""
    return Note("bad", str(error), error.remedy)


def note_failure(response: flask.Response, order: Order) -> None:
    """Let the next page tell of an order that has failed already."""
    if order.state is JobState.FAILED and order.error:
        leave_note(response, Note("bad", order.error.message, order.error.remedy))


def read_note() -> Note | None:
    """Return what the last page left, if it can be read."""
    packed = flask.request.cookies.get(_name(_NOTE), "")
    try:
        value = json.loads(base64.urlsafe_b64decode(packed.encode()))
        return Note(
            "good" if value["tone"] == "good" else "bad",
            str(value["text"]),
            str(value["remedy"]),
        )
    except (ValueError, KeyError, TypeError):
        return None


def drop_note(response: flask.Response) -> None:
    """Make the browser forget the note that it was just shown."""
    if _name(_NOTE) in flask.request.cookies:
        _set(response, _NOTE, "", max_age_s=0)


def local_path(text: str | None, otherwise: str) -> str:
    """Return a path on this site, whatever a link or form claims."""
    if text and re.fullmatch(r"/(?![/\\])[^\\\x00-\x1f]*", text):
        return text
    return otherwise


def _name(name: str) -> str:
    return f"__Host-{name}" if _is_secure() else name


def _is_secure() -> bool:
    """Say whether the browser came by TLS, which ends at nginx."""
    proto = flask.request.headers.get("X-Forwarded-Proto", "")
    return flask.request.is_secure or proto == "https"


def _set(
    response: flask.Response, name: str, value: str, *, max_age_s: int | None = None
) -> None:
    response.set_cookie(
        _name(name),
        value,
        max_age=max_age_s,
        path="/",
        secure=_is_secure(),
        httponly=True,
        samesite="Strict",
    )


def form() -> Mapping[str, str]:
    """Return the fields of the form, without spaces around them."""
    return {name: value.strip() for name, value in flask.request.form.items()}
