"""Say what failed in the lab, where its log is, and what to do next.

Each error is of one of the eight kinds in `node.errors`, which imports nothing.
"""

from pathlib import Path

from node.errors import Conflict, Error, Failed, Invalid, Unavailable, Unsupported


class LabError(Error):
    """A part of the lab failed: read the log it names, then do the remedy."""

    code = "lab_error"

    def __init__(
        self, part: str, problem: str, *, remedy: str, log: Path | None = None
    ) -> None:
        path = None if log is None else str(log)
        super().__init__(f"{part}: {problem}", part=part, problem=problem, log=path)
        self.remedy = remedy
        self.log = log

    def __str__(self) -> str:
        """Return one line for each of: what failed, the log, the remedy."""
        lines = [self.message]
        if self.log is not None:
            lines.append(f"  log: {self.log}")
        return "\n".join([*lines, f"  remedy: {self.remedy}"])


class BadSetting(LabError, Invalid):
    """A setting cannot be: choose another."""

    code = "lab_bad_setting"


class NotRunning(LabError, Unavailable):
    """There is no such lab or member, or it is off: bring it up or boot it."""

    code = "lab_not_running"


class Collision(LabError, Conflict):
    """Something else uses a name, address or port of the lab: choose another."""

    code = "lab_collision"


class Missing(LabError, Unsupported):
    """The machine lacks what the lab needs: install or enable it."""

    code = "lab_missing"


class TimedOut(LabError, Unavailable):
    """A step passed its deadline: read the log."""

    code = "lab_timed_out"


class StepFailed(LabError, Failed):
    """A step did not take: read the log."""

    code = "lab_step_failed"
