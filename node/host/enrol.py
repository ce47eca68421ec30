"""Belong to a fleet: wait, be admitted once, follow its terms, leave.

    waiting ──admit──► member ──leave──► waiting
                         │ every other CA is refused

What the node knows of its fleet lies in the store; nginx's copies of the
certificates are written from it at each start. In the folder of keys: key.pem
and self.pem are this node's for ever, member.pem and ca.pem the fleet's.
"""

import logging
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import node
from node import clock as clocks
from node import pki, store, vault, wire
from node.clock import Clock
from node.errors import Conflict, Invalid, NotFound
from node.log import Secret
from node.model.fleet import (
    Admission,
    AdmissionRequest,
    FleetRules,
    Membership,
    Renewal,
    RenewedCertificate,
    Role,
    SealedFleet,
)
from node.model.ids import Fingerprint, NodeId
from node.model.reason import Reason

log = logging.getLogger(__name__)

KEY: Final = "key.pem"
SELF_SIGNED: Final = "self.pem"
MEMBER: Final = "member.pem"
CA: Final = "ca.pem"

_MEMBERSHIP: Final = "membership"  # settings in the store
_SEALED: Final = "sealed_fleet"
_USED_TOKEN: Final = "used_token"

# Anybody on the network may try to admit a member: this often it is an event.
_REFUSAL_EVERY_S: Final = 60.0


class MemberAlready(Conflict):
    """Only the fleet that admitted this node, or its console, can release it."""

    code = "member_already"
    remedy = "Run `skerry-node leave` on the node's console, then admit it anew."


class NotAMember(Conflict):
    code = "not_a_member"
    remedy = "Admit the node first."


class WrongFleet(Conflict):
    code = "wrong_fleet"
    remedy = "Call the nodes of your own fleet."


class Superseded(Conflict):
    """A newer term leads this fleet."""

    code = "superseded"
    remedy = "Use the aggregator that leads, or promote this one."


class DocumentsDiffer(Conflict):
    """One term and version with two contents: neither is believed over the other."""

    code = "fleet_documents_differ"
    remedy = "Two aggregators lead with one term: promote the right, stop the other."


class BadAdmission(Invalid):
    code = "bad_admission"
    remedy = "Issue the certificate for the node's own request, by the CA sent along."


