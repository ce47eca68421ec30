"""Make tokens with which nodes enrol by themselves, and use each for one node.

A token serves the first key that shows it, and no other: so a node whose reply
was lost may ask again. It is verified by HMAC, so its secret is stored; it is
deleted when its time is over.
"""

import secrets
import uuid
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

from aggregator import db
from node import clock as clocks
from node import pki, wire
from node.clock import Clock
from node.errors import Denied, Invalid
from node.log import Secret
from node.model.fleet import Enrolment
from node.model.ids import Fingerprint
from node.units import DAY_S

# A forgotten token must not open the fleet for ever.
LIFETIME_DAYS_MAX: Final = 366
_SECRET_BYTES: Final = 24  # 192 bits: nobody guesses it
# Whoever loses a race for a record reads it again; the winner leaves it used.
_TRIES: Final = 3


class TokenRefused(Denied):
    """One error for unknown, ended, used and forged: a guesser learns nothing."""

    code = "token_refused"
    remedy = "Make a new token and boot the node with it."

    def __init__(self, why: str) -> None:
        super().__init__("the token was refused")
        self.why = why  # for our own log; it does not travel


class BadLifetime(Invalid):
    code = "bad_lifetime"
    remedy = "Give a lifetime of up to a year, in seconds."


@dataclass(frozen=True, slots=True)
class Fresh:
    token_id: str
    secret: Secret
    expires_at: str  # RFC 3339


@dataclass(frozen=True, slots=True)
class _Stored:
    secret: str = field(repr=False)
    expires_at: str
    made_by: str
    used_by: str = ""  # fingerprint of the key that showed it
    schema: int = 1


class Tokens:
    def __init__(self, records: db.Records, clock: Clock) -> None:
        self._records = records
        self._clock = clock

    def make(self, lifetime_s: float, made_by: str) -> Fresh:
        """Store a fresh token and return it; BadLifetime."""
        if not 0 < lifetime_s <= LIFETIME_DAYS_MAX * DAY_S:
            raise BadLifetime(
                f"a token cannot live for {lifetime_s:g} s", field="lifetime_s"
            )
        token_id = str(uuid.uuid4())
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        end = clocks.rfc3339(self._clock.now() + timedelta(seconds=lifetime_s))
        self._records.put(token_id, wire.to_json(_Stored(secret, end, made_by)), 0)
        return Fresh(token_id, Secret(secret), end)

    def use(self, enrolment: Enrolment, ours: Collection[Fingerprint]) -> None:
        """Bind a token to the key that shows it; TokenRefused.

        `ours` are the fingerprints that the node may have proved it for.
        """
        key = pki.request_key_fingerprint(enrolment.request.csr)
        for _ in range(_TRIES):
            record = self._records.get(enrolment.token_id)
            if record is None:
                raise TokenRefused("unknown")
            stored = wire.from_json(_Stored, record.body, strict=False)
            self._check(stored, enrolment, key, ours)
            body = wire.to_json(replace(stored, used_by=key))
            try:
                self._records.put(enrolment.token_id, body, record.version)
            except db.StaleRecord:
                continue
            return
        raise TokenRefused("being used by others")

    def expire(self) -> None:
        """Delete the tokens whose time is over."""
        now = clocks.rfc3339(self._clock.now())
        for record in self._records.list():
            if str(record.body["expires_at"]) < now:
                self._records.delete(record.id)

    def _check(
        self,
        stored: _Stored,
        enrolment: Enrolment,
        key: Fingerprint,
        ours: Collection[Fingerprint],
    ) -> None:
        csr = enrolment.request.csr
        if not pki.is_token_proof(enrolment.proof, Secret(stored.secret), ours, csr):
            raise TokenRefused("forged")
        if stored.expires_at <= clocks.rfc3339(self._clock.now()):
            raise TokenRefused("too old")
        if stored.used_by not in ("", key):
            raise TokenRefused("used already")
