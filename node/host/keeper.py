"""Keep a node's papers good, in the background: enrol, renew, fetch.

One thread. A node that was booted with a token asks for admission until it is
admitted; a member renews its certificate at two thirds of its life, and fetches
newer copies of the fleet's sealed documents.
"""

import logging
import random
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from node import pki
from node.clock import Clock
from node.errors import Error, Unavailable
from node.host import aggregators, enrol
from node.log import Secret
from node.model.feed import FleetMark
from node.model.fleet import AggregatorAddress, Enrolment
from node.model.ids import Fingerprint
from node.model.options import BadOption

log = logging.getLogger(__name__)

# Wall clocks are set while we wait: look at them again at least this often.
LOOK_S: Final = 3600.0
# All members learn of a new copy at once; they fetch it spread over this.
FETCH_SPREAD_S: Final = 2.0
ENROL_FIRST_S: Final = 2.0
ENROL_MAX_S: Final = 60.0
# A failed renewal is tried again this many times until the certificate ends.
_RENEWAL_TRIES: Final = 10
_RENEWAL_GAP_MIN_S: Final = 1.0
_RENEWAL_GAP_MAX_S: Final = 300.0
# A node whose certificate has ended is out of the fleet until it succeeds.
_ENDED_GAP_MAX_S: Final = 30.0
_STOP_S: Final = 20.0  # longer than one exchange with an aggregator


@dataclass(frozen=True, slots=True)
class ZeroTouch:
    """Whom to ask for admission, and what to show."""

    address: str
    port: int
    pin: Fingerprint  # of the aggregator's key or certificate
    token_id: str
    secret: Secret


@dataclass(frozen=True, slots=True)
class _Wanted:
    aggregator: AggregatorAddress
    mark: FleetMark


def parse_zero_touch(aggregator: str, token: str) -> ZeroTouch | None:
    """Return what `aggregator=` and `token=` ask for; None if they are empty.

    Raises BadOption.
    """
    if not aggregator or not token:
        return None
    where, _, fingerprint = aggregator.partition(",")
    host, _, port = where.rpartition(":")
    token_id, _, secret = token.partition(".")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise BadOption(f"{where!r} is not host:port", option="aggregator")
    if not token_id or not secret:
        raise BadOption("the token is not <id>.<secret>", option="token")
    try:
        pin = pki.parse_fingerprint(fingerprint)
    except pki.BadFingerprint as error:
        raise BadOption(str(error), option="aggregator") from error
    return ZeroTouch(host.strip("[]"), int(port), pin, token_id, Secret(secret))


def retry_after_s(expires_at: datetime, now: datetime) -> float:
    """Return how long to wait after a failed renewal: the less, the nearer the end.

    After the end the waits grow again, but never to more than half a minute.
    """
    left_s = (expires_at - now).total_seconds()
    longest_s = _RENEWAL_GAP_MAX_S if left_s > 0 else _ENDED_GAP_MAX_S
    return min(max(abs(left_s) / _RENEWAL_TRIES, _RENEWAL_GAP_MIN_S), longest_s)


