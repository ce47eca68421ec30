"""Let mirrors follow the leader: it lists them, and hands its documents out.

    mirror ── its address, and what it has ──► leader, at the feed's port
           ◄── its term; newer documents ─────  writes the mirror down

Behind nginx's feed port: the headers that name the caller are nginx's. The CA's
key does not travel: a mirror has it from the recovery key.
"""

import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import flask

from aggregator import db
from aggregator.fleet import documents, roster, sealing, term
from node.errors import Denied, Error
from node.http import face, serving
from node.model.fleet import AggregatorAddress, Role, SealedFleet
from node.model.verbs import ActionGroup, Object, Verb
from node.wire import Json

log = logging.getLogger(__name__)

FOLLOW_PATH: Final = "/v1/fleet/followers"


class NotOurAggregator(Denied):
    code = "not_our_aggregator"
    remedy = "Rebuild it with the fleet's recovery key: that gives it a certificate."


@dataclass(frozen=True, slots=True)
class Follow:
    """What a mirror says: who it is, and which copy it has."""

    aggregator: AggregatorAddress
    term: int
    version: int


@dataclass(frozen=True, slots=True)
class LeaderCopy:
    """All that a mirror needs to lead later on, but for the CA's key."""

    sealed: SealedFleet
    sealing: sealing.SealingKey
    records: dict[str, dict[str, Json]]


@dataclass(frozen=True, slots=True)
class Followed:
    leader: str
    copy: LeaderCopy | None  # None: the mirror has it


FOLLOW: Final = Verb(
    "follow",
    "POST",
    FOLLOW_PATH,
    "Let a mirror be pushed to, and give it the fleet's documents.",
    ActionGroup.EDIT_FLEET,
    Object.FLEET,
    Followed,
    Follow,
    callers=frozenset(),
)
_TERM: Final = re.compile("[0-9]{1,9}")  # nobody is promoted that often
Ask = Callable[[AggregatorAddress, Follow], Followed]


def blueprint(follow: Callable[[Follow], Followed]) -> flask.Blueprint:
    """Return /v1/fleet/followers, for aggregators of this fleet only."""
    routes = flask.Blueprint("following", __name__)

    def serve(request: Follow) -> Followed:
        headers = flask.request.headers
        subject = headers.get("X-Skerry-Subject", "")
        is_aggregator = headers.get("X-Skerry-Role") == Role.AGGREGATOR
        if not is_aggregator or subject != request.aggregator.name:
            raise NotOurAggregator(f"{subject[:80] or 'nobody'} cannot follow as such")
        return follow(request)

    face.bind(routes, FOLLOW, serve)
    return routes


def listening(
    application: serving.Application, observe: Callable[[int], None]
) -> serving.Application:
    """Learn from what nodes push that another aggregator leads."""

    def serve(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        said = environ.get("HTTP_X_SKERRY_TERM", "")
        if environ.get("HTTP_X_SKERRY_ROLE") == Role.NODE and _TERM.fullmatch(said):
            observe(int(said))
        return application(environ, start_response)

    return serve


class Leader:
    """The side that is followed."""

    def __init__(
        self,
        database: db.Database,
        leadership: term.Leadership,
        me: AggregatorAddress,
        on_follower: Callable[[], None],
    ) -> None:
        """`on_follower` is called when a mirror is new, or has another address."""
        self._database = database
        self._leadership = leadership
        self._me = me
        self._on_follower = on_follower

    def follow(self, request: Follow) -> Followed:
        """Write a mirror down, and return what it lacks; NotLeading."""
        self._leadership.check_leading()
        if request.aggregator.name == self._me.name:
            raise NotOurAggregator(f"{self._me.name} is the leader itself")
        if roster.Roster(self._database).keep(request.aggregator):
            log.info("aggregator %s mirrors this fleet", request.aggregator.name)
            self._on_follower()
        sealed = self._leadership.sealed()
        if (request.term, request.version) == (sealed.term, sealed.version):
            return Followed(self._me.name, None)
        records = documents.records(self._database)
        key = self._leadership.sealing_key()
        return Followed(self._me.name, LeaderCopy(sealed, key, records))


class Follower:
    """The side that follows, while it does not lead."""

    def __init__(
        self,
        database: db.Database,
        leadership: term.Leadership,
        me: AggregatorAddress,
        ask: Ask,
        on_copy: Callable[[], None],
    ) -> None:
        """`on_copy` is called when other documents were taken over."""
        self._database = database
        self._leadership = leadership
        self._me = me
        self._ask = ask
        self._on_copy = on_copy

    def follow(self) -> str:
        """Ask the others who leads; say in a sentence how it went."""
        mark = self._leadership.mark()
        request = Follow(self._me, mark.term, mark.version)
        problem = "no other aggregator is known"
        for other in roster.Roster(self._database).list():
            if other.name == self._me.name:
                continue
            try:
                followed = self._ask(other, request)
                self._take(followed.copy)
            except Error as error:
                problem = f"{other.name}: {error}"
                continue
            return f"follows {followed.leader}"
        return f"follows nobody: {problem}"

    def _take(self, copy: LeaderCopy | None) -> None:
        if copy is None:
            return
        self._leadership.check_follows(copy.sealed)
        documents.replace(self._database, copy.records)
        self._leadership.follow(copy.sealed, copy.sealing)
        self._on_copy()
