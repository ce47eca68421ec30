"""Log users in, recognise their sessions, and say whether they may.

Users and permissions are the fleet's records (`user/…`, `permission/…`), sealed
with them; sessions are records of their own, under the hash of their token, and
survive a restart. Times are wall times: a session must outlive the process.
"""

import logging
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from aggregator import db
from aggregator.access import identity, limiter, passwords, permissions
from aggregator.access.identity import Identity, Session, UserId
from aggregator.access.passwords import Cost, PasswordHash
from aggregator.access.permissions import Grant, NotPermitted, Place, Tree
from aggregator.federation import events
from node import clock, wire
from node.errors import Denied, NotFound
from node.log import Secret
from node.model.verbs import ActionGroup, Object
from node.units import HOUR_S, MINUTE_S

log = logging.getLogger(__name__)

TOKEN_BYTES: Final = 32  # 256 bits: cannot be guessed
LIFETIME_S: Final = 8 * HOUR_S  # a working day without a new login
# A use moves the end only when this part of the life is gone: else each read of
# a page would be a write to the database.
_RENEW_AFTER: Final = 1 / 32
# Scripts that never log out must not fill the database.
SESSIONS_MAX: Final = 5000
_SWEEP_INTERVAL_S: Final = 1 * MINUTE_S
# A client with Basic authentication proves its password on each request; what
# was proved is remembered, so that scrypt's cost falls on the first only.
_PROVED_MAX: Final = 256
_PROVED_S: Final = 5 * MINUTE_S
# More at once would take the processor from everybody else.
_HASHES_AT_ONCE: Final = 2


class LoginFailed(Denied):
    """One error for unknown, disabled and wrong: a guesser learns nothing."""

    code = "login_failed"
    remedy = "Check the name and the password."


class NoSuchUser(NotFound):
    code = "no_such_user"
    remedy = "Check the spelling: users are written name@profile."


