"""Name who calls, and the session they called in. Pure."""

import hashlib
import hmac
import uuid
from dataclasses import dataclass
from typing import Final, NewType

from node.log import Secret

UserId = NewType("UserId", str)

# Makes the id of a user from its name, so that one read finds the record.
_NAMESPACE: Final = uuid.UUID("6f3b8a52-0c0e-4d53-9d0e-8a8d6a5f1c77")
ADMINISTRATOR: Final = "admin@internal"


@dataclass(frozen=True, slots=True)
class Identity:
    """Whoever calls; `csrf` is empty if they did not come by a session."""

    user_id: UserId
    user: str  # admin@internal: name, @, and the profile that vouches for it
    csrf: str = ""
    needs_csrf: bool = False  # the cookie alone does not do, its holder said


@dataclass(frozen=True, slots=True)
class Session:
    token: Secret  # shown once: only its hash is stored
    user: str
    expires_at: str  # RFC 3339; each use moves it
    csrf: str  # what a browser's form must send back


def user_id_of(user: str) -> UserId:
    """Return the id that a user of this name has."""
    return UserId(str(uuid.uuid5(_NAMESPACE, user)))


def session_id_of(token: str) -> str:
    """Return what a session is stored under: SHA-256 of its token."""
    return hashlib.sha256(token.encode()).hexdigest()


def csrf_of(token: str) -> str:
    """Return the word that proves a form was served to the token's holder."""
    return hmac.new(token.encode(), b"csrf", "sha256").hexdigest()


def keyed_digest(key: bytes, text: str) -> str:
    """Return a digest that only this process can make of a text."""
    return hmac.new(key, text.encode("utf-8", "surrogatepass"), "sha256").hexdigest()