class NoSealedCopy(NotFound):
    code = "no_sealed_copy"
    remedy = "Ask another node of the fleet, or wait until this one has fetched it."


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this node says it is."""

    node_id: NodeId
    name: str
    address: str
    api_port: int
    admission_port: int


@dataclass(frozen=True, slots=True)
class _Papers:
    """What makes this node a member; stored as one."""

    membership: Membership
    certificate: str
    ca_certificate: str
    schema: int = 1


class Enrolment:
    """How this node belongs to a fleet, if it does."""

    def __init__(
        self,
        store: store.Store,
        folder: Path,
        identity: Identity,
        clock: Clock,
        on_change: Callable[[], None],
        *,
        built_at: datetime,
    ) -> None:
        """Make the node's key at its first start; write nginx's certificates.

        `on_change` is called after certificates or membership changed.
        """
        self._store = store
        self._folder = folder
        self._identity = identity
        self._clock = clock
        self._on_change = on_change
        self._built_at = built_at
        self._lock = threading.RLock()
        self._refused_at = float("-inf")
        # with the certificates, ours and the CA's, that it was made of
        self._context: tuple[tuple[str, str], ssl.SSLContext] | None = None
        self._key = _own_key(folder)
        self._self_signed = _own_certificate(
            folder, self._key, identity.node_id, self.now()
        )
        self._csr = pki.signing_request(self._key, identity.node_id)
        self._papers = _load_papers(store)
        if self._papers is not None and not _is_for(self._papers, self._key):
            log.warning("our key is not the one that was admitted any more")
            self._forget(self._papers)
            self._papers = None
        self._write_certificates()

    def now(self) -> datetime:
        """Return the time, but never one before this software was built."""
        return max(self._clock.now(), self._built_at)

    def fingerprint(self) -> Fingerprint:
        """Return what a person compares: that of the self-signed certificate."""
        return pki.fingerprint(self._self_signed)

    def is_member(self) -> bool:
        return self._papers is not None

    def membership(self) -> Membership | None:
        """Return what is known of the fleet; None while the node waits."""
        papers = self._papers
        return papers.membership if papers is not None else None

    def certificate(self) -> str | None:
        """Return the certificate that the fleet issued; None while waiting."""
        papers = self._papers
        return papers.certificate if papers is not None else None

    def client_context(self) -> ssl.SSLContext:
        """Return how a member calls other members; NotAMember.

        The same object as before, unless our certificate is another.
        """
        with self._lock:
            papers = self._required()
            wanted = (papers.certificate, papers.ca_certificate)
            if self._context is None or self._context[0] != wanted:
                context = pki.client_context(
                    papers.ca_certificate,
                    str(self._folder / MEMBER),
                    str(self._folder / KEY),
                )
                self._context = (wanted, context)
            return self._context[1]

    def request(self) -> AdmissionRequest:
        """Return what a waiting node shows, or whom it belongs to."""
        membership = self.membership()
        return AdmissionRequest(
            self._identity.node_id,
            self._identity.name,
            node.VERSION,
            self.fingerprint(),
            self._csr,
            is_waiting=membership is None,
            ca_fingerprint=membership.ca_fingerprint if membership else None,
            api_port=self._identity.api_port,
            admission_port=self._identity.admission_port,
        )

    def admit(self, admission: Admission, *, token_id: str | None = None) -> Membership:
        """Become a member of the first fleet that asks; persisted on return.

        The same fleet may ask again. Raises BadAdmission, MemberAlready.
        """
        with self._lock:
            fingerprint = pki.fingerprint(admission.ca_certificate)
            if self._papers is not None:
                return self._admit_again(self._papers, admission, fingerprint)
            self._check(admission.certificate, admission.ca_certificate)
            fleet_id = admission.fleet_id
            if pki.subject_of(admission.certificate).fleet_id != fleet_id:
                raise BadAdmission("the certificate is for another fleet")
            membership = Membership(
                fleet_id, admission.term, admission.aggregators, fingerprint
            )
            papers = _Papers(
                membership, admission.certificate, admission.ca_certificate
            )
            with self._store.change() as change:
                change.set(_MEMBERSHIP, wire.to_json(papers))
                if token_id is not None:
                    change.set(_USED_TOKEN, token_id)
                change.event("node_joined", fleet=fleet_id, fingerprint=fingerprint)
            log.info(
                "joined fleet %s; fingerprint of its CA: %s", fleet_id, fingerprint
            )
            self._adopt(papers)
            return membership

    def leave(self) -> None:
        """Wait for a new admission; guests are untouched. Asked twice: the same."""
        with self._lock:
            if self._papers is None:
                return
            self._forget(self._papers)
            self._adopt(None)

    def check_term(self, fleet_id: str, term: int) -> None:
        """Let a verb of this fleet and of the highest term through.

        Raises NotAMember, WrongFleet, Superseded. A higher term is kept.
        """
        with self._lock:
            membership = self._required().membership
            if fleet_id != membership.fleet_id:
                raise WrongFleet(f"this node belongs to fleet {membership.fleet_id}")
            if term < membership.term:
                raise self._superseded(term, membership)
            if term > membership.term:
                log.info("term %d leads from now on", term)
                self._keep_membership(replace(membership, term=term))

    def put_membership(self, given: Membership) -> Membership:
        """Follow another list of aggregators; Superseded, WrongFleet, NotAMember."""
        with self._lock:
            self.check_term(given.fleet_id, given.term)
            before = self._required().membership
            if given.ca_fingerprint != before.ca_fingerprint:
                raise WrongFleet("the list names another CA")
            if given != before:
                self._keep_membership(given)
                self._on_change()
            return given

    def rules(self) -> FleetRules:
        """Return what our fleet has decided for its members; without one, nothing."""
        membership = self.membership()
        return FleetRules() if membership is None else membership.rules

    def sealed(self) -> SealedFleet:
        """Return the sealed copy of the fleet's documents; NoSealedCopy."""
        stored = self._store.setting(_SEALED)
        if stored is None:
            raise NoSealedCopy("this node keeps no copy of the fleet's documents")
        return wire.from_json(SealedFleet, stored, strict=False)

    def sealed_mark(self) -> tuple[int, int]:
        """Return (term, version) of the sealed copy; (0, 0) if there is none."""
        stored = self._store.setting(_SEALED)
        return (stored["term"], stored["version"]) if stored is not None else (0, 0)

    def put_sealed(self, sealed: SealedFleet, source: str = "") -> SealedFleet:
        """Keep a newer sealed copy, and return the newest.

        `source` is the aggregator it came from. Raises Superseded, WrongFleet,
        NotAMember, and DocumentsDiffer, which is also an event.
        """
        with self._lock:
            self.check_term(sealed.fleet_id, sealed.term)
            mark = self.sealed_mark()
            if (sealed.term, sealed.version) < mark:
                return self.sealed()
            if (sealed.term, sealed.version) == mark:
                if sealed != self.sealed():
                    raise self._documents_differ(sealed, source)
                return sealed
            with self._store.change() as change:
                change.set(_SEALED, wire.to_json(sealed))
            log.info("keep version %d of the fleet's documents", sealed.version)
            return sealed

    def renewal(self) -> Renewal:
        """Return a request for a fresh certificate, signed by the key of the old."""
        papers = self._required()
        return Renewal(papers.certificate, self._csr, pki.sign(self._key, self._csr))

    def put_certificate(self, renewed: RenewedCertificate) -> None:
        """Use a fresh certificate from now on; BadAdmission, NotAMember."""
        with self._lock:
            papers = self._required()
            self._check(renewed.certificate, papers.ca_certificate)
            papers = replace(papers, certificate=renewed.certificate)
            with self._store.change() as change:
                change.set(_MEMBERSHIP, wire.to_json(papers))
                change.event("certificate_renewed", node=self._identity.name)
            log.info(
                "certificate renewed, good until %s",
                pki.expires_at(renewed.certificate),
            )
            self._adopt(papers)

    def used_token(self) -> str:
        """Return the id of the token this node was admitted with; or empty."""
        return str(self._store.setting(_USED_TOKEN) or "")

    def problems(self) -> tuple[Reason, ...]:
        """Return what is wrong with this node's clock or papers."""
        now = self._clock.now()
        since = clocks.rfc3339(now)
        reasons = []
        if now < self._built_at:
            skew_s = int((self._built_at - now).total_seconds())
            name = self._identity.name
            reasons.append(
                Reason("clock_skew", since, {"node": name, "skew_s": skew_s})
            )
        certificate = self.certificate()
        if certificate is not None and pki.expires_at(certificate) <= self.now():
            end = clocks.rfc3339(pki.expires_at(certificate))
            reasons.append(
                Reason(
                    "certificate_not_renewed",
                    end,
                    {
                        "node": self._identity.name,
                        "expires_at": end,
                        "detail": "no aggregator renewed it in time",
                    },
                )
            )
        return tuple(reasons)

    def _required(self) -> _Papers:
        if self._papers is None:
            raise NotAMember("this node waits for admission")
        return self._papers

    def _forget(self, papers: _Papers) -> None:
        fleet_id = papers.membership.fleet_id
        with self._store.change() as change:
            change.set(_MEMBERSHIP, None)
            change.set(_SEALED, None)
            change.event("node_left", fleet=fleet_id)
        log.info("left fleet %s", fleet_id)

    def _admit_again(
        self, papers: _Papers, admission: Admission, ca: Fingerprint
    ) -> Membership:
        """Answer a fleet that asks again; refuse every other one.

        Nothing but a newer certificate is taken: this caller shows none.
        """
        if ca != papers.membership.ca_fingerprint:
            self._record_refusal(ca)
            raise MemberAlready(
                f"this node belongs to fleet {papers.membership.fleet_id}",
                fleet_id=papers.membership.fleet_id,
                ca_fingerprint=papers.membership.ca_fingerprint,
            )
        if admission.certificate != papers.certificate:
            self._check(admission.certificate, papers.ca_certificate)
            if pki.valid_from(admission.certificate) >= pki.valid_from(
                papers.certificate
            ):
                papers = replace(papers, certificate=admission.certificate)
                with self._store.change() as change:
                    change.set(_MEMBERSHIP, wire.to_json(papers))
                self._adopt(papers)
        return papers.membership

    def _record_refusal(self, ca: Fingerprint) -> None:
        log.warning("refused to be admitted by the CA %s", ca)
        now = self._clock.monotonic()
        if now - self._refused_at >= _REFUSAL_EVERY_S:
            self._refused_at = now
            with self._store.change() as change:
                change.event("admission_refused", fingerprint=ca)

    def _check(self, certificate: str, ca_certificate: str) -> None:
        try:
            pki.check_issued_by(ca_certificate, ca_certificate)
            pki.check_issued_by(certificate, ca_certificate)
            pki.check_is_for(certificate, self._key)
            subject = pki.subject_of(certificate)
        except (pki.SignatureRefused, pki.BadCertificate) as error:
            raise BadAdmission(str(error)) from error
        expected = (self._identity.node_id, Role.NODE, pki.fleet_of(ca_certificate))
        if (subject.name, subject.role, subject.fleet_id) != expected:
            raise BadAdmission(f"the certificate is for {subject.name}, not for us")

    def _superseded(self, term: int, membership: Membership) -> Superseded:
        # Whoever leads puts itself first in its list.
        leader = next((each.name for each in membership.aggregators), "")
        return Superseded(
            f"term {term} is over: term {membership.term} leads ({leader})",
            term=term,
            newest=membership.term,
            leader=leader,
        )

    def _documents_differ(self, sealed: SealedFleet, source: str) -> DocumentsDiffer:
        with self._store.change() as change:
            change.event(
                "fleet_documents_differ",
                aggregator=source or "?",
                term=sealed.term,
                version=sealed.version,
            )
        return DocumentsDiffer(
            f"version {sealed.version} of term {sealed.term} is known with "
            "another content",
            term=sealed.term,
            version=sealed.version,
        )

    def _keep_membership(self, membership: Membership) -> None:
        papers = replace(self._required(), membership=membership)
        with self._store.change() as change:
            change.set(_MEMBERSHIP, wire.to_json(papers))
        self._papers = papers

    def _adopt(self, papers: _Papers | None) -> None:
        self._papers = papers
        self._write_certificates()
        self._on_change()

    def _write_certificates(self) -> None:
        if self._papers is None:
            for name in (MEMBER, CA):
                (self._folder / name).unlink(missing_ok=True)
            return
        papers = self._papers
        vault.write(self._folder / CA, papers.ca_certificate, vault.PUBLIC)
        vault.write(self._folder / MEMBER, papers.certificate, vault.PUBLIC)