class Keeper:
    """The thread, and what it is told."""

    def __init__(
        self,
        enrolment: enrol.Enrolment,
        aggregators: aggregators.Aggregators,
        zero_touch: ZeroTouch | None,
        address: str,
        clock: Clock,
        chance: random.Random,
        fetch_gap_s: float,
    ) -> None:
        """`address` is where this node can be reached, for who admits it.

        Copies follow each other fast while nodes are admitted: after one was
        fetched, none is for `fetch_gap_s`.
        """
        self._enrolment = enrolment
        self._aggregators = aggregators
        self._zero_touch = zero_touch
        self._address = address
        self._clock = clock
        self._chance = chance
        self._fetch_gap_s = fetch_gap_s
        self._lock = threading.Lock()
        self._wanted: _Wanted | None = None
        self._fetch_at = float("-inf")  # by the monotonic clock
        self._renew_at: datetime | None = None  # after a failure
        self._failures = 0
        self._sentence = ""
        self._poked = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        self._poked.set()
        self._thread.join(_STOP_S)

    def poke(self) -> None:
        """Say that membership changed."""
        self._poked.set()

    def note_mark(self, aggregator: AggregatorAddress, mark: FleetMark) -> None:
        """Take note of the newest copy that a reply to a push names."""
        try:
            self._enrolment.check_term(mark.fleet_id, mark.term)
        except Error as error:
            self._say(f"{aggregator.name} is not followed: {error}")
            return
        if (mark.term, mark.version) <= self._enrolment.sealed_mark():
            return
        with self._lock:
            if self._wanted is not None and self._wanted.mark == mark:
                return
            if self._wanted is None:
                spread_s = self._chance.uniform(0.0, FETCH_SPREAD_S)
                soon = self._clock.monotonic() + spread_s
                self._fetch_at = max(self._fetch_at, soon)
            self._wanted = _Wanted(aggregator, mark)
        self._poked.set()

    def step(self) -> float:
        """Do what is due; return the seconds until something is due again."""
        if not self._enrolment.is_member():
            return self._enrol()
        return min(self._renew(), self._fetch(), LOOK_S)

    def _run(self) -> None:
        while not self._stopping:
            try:
                wait_s = self.step()
            except Error as error:
                self._say(f"could not keep the papers: {error}")
                wait_s = ENROL_MAX_S
            self._poked.wait(wait_s)
            self._poked.clear()

    def _say(self, sentence: str) -> None:
        if sentence and sentence != self._sentence:
            log.warning("%s", sentence)
        self._sentence = sentence

    def _enrol(self) -> float:
        asked = self._zero_touch
        if asked is None or self._enrolment.used_token() == asked.token_id:
            return LOOK_S
        request = self._enrolment.request()
        proof = pki.token_proof(asked.secret, asked.pin, request.csr)
        enrolment = Enrolment(asked.token_id, proof, request, self._address)
        try:
            admission = self._aggregators.enrol(
                asked.address, asked.port, asked.pin, enrolment
            )
            self._enrolment.admit(admission, token_id=asked.token_id)
        except Error as error:
            self._say(f"not admitted by {asked.address}: {error}")
            self._failures += 1
            # Whoever refused us once will do so again: only silence is temporary.
            is_silent = isinstance(error, Unavailable)
            steps = min(self._failures, 10) if is_silent else 10
            wait_s: float = min(ENROL_FIRST_S * 2.0 ** (steps - 1), ENROL_MAX_S)
            return wait_s * self._chance.uniform(0.5, 1.0)
        self._failures = 0
        return 0.0

    def _renew(self) -> float:
        certificate = self._enrolment.certificate()
        membership = self._enrolment.membership()
        if certificate is None or membership is None:
            return LOOK_S
        now = self._enrolment.now()
        due = pki.renewal_at(certificate)
        if self._renew_at is not None:
            due = max(due, self._renew_at)
        if now < due:
            return (due - now).total_seconds()
        self._renew_at = None
        problem = ""
        for aggregator in membership.aggregators:
            try:
                renewed = self._aggregators.renew(aggregator, self._enrolment.renewal())
                self._enrolment.put_certificate(renewed)
            except Error as error:
                problem = f"{aggregator.name}: {error}"
                continue
            return 0.0
        self._say(f"the certificate was not renewed: {problem or 'no aggregator'}")
        wait_s = retry_after_s(pki.expires_at(certificate), now)
        self._renew_at = now + timedelta(seconds=wait_s)
        return wait_s

    def _fetch(self) -> float:
        with self._lock:
            wanted, fetch_at = self._wanted, self._fetch_at
        now = self._clock.monotonic()
        if wanted is None:
            return LOOK_S
        if now < fetch_at:
            return fetch_at - now
        with self._lock:
            self._wanted, self._fetch_at = None, now + self._fetch_gap_s
        try:
            sealed = self._aggregators.sealed(wanted.aggregator)
            self._enrolment.put_sealed(sealed, wanted.aggregator.name)
        except Error as error:
            # The next reply to a push names the copy again.
            self._say(f"no copy of the fleet's documents: {error}")
        return LOOK_S
