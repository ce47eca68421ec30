"""Give each state of storage a sign; say what may be done with it in that state.

Pure tables, as in `signs`. What is asked of a disk is in `disk_signs`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aggregator.dashboard.signs import Sign, Tone
from aggregator.federation.view import PoolRow, StorageDomainRow
from node.model.storage import (
    DomainClass,
    DomainState,
    DomainType,
    Liveness,
    PoolState,
    SpmPriority,
    SpmState,
)
from node.model.verbs import ActionGroup

DOMAIN_SIGNS: Final[Mapping[DomainState, Sign]] = {
    DomainState.ACTIVE: Sign("●", Tone.GOOD, "Active"),
    DomainState.ACTIVATING: Sign("◑", Tone.BUSY, "Being activated"),
    DomainState.UNREACHABLE: Sign("✕", Tone.BAD, "Unreachable"),
    DomainState.DEACTIVATING: Sign("◐", Tone.BUSY, "Going into maintenance"),
    DomainState.MAINTENANCE: Sign("‖", Tone.OFF, "Maintenance"),
    DomainState.DETACHING: Sign("◐", Tone.BUSY, "Being detached"),
    DomainState.UNATTACHED: Sign("○", Tone.OFF, "Not attached"),
    DomainState.LOCKED: Sign("◔", Tone.BUSY, "Locked"),
}
NOT_EVERYWHERE: Final = Sign("▲", Tone.WARN, "Active, not everywhere")
DISPUTED: Final = Sign("▲", Tone.BAD, "Disputed")

POOL_SIGNS: Final[Mapping[PoolState, Sign]] = {
    PoolState.UP: Sign("●", Tone.GOOD, "Up"),
    PoolState.CONTENDING: Sign("◔", Tone.BUSY, "No manager yet"),
    PoolState.MASTER_LOST: Sign("✕", Tone.BAD, "Master lost"),
    PoolState.MAINTENANCE: Sign("‖", Tone.OFF, "Maintenance"),
    PoolState.UNREACHABLE: Sign("✕", Tone.BAD, "Unreachable"),
}
NO_MANAGER: Final = Sign("▲", Tone.WARN, "No manager")

SPM_SIGNS: Final[Mapping[SpmState, Sign]] = {
    SpmState.FREE: Sign("○", Tone.OFF, "Member"),
    SpmState.CONTENDING: Sign("◔", Tone.BUSY, "Becoming manager"),
    SpmState.MANAGER: Sign("●", Tone.GOOD, "Manager"),
    SpmState.LEAVING: Sign("◐", Tone.BUSY, "Giving it away"),
}

LIVENESS_SIGNS: Final[Mapping[Liveness, Sign]] = {
    Liveness.UNKNOWN: Sign("?", Tone.OFF, "Not known yet"),
    Liveness.FREE: Sign("○", Tone.OFF, "Has left"),
    Liveness.LIVE: Sign("●", Tone.GOOD, "Alive"),
    Liveness.FAIL: Sign("▲", Tone.WARN, "Late"),
    Liveness.DEAD: Sign("✕", Tone.BAD, "Dead"),
}

KINDS: Final[Mapping[DomainType, str]] = {
    DomainType.NFS: "NFS",
    DomainType.POSIXFS: "POSIX",
    DomainType.LOCALFS: "local folder",
}
CLASSES: Final[Mapping[DomainClass, str]] = {
    DomainClass.DATA: "data",
    DomainClass.ISO: "ISO images",
    DomainClass.EXPORT: "export",
}
PRIORITIES: Final[Mapping[int, str]] = {
    SpmPriority.NEVER: "Never",
    SpmPriority.LOW: "Low",
    SpmPriority.NORMAL: "Normal",
    SpmPriority.HIGH: "High",
}


def domain_sign(row: StorageDomainRow) -> Sign:
    """Return the sign of a storage domain, as all nodes that are heard see it."""
    if row.is_disputed:
        return DISPUTED
    is_lost_somewhere = any(
        each.state is DomainState.UNREACHABLE and not each.is_silent
        for each in row.sights.values()
    )
    if row.state is DomainState.ACTIVE and is_lost_somewhere:
        return NOT_EVERYWHERE
    return DOMAIN_SIGNS[row.state]


def pool_sign(row: PoolRow, *, has_manager: bool) -> Sign:
    """Return the sign of a pool; one that is up may have lost its manager."""
    if row.is_disputed:
        return DISPUTED
    if row.state is PoolState.UP and not has_manager:
        return NO_MANAGER
    return POOL_SIGNS[row.state]


@dataclass(frozen=True, slots=True)
class DomainAction:
    """What a person may ask of a storage domain, and what it means."""

    name: str
    label: str
    group: ActionGroup
    states: frozenset[DomainState]
    meaning: str = ""  # not empty: it is asked for again, with this text
    tick: str = ""  # not empty: the question offers to go further
    is_of_shared: bool = False  # not for a node's own pool
    is_attached: bool = True  # it must, or must not, be part of a pool


DOMAIN_ACTIONS: Final = (
    DomainAction(
        "activate",
        "Activate",
        ActionGroup.MANIPULATE_STORAGE_DOMAIN,
        frozenset({DomainState.MAINTENANCE}),
    ),
    DomainAction(
        "attach",
        "Attach",
        ActionGroup.MANIPULATE_STORAGE_DOMAIN,
        frozenset(DomainState) - {DomainState.LOCKED},
        "It becomes part of the data center's pool, and all nodes there use it. "
        "Attach it in one fleet only: two would destroy each other's data.",
        is_of_shared=True,
        is_attached=False,
    ),
    DomainAction(
        "maintain",
        "Put into maintenance",
        ActionGroup.MANIPULATE_STORAGE_DOMAIN,
        frozenset(
            {DomainState.ACTIVE, DomainState.ACTIVATING, DomainState.UNREACHABLE}
        ),
        "No node uses it any more. What lies on it stays as it is, and comes back "
        "when it is activated. VMs with disks on it must be down.",
    ),
    DomainAction(
        "change",
        "Change",
        ActionGroup.EDIT_STORAGE_DOMAIN,
        frozenset({DomainState.ACTIVE, DomainState.MAINTENANCE}),
        "Where it lies is changed in maintenance only, and it must lie there already.",
    ),
    DomainAction(
        "detach",
        "Detach",
        ActionGroup.MANIPULATE_STORAGE_DOMAIN,
        frozenset({DomainState.MAINTENANCE}),
        "It leaves the pool. Its disks and the VMs that it bears stay on it, and are "
        "not shown here until it is attached again.",
        "Also if nobody can write it. It still names this pool then: import it "
        "elsewhere by force only, and never use it in both places.",
        is_of_shared=True,
    ),
    DomainAction(
        "remove",
        "Remove",
        ActionGroup.DELETE_STORAGE_DOMAIN,
        frozenset(DomainState) - {DomainState.LOCKED},
        "The fleet forgets it. What lies on it stays, and can be imported again.",
        "Destroy all that lies on it, too. Nothing brings it back.",
        is_of_shared=True,
        is_attached=False,
    ),
)
DOMAIN_ACTION_BY_NAME: Final = {action.name: action for action in DOMAIN_ACTIONS}


def domain_actions(row: StorageDomainRow) -> tuple[DomainAction, ...]:
    """Return what may be asked of a storage domain as it is, the usual first."""
    is_shared = row.kind is not DomainType.LOCALFS
    return tuple(
        action
        for action in DOMAIN_ACTIONS
        if row.state in action.states
        and action.is_attached is (row.pool_id is not None)
        and (is_shared or not action.is_of_shared)
    )
