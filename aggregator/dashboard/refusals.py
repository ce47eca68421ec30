"""Say why a form was refused: on the form itself, which comes back filled in. Pure."""

from dataclasses import dataclass

from aggregator.dashboard.rows import VerdictRow
from node.errors import Error


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something new was not made, and what each node said to it."""

    text: str
    remedy: str
    status: int  # of HTTP
    field: str = ""  # of the form; empty: none of them
    verdicts: tuple[VerdictRow, ...] = ()

    @staticmethod
    def of(error: Error) -> "Refusal":
        """Return the refusal that an error is."""
        field = str(error.fields.get("field", ""))
        return Refusal(str(error), error.remedy, error.status, field)
