"""A job: anything that lasts over a second, from asked to ended.

queued ──► running ──► done
   │          ├──────► failed
   └──────────┴──────► cancelled
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from node.model.ids import CorrelationId, JobId, NodeId
from node.model.reason import Scalar


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = frozenset({JobState.DONE, JobState.FAILED, JobState.CANCELLED})


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """An error as data: how it travels and is stored."""

    kind: str
    code: str
    message: str
    remedy: str = ""
    fields: Mapping[str, Scalar | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Job:
    job_id: JobId
    verb: str  # name of the verb that asked for it
    object_kind: str  # kind of the document it works on
    object_id: str
    state: JobState
    created_at: str
    progress_percent: int = 0
    step: str = ""  # what it is doing, in a few words
    started_at: str | None = None
    ended_at: str | None = None
    error: ErrorReport | None = None
    correlation_id: CorrelationId | None = None
    is_cancel_asked: bool = False
    result: str = ""  # how it ended, in a word that its verb defines
    data_node_id: NodeId | None = None  # another one, which moves data for it
    schema: int = 1
