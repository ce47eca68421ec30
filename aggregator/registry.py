"""Look after nodes from found to admitted to removed.

    seen ──► candidate ──► member ──► removed
                 │ refused: another key than the one admitted or compared

A member is a record; candidates are only remembered. Nothing that a node says
counts until its fingerprint was compared by an administrator, or its token by us.
"""

import contextlib
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from aggregator import authority, db
from aggregator.federation import events
from aggregator.fleet import (
    candidates,
    introductions,
    members,
    reach,
    roster,
    term,
    tokens,
)
from aggregator.fleet.addresses import BadAddress, parse_address
from aggregator.fleet.candidates import Candidate, Sighting
from aggregator.fleet.members import ADMISSION_PORT, Member
from node import clock as clocks
from node import pki, wire
from node.clock import Clock
from node.errors import Conflict, Denied, Error, NotFound
from node.http import pinned
from node.model.fleet import (
    Admission,
    AdmissionRequest,
    AggregatorAddress,
    Enrolment,
    FleetRules,
    Membership,
    Renewal,
    RenewedCertificate,
)
from node.model.ids import CorrelationId, Fingerprint, NodeId
from node.units import DAY_S

__all__ = [
    "ADMISSION_PORT",
    "BadAddress",
    "Candidate",
    "Member",
    "Registry",
    "Sighting",
    "Token",
    "parse_address",
]

log = logging.getLogger(__name__)

# Anybody on the network can announce nodes; real fleets stay far below.
CANDIDATES_MAX: Final = 5000
# Whoever loses a race for a record reads it again; more losses than this are a bug.
_TRIES: Final = 5


class NoSuchCandidate(NotFound):
    code = "no_such_candidate"
    remedy = "Look at the list of candidates again, or admit the node by its address."


class NoSuchMember(NotFound):
    code = "no_such_member"
    remedy = "Look at the list of nodes again."


class IdentityChanged(Conflict):
    """The node shows another key than the one that was admitted or compared."""

    code = "node_identity_changed"
    remedy = (
        "If it was reinstalled, remove it and admit it anew; "
        "if not, find out who answers there."
    )


class OtherFleet(Conflict):
    """The node belongs to another fleet."""

    code = "other_fleet"
    remedy = "Release it with `skerry-node leave` on its console, then admit it."


class RenewalRefused(Denied):
    code = "renewal_refused"
    remedy = "Admit the node anew."


class Origin(Protocol):
    """Who asks: `aggregator.control.orders.Origin`."""

    @property
    def user(self) -> str: ...

    @property
    def address(self) -> str: ...

    @property
    def correlation_id(self) -> CorrelationId: ...


