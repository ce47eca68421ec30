"""The states of a pool's manager (SPM), and what leads from one to another. Pure.

             asked          joined            acquired           recovered
    FREE ──────────► JOINING ───► ACQUIRING ───────► RECOVERING ───────► SERVING
     ▲ ▲                │ failed     │ failed            │ failed          │ leave
     │ └────────────────┴────────────┘                   ▼                 ▼
     ├─────────────────── released ──────────────── RELEASING ◄────────────┘
     └── lost: from RECOVERING, SERVING and RELEASING       (failed: SERVING again)

A loss may be noticed by any thread at any moment: it ends in FREE at once, and
whatever was under way finds that out at its next step.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from node.model.storage import SpmState


class State(StrEnum):
    FREE = "free"
    JOINING = "joining"
    ACQUIRING = "acquiring"
    RECOVERING = "recovering"
    SERVING = "serving"
    RELEASING = "releasing"


class Event(StrEnum):
    ASKED = "asked"
    JOINED = "joined"
    ACQUIRED = "acquired"
    RECOVERED = "recovered"
    LEAVE = "leave"
    RELEASED = "released"
    FAILED = "failed"
    LOST = "lost"


TRANSITIONS: Final[Mapping[tuple[State, Event], State]] = {
    (State.FREE, Event.ASKED): State.JOINING,
    (State.JOINING, Event.JOINED): State.ACQUIRING,
    (State.JOINING, Event.FAILED): State.FREE,
    (State.ACQUIRING, Event.ACQUIRED): State.RECOVERING,
    (State.ACQUIRING, Event.FAILED): State.FREE,
    (State.RECOVERING, Event.RECOVERED): State.SERVING,
    (State.RECOVERING, Event.FAILED): State.RELEASING,
    (State.RECOVERING, Event.LOST): State.FREE,
    (State.SERVING, Event.LEAVE): State.RELEASING,
    (State.SERVING, Event.LOST): State.FREE,
    (State.RELEASING, Event.RELEASED): State.FREE,
    (State.RELEASING, Event.FAILED): State.SERVING,
    (State.RELEASING, Event.LOST): State.FREE,
}

TOLD: Final[Mapping[State, SpmState]] = {
    State.FREE: SpmState.FREE,
    State.JOINING: SpmState.CONTENDING,
    State.ACQUIRING: SpmState.CONTENDING,
    State.RECOVERING: SpmState.CONTENDING,
    State.SERVING: SpmState.MANAGER,
    State.RELEASING: SpmState.LEAVING,
}
