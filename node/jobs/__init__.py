"""Run what lasts over a second: persisted, cancellable, survives a restart."""

from node.jobs.limits import Limited, Place
from node.jobs.workers import (
    AgentStopping,
    Cancelled,
    Handler,
    JobIdTaken,
    Jobs,
    JobUnknown,
    Progress,
    Runner,
    TooManyJobs,
)

__all__ = [
    "AgentStopping",
    "Cancelled",
    "Handler",
    "JobIdTaken",
    "JobUnknown",
    "Jobs",
    "Limited",
    "Place",
    "Progress",
    "Runner",
    "TooManyJobs",
]