# Asks scripts about what is done with a node, for whom; and tells them how it ended.
Around = Callable[
    [str, Member, str, CorrelationId | None], contextlib.AbstractContextManager[None]
]


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is shown, once; `aggregator` is what the node is to be told."""

    token_id: str
    text: str = field(repr=False)
    expires_at: str
    aggregator: str  # host:port,fingerprint


class Registry:
    """Admit, renew, remove; know candidates and members."""

    def __init__(
        self,
        database: db.Database,
        authority: authority.Authority,
        leadership: term.Leadership,
        event_log: events.EventLog,
        clock: Clock,
        me: AggregatorAddress,
        *,
        reach: reach.Reach,
        call: Callable[[Member], reach.MemberNode],
        certificate_days: float,
        rules: Callable[[], FleetRules] = FleetRules,
        around: Around = lambda *_: contextlib.nullcontext(),
    ) -> None:
        """Load the members; `call` returns the API of a member."""
        self._around = around
        self._members = database.records("member")
        self._revoked = database.records("certificate")
        self._tokens = tokens.Tokens(database.records("token"), clock)
        self._roster = roster.Roster(database)
        self._authority = authority
        self._leadership = leadership
        self._events = event_log
        self._clock = clock
        self._me = me
        self._reach, self._call, self._rules = reach, call, rules
        self._lifetime_s = certificate_days * DAY_S
        self._lock = threading.Lock()  # guards the three below
        self._known = self._load()
        self._candidates: dict[NodeId, Candidate] = {}
        self._told: dict[NodeId, Membership] = {}
        self._on_change: list[Callable[[], None]] = []
        self._on_revoked: list[Callable[[], None]] = []
        self._write_revoked()
        if leadership.is_leading:
            self._roster.keep(me)

    def reload(self) -> None:
        """Read members and revocations anew: the leader's were taken over."""
        with self._lock:
            self._known = self._load()
            for node_id in self._known.keys() & self._candidates.keys():
                del self._candidates[node_id]
        self._write_revoked()
        self._notify()

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call back after candidates or members changed; it must not block."""
        self._on_change.append(callback)

    def on_revoked(self, callback: Callable[[], None]) -> None:
        """Call back after the list of revoked certificates was written."""
        self._on_revoked.append(callback)

    def candidates(self) -> tuple[Candidate, ...]:
        """Return who waits for admission, by name."""
        with self._lock:
            waiting = list(self._candidates.values())
        return tuple(sorted(waiting, key=lambda each: (each.name, each.node_id)))

    def members(self) -> tuple[Member, ...]:
        """Return all members, by name."""
        with self._lock:
            known = list(self._known.values())
        return tuple(sorted(known, key=lambda each: (each.name, each.node_id)))

    def member(self, node_id: NodeId) -> Member | None:
        """Return a member; None if the node is none."""
        with self._lock:
            return self._known.get(node_id)

    def address(self, node_id: NodeId) -> str | None:
        """Return where a member is reached; None if the node is none."""
        member = self.member(node_id)
        return member.address if member is not None else None

    def is_member(self, node_id: NodeId) -> bool:
        """Tell whether a node may push to us."""
        return self.member(node_id) is not None

    def see(self, sighting: Sighting) -> None:
        """Take note of a node that announces itself."""
        with self._lock:
            before = self._candidates.get(sighting.node_id)
            member = self._known.get(sighting.node_id)
            after = candidates.next_candidate(
                sighting,
                before,
                member.fingerprint if member is not None else None,
                self._authority.ca_fingerprint,
                self._now(),
            )
            if after is None:
                self._candidates.pop(sighting.node_id, None)
            elif before is not None or len(self._candidates) < CANDIDATES_MAX:
                self._candidates[sighting.node_id] = after
            else:
                return
        if after is not None:
            self._record_sighting(before, after)
        if candidates.differs(before, after):
            self._notify()

    def lose(self, node_id: NodeId) -> None:
        """Take note that a node announces itself no longer."""
        with self._lock:
            gone = self._candidates.pop(node_id, None)
        if gone is not None:
            self._notify()

    def admit(
        self, node_id: NodeId, fingerprint: Fingerprint, origin: Origin
    ) -> Member:
        """Make a candidate a member, if it has the fingerprint that was compared.

        Asked twice, it answers the same. Raises NoSuchCandidate, IdentityChanged,
        OtherFleet, NameTaken, NotLeading, and what keeps us from reaching the node.
        """
        self._leadership.check_leading()
        pin = pki.parse_fingerprint(fingerprint)
        with self._lock:
            candidate = self._candidates.get(node_id)
            member = self._known.get(node_id)
        if candidate is not None:
            address, port = candidate.address, candidate.admission_port
            return self._admit(address, port, pin, origin, node_id)
        if member is None:
            raise NoSuchCandidate(f"no node {node_id} waits for admission")
        if member.fingerprint != pin:
            raise self._identity_changed(node_id, member.name, member.address)
        return member

    def admit_address(
        self, address: str, fingerprint: Fingerprint, origin: Origin
    ) -> Member:
        """Make the node at an address a member; like `admit`."""
        self._leadership.check_leading()
        host, port = parse_address(address, ADMISSION_PORT)
        pin = pki.parse_fingerprint(fingerprint)
        return self._admit(host, port, pin, origin, None)

    def remove(
        self, node_id: NodeId, origin: Origin, *, is_forced: bool = False
    ) -> None:
        """Release a member and refuse its certificates from now on.

        Unless forced, the node must be told first; by force it may be dead.
        """
        self._leadership.check_leading()
        member = self.member(node_id)
        if member is None:
            raise NoSuchMember(f"no node {node_id} is a member")
        with self._around("node_remove", member, origin.user, origin.correlation_id):
            self._remove(member, origin, is_forced=is_forced)

    def make_token(self, lifetime_s: float, origin: Origin) -> Token:
        """Return a token with which one node may enrol by itself."""
        self._leadership.check_leading()
        fresh = self._tokens.make(lifetime_s, origin.user)
        self._events.record(
            "token_made",
            user=origin.user,
            correlation_id=origin.correlation_id,
            expires_at=fresh.expires_at,
        )
        host = f"[{self._me.address}]" if ":" in self._me.address else self._me.address
        return Token(
            fresh.token_id,
            f"{fresh.token_id}.{fresh.secret.reveal()}",
            fresh.expires_at,
            f"{host}:{self._me.admission_port},{self._me.key_fingerprint}",
        )

    def enrol(self, enrolment: Enrolment, peer_address: str) -> Admission:
        """Admit a node that shows a token.

        Raises TokenRefused, IdentityChanged, WrongNode, NameTaken and NotLeading.
        The same node may ask again while the token lives: its reply may have been
        lost.
        """
        self._leadership.check_leading()
        request = enrolment.request
        address, _ = parse_address(enrolment.address or peer_address, ADMISSION_PORT)
        try:
            self._tokens.use(enrolment, self._authority.fingerprints())
        except tokens.TokenRefused as error:
            self._events.record(
                "node_token_refused", address=peer_address, why=error.why
            )
            raise
        self._check_request(request, address, None)
        fingerprint = pki.parse_fingerprint(request.fingerprint)
        admitted_by = f"token {enrolment.token_id}"
        member = self._new_member(request, address, admitted_by, fingerprint)
        with self._around("node_admit", member, admitted_by, None):
            certificate = self._issue(request.csr, member)
            self._keep_new(member, certificate, None)
        return self._admission(certificate)

    def renew(self, renewal: Renewal) -> RenewedCertificate:
        """Return a fresh certificate for the key of an old one; dates do not count.

        Raises RenewalRefused, SignatureRefused.
        """
        pki.check_issued_by(renewal.certificate, self._authority.ca_certificate)
        pki.check_signature(renewal.certificate, renewal.csr, renewal.signature)
        key = pki.key_fingerprint(renewal.certificate)
        if pki.request_key_fingerprint(renewal.csr) != key:
            raise RenewalRefused("the request is for another key than the certificate")
        if self._revoked.get(members.serial(renewal.certificate)) is not None:
            raise self._renewal_refused(renewal, "it was revoked")
        node_id = NodeId(pki.subject_of(renewal.certificate).name)
        for _ in range(_TRIES):
            record = self._members.get(node_id)
            member = members.read(record) if record is not None else None
            if record is None or member is None or member.key_fingerprint != key:
                raise self._renewal_refused(renewal, "its node is no member")
            certificate = self._issue(renewal.csr, member)
            member = members.with_certificate(member, certificate, self._now())
            try:
                self._members.put(node_id, wire.to_json(member), record.version)
            except db.StaleRecord:
                continue
            with self._lock:
                self._known[node_id] = member
            self._events.record(
                "certificate_renewed", node_id=node_id, node=member.name
            )
            return RenewedCertificate(certificate, self._authority.ca_certificate)
        raise AssertionError(f"the record of {node_id} never rests")

    def membership(self) -> Membership:
        """Return what every member is to know of the fleet."""
        return Membership(
            self._leadership.fleet_id,
            self._leadership.term,
            self._aggregators(),
            self._authority.ca_fingerprint,
            self._rules(),
        )

    def untold(self) -> tuple[Member, ...]:
        """Return the members that do not know what all are to know, as we told it."""
        wanted = self.membership()
        with self._lock:
            told = {each for each, what in self._told.items() if what == wanted}
        return tuple(each for each in self.members() if each.node_id not in told)

    def tell(self, member: Member) -> None:
        """Tell a member what all are to know; learn from it if somebody else leads."""
        membership = self.membership()
        try:
            self._call(member).aggregators_put(membership)
        except Conflict as error:
            newest = error.fields.get("newest")
            if error.code == "superseded" and isinstance(newest, int):
                self._leadership.observe(newest)
            raise
        with self._lock:
            self._told[member.node_id] = membership

    def tell_anew(self) -> None:
        """Forget who was told: what they are to know of the fleet has changed."""
        with self._lock:
            self._told.clear()
        self._notify()

    def expire(self) -> None:
        """Delete tokens, and revocations of certificates, whose time is over."""
        self._tokens.expire()
        now = self._now()
        for record in self._revoked.list():
            if str(record.body["expires_at"]) < now:
                self._revoked.delete(record.id)

    def _now(self) -> str:
        return clocks.rfc3339(self._clock.now())

    def _notify(self) -> None:
        for callback in self._on_change:
            callback()

    def _record_sighting(self, before: Candidate | None, after: Candidate) -> None:
        if after.problem is not None:
            if before is None or before.problem is None:
                self._record_identity_changed(after.node_id, after.name, after.address)
        elif before is None:
            self._events.record(
                "node_candidate",
                node_id=after.node_id,
                node=after.name,
                address=after.address,
            )

    def _admit(
        self,
        address: str,
        port: int,
        pin: Fingerprint,
        origin: Origin,
        expected: NodeId | None,
    ) -> Member:
        log.info("admitting the node at %s:%d", address, port)
        doorstep = self._reach(address, port, pin)
        try:
            request = doorstep.admission_show()
        except pinned.FingerprintRefused as error:
            if expected is not None:
                self._flag(expected)
            raise IdentityChanged(str(error), address=address) from error
        self._check_request(request, address, expected)
        ours = self._authority.ca_fingerprint
        if not request.is_waiting and request.ca_fingerprint != ours:
            raise OtherFleet(
                f"node {request.name} belongs to another fleet", node=request.name
            )
        member = self._new_member(request, address, origin.user, pin)
        with self._around("node_admit", member, origin.user, origin.correlation_id):
            certificate = self._issue(request.csr, member)
            doorstep.admit(self._admission(certificate))
            return self._keep_new(member, certificate, origin)

    def _remove(self, member: Member, origin: Origin, *, is_forced: bool) -> None:
        node_id = member.node_id
        self._release(member, is_forced=is_forced)
        for certificate in member.certificates:
            body = {"node_id": node_id, "revoked_at": self._now()}
            body["expires_at"] = certificate.expires_at
            self._revoked.put(certificate.serial, body)
        self._members.delete(node_id)
        with self._lock:
            self._known.pop(node_id, None)
            self._told.pop(node_id, None)
        self._write_revoked()
        self._events.record(
            "node_removed",
            node_id=node_id,
            user=origin.user,
            correlation_id=origin.correlation_id,
            node=member.name,
        )
        self._notify()

    def _check_request(
        self, request: AdmissionRequest, address: str, expected: NodeId | None
    ) -> None:
        """Refuse a request that is not about the node, or shows another key."""
        introductions.check(request, address, expected)
        node_id, name = request.node_id, request.name
        member = self.member(node_id)
        key = pki.request_key_fingerprint(request.csr)
        if member is not None and member.key_fingerprint != key:
            raise self._identity_changed(node_id, name, address)
        introductions.check_name(node_id, name, self.members())

    def _new_member(
        self,
        request: AdmissionRequest,
        address: str,
        admitted_by: str,
        fingerprint: Fingerprint,
    ) -> Member:
        before = self.member(request.node_id)
        return Member(
            request.node_id,
            request.name,
            address,
            request.api_port,
            fingerprint,
            before.admitted_at if before is not None else self._now(),
            before.admitted_by if before is not None else admitted_by,
            request.admission_port,
            pki.request_key_fingerprint(request.csr),
            before.certificates if before is not None else (),
        )

    def _keep_new(
        self, member: Member, certificate: str, origin: Origin | None
    ) -> Member:
        member = members.with_certificate(member, certificate, self._now())
        self._members.put(member.node_id, wire.to_json(member))
        with self._lock:
            self._known[member.node_id] = member
            self._candidates.pop(member.node_id, None)
            self._told.pop(member.node_id, None)
        self._events.record(
            "node_admitted",
            node_id=member.node_id,
            user=origin.user if origin is not None else None,
            correlation_id=origin.correlation_id if origin is not None else None,
            node=member.name,
        )
        self._notify()
        return member

    def _issue(self, csr: str, member: Member) -> str:
        names = (member.address, member.node_id, _host_name(member.name))
        return self._authority.issue_node(csr, member.node_id, names, self._lifetime_s)

    def _admission(self, certificate: str) -> Admission:
        return Admission(
            self._leadership.fleet_id,
            self._leadership.term,
            certificate,
            self._authority.ca_certificate,
            self._aggregators(),
        )

    def _aggregators(self) -> tuple[AggregatorAddress, ...]:
        """Return whom members push to: us, then those that mirror."""
        others = (each for each in self._roster.list() if each.name != self._me.name)
        return (self._me, *others)

    def _load(self) -> dict[NodeId, Member]:
        found = map(members.read, self._members.list())
        return {member.node_id: member for member in found}

    def _renewal_refused(self, renewal: Renewal, why: str) -> RenewalRefused:
        shown = pki.fingerprint(renewal.certificate)
        self._events.record("caller_refused", fingerprint=shown, why=why)
        return RenewalRefused(f"the certificate is not renewed: {why}")

    def _identity_changed(
        self, node_id: NodeId, name: str, address: str
    ) -> IdentityChanged:
        self._record_identity_changed(node_id, name, address)
        return IdentityChanged(
            f"node {name} shows another key than the one admitted", node=name
        )

    def _record_identity_changed(
        self, node_id: NodeId, name: str, address: str
    ) -> None:
        self._events.record(
            "node_identity_changed", node_id=node_id, node=name, address=address
        )

    def _flag(self, node_id: NodeId) -> None:
        """Mark a candidate whose fingerprint is not the one compared."""
        with self._lock:
            candidate = self._candidates.get(node_id)
            if candidate is None or candidate.problem is not None:
                return
            problem = candidates.identity_changed(candidate.name, self._now())
            self._candidates[node_id] = replace(candidate, problem=problem)
        self._record_identity_changed(node_id, candidate.name, candidate.address)
        self._notify()

    def _release(self, member: Member, *, is_forced: bool) -> None:
        try:
            self._call(member).leave()
        except Error as error:
            if not is_forced:
                raise
            log.warning("node %s was not told to leave: %s", member.name, error)

    def _write_revoked(self) -> None:
        self._authority.write_revoked(
            int(record.id, 16) for record in self._revoked.list()
        )
        for callback in self._on_revoked:
            callback()


def _host_name(name: str) -> str:
    """Return a node's name if a certificate can carry it as a host name."""
    return name if pki.NAME_PATTERN.fullmatch(name) else ""
