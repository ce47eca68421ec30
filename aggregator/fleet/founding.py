"""Found a fleet, or rebuild its aggregator from what a node kept.

Both work on an empty state folder and an empty database, and store last what
says that they are done: cut short, they can be run again.
"""

import logging
import uuid
from pathlib import Path

from aggregator import authority, db
from aggregator.fleet import documents, reach, sealing, term
from node import wire
from node.clock import Clock
from node.errors import Conflict
from node.log import Secret
from node.model.fleet import SealedFleet
from node.model.ids import FleetId

log = logging.getLogger(__name__)


class FoundedAlready(Conflict):
    """This aggregator belongs to a fleet: nothing was changed."""

    code = "founded_already"
    remedy = "Use it as it is, or start from an empty state folder and database."


class OtherCopy(Conflict):
    """The sealed copy's label does not fit what is in it."""

    code = "other_copy"
    remedy = "Ask another node for its copy."


def init(folder: Path, database: db.Database, clock: Clock) -> Secret:
    """Found a fleet; return its recovery key, which is stored nowhere.

    Raises FoundedAlready.
    """
    settings = database.records("setting")
    check_is_empty(settings)
    recovery_key = sealing.make_recovery_key()
    fleet_id = FleetId(str(uuid.uuid4()))
    term.keep_sealing_key(folder, recovery_key)
    authority.create(folder, fleet_id, clock)
    term.found(settings, term.Standing(fleet_id, term=1, is_leading=True))
    log.info("founded fleet %s", fleet_id)
    return recovery_key


def rebuild(
    folder: Path,
    database: db.Database,
    doorstep: reach.Doorstep,
    recovery_key: Secret,
    *,
    is_mirror: bool = False,
) -> FleetId:
    """Restore a fleet from the copy that a node gives out; return its id.

    The new aggregator leads with the next term, unless it is only to mirror.
    Raises FoundedAlready, SealRefused, BadRecoveryKey, OtherCopy.
    """
    settings = database.records("setting")
    check_is_empty(settings)
    sealed = doorstep.sealed_show()
    text = sealing.unseal(recovery_key, sealed)
    fleet = documents.parse(text)
    if fleet.fleet_id != sealed.fleet_id:
        raise OtherCopy(f"the copy is labelled {sealed.fleet_id}")
    authority.adopt(folder, Secret(fleet.keys.ca_key), fleet.keys.ca_certificate)
    term.keep_sealing_key(folder, recovery_key)
    documents.restore(database, fleet)
    _continue_versions(settings, sealed)
    standing = term.Standing(
        fleet.fleet_id,
        term=sealed.term if is_mirror else sealed.term + 1,
        is_leading=not is_mirror,
        highest_seen=sealed.term,
    )
    term.found(settings, standing)
    log.info("rebuilt fleet %s from version %d", fleet.fleet_id, sealed.version)
    return fleet.fleet_id


def check_is_empty(settings: db.Records) -> None:
    """Raise FoundedAlready if this aggregator belongs to a fleet."""
    if term.is_founded(settings):
        raise FoundedAlready("this aggregator belongs to a fleet already")


def _continue_versions(settings: db.Records, sealed: SealedFleet) -> None:
    """Let the next version be one more than that of the copy."""
    settings.put(documents.SEALED, {"digest": "", "copy": wire.to_json(sealed)})