def build_date() -> datetime:
    """Return when this software was installed: no clock is right before that."""
    return datetime.fromtimestamp(Path(node.__file__).stat().st_mtime, UTC)


def _own_key(folder: Path) -> pki.Key:
    text = vault.read(folder / KEY)
    if text is not None:
        return pki.load_key(Secret(text))
    key = pki.make_key()
    vault.write(folder / KEY, pki.dump_key(key).reveal(), vault.PRIVATE)
    return key


def _own_certificate(folder: Path, key: pki.Key, node_id: NodeId, now: datetime) -> str:
    """Return the self-signed certificate, made anew only if it is not ours."""
    text = vault.read(folder / SELF_SIGNED)
    if text is not None:
        try:
            pki.check_is_for(text, key)
        except pki.BadCertificate:
            log.warning("%s is for another key: made anew", folder / SELF_SIGNED)
        else:
            return text
    certificate = pki.self_signed(key, node_id, now)
    vault.write(folder / SELF_SIGNED, certificate, vault.PUBLIC)
    return certificate


def _load_papers(store: store.Store) -> _Papers | None:
    stored = store.setting(_MEMBERSHIP)
    if stored is None:
        return None
    return wire.from_json(_Papers, stored, strict=False)


def _is_for(papers: _Papers, key: pki.Key) -> bool:
    """Tell whether papers are for a key: it may have been deleted since."""
    try:
        pki.check_is_for(papers.certificate, key)
    except pki.BadCertificate:
        return False
    return True
