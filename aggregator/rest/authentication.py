"""Find out who sent a request: a token, a name and password, or a session.

A session is a cookie that `Prefer: persistent-auth` asks for; a later request
without that header ends it. Source: reference of oVirt's REST API, section 1.3.
"""

import base64
import binascii
import hmac
from dataclasses import dataclass
from typing import Final

from werkzeug.datastructures import Headers
from werkzeug.wrappers import Request

from aggregator.access import Access, Identity
from node.errors import Denied, Error
from node.log import Secret
from node.units import MINUTE_S

COOKIE: Final = "JSESSIONID"
_CSRF_HEADER: Final = "JSESSIONID"
_TTL_MINUTES_MAX: Final = 60 * 24 * 30  # a month; a forgotten session ends some day


class Unauthenticated(Denied):
    """Nobody known sent this."""

    status = 401
    code = "unauthenticated"
    remedy = "Log in, or send a valid token."


class CookieOnly(Denied):
    """A session that asked for it must prove itself by a header, too."""

    code = "session_header_missing"
    remedy = f"Send the header {_CSRF_HEADER} with the value of the cookie."


@dataclass(frozen=True, slots=True)
class Caller:
    identity: Identity
    opened: str | None = None  # token of a session to be kept by the client
    ended: str | None = None  # token of a session that ends with this request


def identify(request: Request, access: Access, address: str) -> Caller:
    """Return who calls; Unauthenticated if nobody can be told."""
    prefer = preferences(request.headers)
    is_persistent = "persistent-auth" in prefer
    token = request.cookies.get(COOKIE, "")
    if token and "new-auth" not in prefer:
        caller = _by_session(request, access, token, is_persistent)
        if caller is not None:
            return caller
    who = _by_header(request, access, address)
    if not is_persistent:
        return Caller(who)
    session = access.open_session(
        who,
        address,
        lifetime_s=_lifetime_s(request.headers.get("Session-TTL", "")),
        needs_csrf="csrf-protection" in prefer,
    )
    return Caller(who, opened=session.token.reveal())


def preferences(headers: Headers) -> frozenset[str]:
    """Return what the Prefer headers ask for, in lower case."""
    words = ",".join(headers.getlist("Prefer")).split(",")
    return frozenset(word.strip().lower() for word in words)


def _by_session(
    request: Request, access: Access, token: str, is_persistent: bool
) -> Caller | None:
    who = access.identify(token)
    if who is None:
        return None
    proof = request.headers.get(_CSRF_HEADER, "")
    is_proved = hmac.compare_digest(proof.encode(), token.encode())
    if who.needs_csrf and not is_proved:
        raise CookieOnly("the session is protected against forged requests")
    return Caller(who, ended=None if is_persistent else token)


def _by_header(request: Request, access: Access, address: str) -> Identity:
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        who = access.identify(credentials.strip())
        if who is not None:
            return who
    if scheme.lower() == "basic":
        user, password = _name_and_password(credentials)
        try:
            return access.identify_basic(user, password, address)
        except Error as error:
            raise Unauthenticated(str(error)) from error
    raise Unauthenticated("the request has no valid credentials")


def _name_and_password(credentials: str) -> tuple[str, Secret]:
    try:
        text = base64.b64decode(credentials, validate=True).decode("utf-8")
    except (binascii.Error, ValueError) as error:
        raise Unauthenticated("the credentials are not Basic ones") from error
    user, colon, password = text.partition(":")
    if not colon:
        raise Unauthenticated("the credentials have no password")
    return user, Secret(password)


def _lifetime_s(minutes: str) -> float | None:
    text = minutes.strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text)):
        return None
    return float(min(int(text), _TTL_MINUTES_MAX) * MINUTE_S)
