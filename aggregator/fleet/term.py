"""Say who leads the fleet, with which term, and keep its documents sealed.

An aggregator that leads raises the version of the sealed copy with each change
of what is in it. The copy is kept as it was sealed, so that one (term, version)
never has two contents.

A service and a command may have the same records open: what one writes is refused
if the other has written since it looked, and then it looks again.
"""

import hashlib
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

from aggregator import authority, db
from aggregator.fleet import documents, sealing
from node import vault, wire
from node.errors import Conflict
from node.log import Secret
from node.model.feed import FleetMark
from node.model.fleet import SealedFleet
from node.model.ids import FleetId

log = logging.getLogger(__name__)

T = TypeVar("T")

SEALING_FILE: Final = "sealing.json"
_LOOKS: Final = 5  # at records that another process writes meanwhile


class NoFleet(Conflict):
    """This aggregator has neither founded a fleet nor rebuilt one."""

    code = "no_fleet"
    remedy = "Run `skerry-aggregator init`, or `rebuild` with a recovery key."


class NotLeading(Conflict):
    """Another aggregator has a higher term."""

    code = "not_leading"
    remedy = "Use the aggregator that leads, or `skerry-aggregator promote` this one."


class Outdated(Conflict):
    """Whoever thinks he leads was overtaken, or we lead ourselves."""

    code = "outdated_leader"
    remedy = "See `skerry-aggregator status` on all aggregators: one has to lead."


@dataclass(frozen=True, slots=True)
class Standing:
    """How this aggregator stands in its fleet; stored."""

    fleet_id: FleetId
    term: int
    is_leading: bool
    highest_seen: int = 0  # the highest term that anybody named
    schema: int = 1