class Access:
    """The door of the fleet: every face asks it who calls and what they may."""

    def __init__(
        self,
        database: db.Database,
        wall: clock.Clock,
        event_log: events.EventLog,
        *,
        token_bytes: Callable[[int], bytes] = secrets.token_bytes,
        cost: Cost = Cost(),  # noqa: B008 - frozen: it cannot change
        lifetime_s: float = LIFETIME_S,
    ) -> None:
        self._fleet = database.records("fleet")
        self._sessions = database.records("session")
        self._clock = wall
        self._events = event_log
        self._token_bytes = token_bytes
        self._cost = cost
        self._lifetime_s = lifetime_s
        self._limiter = limiter.LoginLimiter(wall)
        self._hashing = threading.BoundedSemaphore(_HASHES_AT_ONCE)
        self._lock = threading.Lock()
        self._proof_key = token_bytes(TOKEN_BYTES)
        self._proved: OrderedDict[tuple[str, str], tuple[int, float]] = OrderedDict()
        self._next_sweep = wall.monotonic()
        # Somebody unknown costs as much time as somebody known.
        self._nobody = passwords.hash_of_nobody(
            token_bytes(passwords.SALT_BYTES), token_bytes(passwords.DIGEST_BYTES), cost
        )

    # users

    def set_password(self, user: str, password: Secret) -> None:
        """Give a user a password; sessions opened with the old one end."""
        user_id = identity.user_id_of(user)
        record = self._fleet.get(f"user/{user_id}")
        if record is None:
            raise NoSuchUser(f"there is no user {user}", user=user)
        stored = self._hash(password)
        body = {**record.body, "password": wire.to_json(stored)}
        self._fleet.put(record.id, body, expected_version=record.version)
        for session in self._sessions.list():
            if session.body["user_id"] == user_id:
                self._sessions.delete(session.id)
        log.info("password of %s was set", user)

    def login(
        self,
        user: str,
        password: Secret,
        address: str,
        *,
        lifetime_s: float | None = None,
    ) -> Session:
        """Open a session; LoginFailed or TooManyLogins if it may not be."""
        who = self._authenticate(user, password, address)
        return self.open_session(who, address, lifetime_s=lifetime_s)

    def identify_basic(self, user: str, password: Secret, address: str) -> Identity:
        """Return who sent this name and password; LoginFailed if nobody did."""
        record = self._fleet.get(f"user/{identity.user_id_of(user)}")
        proof = (user, self._proof(password))
        now = self._clock.monotonic()
        with self._lock:
            version, until = self._proved.get(proof, (0, 0.0))
        if record is not None and record.version == version and now < until:
            return Identity(identity.user_id_of(user), user)
        who = self._authenticate(user, password, address)
        with self._lock:
            self._proved[proof] = (record.version if record else 0, now + _PROVED_S)
            while len(self._proved) > _PROVED_MAX:
                self._proved.popitem(last=False)
        return who

    # sessions

    def open_session(
        self,
        who: Identity,
        address: str,
        *,
        lifetime_s: float | None = None,
        needs_csrf: bool = False,
    ) -> Session:
        """Open a session for somebody who has proved who they are."""
        self._sweep()
        token = self._token_bytes(TOKEN_BYTES).hex()
        lifetime_s = lifetime_s or self._lifetime_s
        expires_at = clock.rfc3339(self._clock.now() + timedelta(seconds=lifetime_s))
        body = {
            "user_id": who.user_id,
            "user": who.user,
            "address": address,
            "expires_at": expires_at,
            "lifetime_s": lifetime_s,
            "needs_csrf": needs_csrf,
        }
        self._sessions.put(identity.session_id_of(token), body, expected_version=0)
        return Session(Secret(token), who.user, expires_at, identity.csrf_of(token))

    def identify(self, token: str) -> Identity | None:
        """Return whose session a token is, moving its end; None if it is none."""
        session_id = identity.session_id_of(token)
        record = self._sessions.get(session_id)
        if record is None:
            return None
        now = self._clock.now()
        left_s = _seconds_left(record.body["expires_at"], now)
        if left_s <= 0:
            self._sessions.delete(session_id)
            return None
        lifetime_s = record.body["lifetime_s"]
        if left_s < lifetime_s * (1 - _RENEW_AFTER):
            self._extend(record, now + timedelta(seconds=lifetime_s))
        user_id = UserId(record.body["user_id"])
        return Identity(
            user_id,
            record.body["user"],
            identity.csrf_of(token),
            record.body["needs_csrf"],
        )

    def logout(self, token: str) -> None:
        """End a session; one that is not there has ended already."""
        session_id = identity.session_id_of(token)
        record = self._sessions.get(session_id)
        if record is not None and self._sessions.delete(session_id):
            self._events.record("user_logged_out", user=record.body["user"])

    # permissions

    def require(
        self,
        who: Identity,
        group: ActionGroup,
        object: Object,
        object_id: str | None = None,
    ) -> None:
        """Raise NotPermitted unless a grant allows the group on the object."""
        records = self._fleet.list()
        path = tree_of(records).upwards(Place(object, object_id))
        if not permissions.may(who.user_id, group, path, _grants(records)):
            raise NotPermitted(
                f"{who.user} may not {group.value} on {object.value}",
                user=who.user,
                group=group.value,
                object=object.value,
            )

    # private

    def _authenticate(self, user: str, password: Secret, address: str) -> Identity:
        key = (user, address)
        self._limiter.begin(key)
        user_id = identity.user_id_of(user)
        record = self._fleet.get(f"user/{user_id}")
        stored = self._nobody
        is_known = False
        if record is not None and record.body.get("password"):
            is_known = bool(record.body.get("is_enabled", True))
            stored = wire.from_json(PasswordHash, record.body["password"])
        with self._hashing:
            is_right = passwords.is_match(password, stored)
        if not (is_known and is_right):
            self._events.record("user_login_failed", user=user, address=address)
            raise LoginFailed(f"{user} cannot log in", user=user)
        self._limiter.succeed(key)
        self._events.record("user_logged_in", user=user, address=address)
        return Identity(user_id, user)

    def _hash(self, password: Secret) -> PasswordHash:
        salt = self._token_bytes(passwords.SALT_BYTES)
        with self._hashing:
            return passwords.make_hash(password, salt, self._cost)

    def _proof(self, password: Secret) -> str:
        return identity.keyed_digest(self._proof_key, password.reveal())

    def _extend(self, record: db.Record, expires_at: datetime) -> None:
        body = {**record.body, "expires_at": clock.rfc3339(expires_at)}
        try:
            self._sessions.put(record.id, body, expected_version=record.version)
        except db.StaleRecord:
            log.debug("session of %s was extended elsewhere", record.body["user"])

    def _sweep(self) -> None:
        """Delete sessions that have expired, and the oldest of too many."""
        with self._lock:
            if self._clock.monotonic() < self._next_sweep:
                return
            self._next_sweep = self._clock.monotonic() + _SWEEP_INTERVAL_S
        now = self._clock.now()
        kept = []
        for record in self._sessions.list():
            if _seconds_left(record.body["expires_at"], now) <= 0:
                self._sessions.delete(record.id)
            else:
                kept.append(record)
        kept.sort(key=lambda record: record.body["expires_at"], reverse=True)
        for record in kept[SESSIONS_MAX:]:
            self._sessions.delete(record.id)


def tree_of(records: tuple[db.Record, ...]) -> Tree:
    """Return the tree of clusters and data centers in the fleet's records."""
    clusters = {
        record.id.removeprefix("cluster/"): record.body
        for record in records
        if record.id.startswith("cluster/")
    }
    defaults = [key for key, body in clusters.items() if body.get("is_default")]
    return Tree(
        default_cluster_id=min(defaults, default=""),
        clusters={},
        data_centers={key: body["data_center_id"] for key, body in clusters.items()},
    )


def _grants(records: tuple[db.Record, ...]) -> tuple[Grant, ...]:
    return tuple(
        Grant(
            UserId(record.body["user_id"]),
            record.body["role_id"],
            Place(Object(record.body["object"]), record.body.get("object_id")),
        )
        for record in records
        if record.id.startswith("permission/")
    )


def _seconds_left(expires_at: str, now: datetime) -> float:
    return (clock.parse_rfc3339(expires_at) - now).total_seconds()
