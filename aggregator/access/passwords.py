"""Keep passwords as scrypt hashes, and compare them in constant time.

Pure but for the processor time it costs on purpose. Source: RFC 7914.
"""

import base64
import hashlib
import hmac
from dataclasses import dataclass
from typing import Final

from node.errors import Invalid
from node.log import Secret

SALT_BYTES: Final = 16  # RFC 7914 asks for unique salts: 128 random bits are
DIGEST_BYTES: Final = 32  # what comes out; as many bits as SHA-256, which is inside
LENGTH_MIN: Final = 8  # shorter ones are guessed within an online attack's patience
LENGTH_MAX: Final = 1024  # what a person or vault uses; more only costs us time


class BadPassword(Invalid):
    code = "bad_password"
    remedy = f"Choose a password of {LENGTH_MIN} to {LENGTH_MAX} characters."


@dataclass(frozen=True, slots=True)
class Cost:
    """How hard guessing is: 16 MiB and about 0.2 s, OWASP's second choice.

    Its first (128 MiB at once) is too much for eight logins in 1 GiB.
    """

    n: int = 2**14
    r: int = 8
    p: int = 5


@dataclass(frozen=True, slots=True)
class PasswordHash:
    salt: str  # base64
    digest: str  # base64
    cost: Cost


def make_hash(password: Secret, salt: bytes, cost: Cost) -> PasswordHash:
    """Return what is stored of a password; BadPassword if it will not do."""
    if not LENGTH_MIN <= len(password.reveal()) <= LENGTH_MAX:
        raise BadPassword("the password is too short or too long")
    return PasswordHash(_text(salt), _text(_derive(password, salt, cost)), cost)


def hash_of_nobody(salt: bytes, digest: bytes, cost: Cost) -> PasswordHash:
    """Return what no password matches, if `digest` is random: as costly to try."""
    assert len(digest) == DIGEST_BYTES
    return PasswordHash(_text(salt), _text(digest), cost)


def is_match(password: Secret, stored: PasswordHash) -> bool:
    """Tell whether a password is the one that was stored."""
    if len(password.reveal()) > LENGTH_MAX:
        return False
    digest = _derive(password, base64.b64decode(stored.salt), stored.cost)
    return hmac.compare_digest(digest, base64.b64decode(stored.digest))


def _derive(password: Secret, salt: bytes, cost: Cost) -> bytes:
    # OpenSSL refuses what needs more than maxmem: 128·n·r bytes and some slack.
    return hashlib.scrypt(
        password.reveal().encode("utf-8", "surrogatepass"),
        salt=salt,
        n=cost.n,
        r=cost.r,
        p=cost.p,
        maxmem=256 * cost.n * cost.r,
        dklen=DIGEST_BYTES,
    )


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