class Leadership:
    """The fleet's id, our term, and the newest sealed copy."""

    def __init__(
        self,
        database: db.Database,
        authority: authority.Authority,
        state_folder: Path,
    ) -> None:
        """Load how we stand; NoFleet if nothing was founded here."""
        self._database = database
        self._settings = database.records("setting")
        self._authority = authority
        self._folder = state_folder
        self._lock = threading.Lock()
        self._load()
        self._on_superseded: list[Callable[[int, int], None]] = []

    def on_superseded(self, callback: Callable[[int, int], None]) -> None:
        """Call back with our term and the newest when we stop leading."""
        self._on_superseded.append(callback)

    @property
    def fleet_id(self) -> FleetId:
        return self._standing.fleet_id

    @property
    def term(self) -> int:
        return self._standing.term

    @property
    def is_leading(self) -> bool:
        return self._standing.is_leading

    def headers(self) -> Mapping[str, str]:
        """Return what every verb to a node carries."""
        standing = self._standing
        return {
            "X-Skerry-Fleet": standing.fleet_id,
            "X-Skerry-Term": str(standing.term),
        }

    def mark(self) -> FleetMark:
        """Return what a reply to a push names; cheap."""
        sealed = self._sealed
        version = sealed.version if sealed is not None else 0
        return FleetMark(self.fleet_id, self.term, version)

    def sealed(self) -> SealedFleet:
        """Return the newest sealed copy."""
        if self._sealed is None:
            self.seal_changes()
        assert self._sealed is not None, "seal_changes makes the first copy"
        return self._sealed

    def seal_changes(self) -> bool:
        """Seal a new version if something in it changed; tell whether it did."""
        with self._lock:
            return self._again(self._seal_changes)

    def promote(self, *, above: int = 0) -> int:
        """Lead from now on, with a term above all that were seen; return it."""

        def lead() -> int:
            self._load()
            standing = self._standing
            term = max(standing.term, standing.highest_seen, above) + 1
            self._keep(replace(standing, term=term, is_leading=True))
            return term

        with self._lock:
            term = self._again(lead)
            self._again(self._seal_changes)
            log.info("this aggregator leads fleet %s, term %d", self.fleet_id, term)
            return term

    def observe(self, term: int) -> None:
        """Take note of a term that somebody named: if it is higher, he leads."""

        def give_way() -> Standing | None:
            if term <= self._newest():
                return None
            self._load()
            standing = self._standing
            if term <= self._newest():
                return None
            log.warning("term %d leads; ours is %d", term, standing.term)
            self._keep(replace(standing, highest_seen=term, is_leading=False))
            return standing

        with self._lock:
            before = self._again(give_way)
        if before is not None and before.is_leading:
            for callback in self._on_superseded:
                callback(before.term, term)

    def check_leading(self) -> None:
        """Raise NotLeading if another aggregator leads."""
        if not self.is_leading:
            raise NotLeading("another aggregator leads this fleet")

    def check_follows(self, sealed: SealedFleet) -> None:
        """Raise Outdated if a leader's copy is of a term that is over."""
        with self._lock:
            self._load()
            self._check_follows(sealed)

    def follow(self, sealed: SealedFleet, key: sealing.SealingKey) -> None:
        """Keep the leader's sealed copy, and what seals, as ours."""

        def mirror() -> None:
            self._load()
            self._check_follows(sealed)
            seen = max(self._standing.highest_seen, sealed.term)
            _keep_key(self._folder, key)
            self._keep_sealed(sealed, "")
            self._keep(replace(self._standing, term=sealed.term, highest_seen=seen))

        with self._lock:
            self._again(mirror)

    def sealing_key(self) -> sealing.SealingKey:
        """Return what seals, for a mirror that may lead one day."""
        return _load_sealing_key(self._folder)

    def change_recovery_key(self) -> Secret:
        """Make a new recovery key, seal with it from now on, and return it."""

        def seal() -> None:
            self._digest = ""
            self._seal_changes()

        with self._lock:
            recovery_key = sealing.make_recovery_key()
            keep_sealing_key(self._folder, recovery_key)
            self._again(seal)
            return recovery_key

    def _seal_changes(self) -> bool:
        standing = self._standing
        if not standing.is_leading:
            return False
        text = documents.dump(
            documents.gather(
                self._database,
                standing.fleet_id,
                self._authority.ca_key(),
                self._authority.ca_certificate,
            )
        )
        digest = hashlib.sha256(b"%d\n" % standing.term + text).hexdigest()
        if digest == self._digest and self._sealed is not None:
            return False
        version = self._sealed.version + 1 if self._sealed is not None else 1
        key = _load_sealing_key(self._folder)
        sealed = sealing.seal(key, standing.fleet_id, standing.term, version, text)
        self._keep_sealed(sealed, digest)
        log.info("sealed version %d of the fleet's documents", version)
        return True

    def _newest(self) -> int:
        return max(self._standing.term, self._standing.highest_seen)

    def _check_follows(self, sealed: SealedFleet) -> None:
        newest = self._newest()
        if self._standing.is_leading or sealed.term < newest:
            raise Outdated(f"a copy of term {sealed.term}, and {newest} leads")

    def _again(self, act: Callable[[], T]) -> T:
        """Act; load and act again if another process wrote since we looked."""
        for _ in range(_LOOKS - 1):
            try:
                return act()
            except db.StaleRecord as error:
                log.info("another process wrote meanwhile: %s", error)
                self._load()
        return act()

    def _load(self) -> None:
        standing = self._settings.get(documents.LEADERSHIP)
        if standing is None:
            raise NoFleet("this aggregator belongs to no fleet yet")
        self._standing = wire.from_json(Standing, standing.body, strict=False)
        self._version = standing.version
        kept = self._settings.get(documents.SEALED)
        self._sealed = documents.sealed_in(kept) if kept is not None else None
        self._digest = str(kept.body["digest"]) if kept is not None else ""
        self._sealed_version = kept.version if kept is not None else 0

    def _keep(self, standing: Standing) -> None:
        body, version = wire.to_json(standing), self._version
        kept = self._settings.put(documents.LEADERSHIP, body, version)
        self._standing, self._version = standing, kept.version

    def _keep_sealed(self, sealed: SealedFleet, digest: str) -> None:
        body = {"digest": digest, "copy": wire.to_json(sealed)}
        kept = self._settings.put(documents.SEALED, body, self._sealed_version)
        self._sealed, self._digest = sealed, digest
        self._sealed_version = kept.version


def found(settings: db.Records, standing: Standing) -> None:
    """Store how the first aggregator of a fleet, or its successor, stands."""
    settings.put(documents.LEADERSHIP, wire.to_json(standing))


def is_founded(settings: db.Records) -> bool:
    """Tell whether this aggregator belongs to a fleet."""
    return settings.get(documents.LEADERSHIP) is not None


def keep_sealing_key(folder: Path, recovery_key: Secret) -> None:
    """Store what seals, not what opens."""
    _keep_key(folder, sealing.sealing_key(recovery_key))


def _keep_key(folder: Path, key: sealing.SealingKey) -> None:
    vault.write(folder / SEALING_FILE, wire.encode(key).decode(), vault.PRIVATE)


def _load_sealing_key(folder: Path) -> sealing.SealingKey:
    text = vault.read(folder / SEALING_FILE)
    if text is None:
        raise NoFleet(f"{folder / SEALING_FILE} is missing")
    return wire.decode(sealing.SealingKey, text.encode(), strict=False)
