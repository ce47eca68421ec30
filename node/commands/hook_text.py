"""Show hooks in the terminal: a node's, or an aggregator's own."""

from collections.abc import Sequence

from node.commands import terminal
from node.model.hooks import HookList, PointFacts


def scripts(reply: HookList) -> str:
    """Return a table of scripts, in the order in which they run."""
    if not reply.scripts:
        return "There are no hooks in " + " or ".join(reply.folders) + "."
    headers = ("POINT", "SCRIPT", "SIZE", "SHA-256", "DOES NOT RUN")
    cells = [
        (each.point, each.name, str(each.size_bytes), each.sha256[:16], each.refused)
        for each in reply.scripts
    ]
    return terminal.table(headers, cells)


def points(facts: Sequence[PointFacts]) -> str:
    """Return a table of points, and what their scripts can do."""
    headers = ("POINT", "PAYLOAD", "MAY ABORT", "EDITS COUNT", "TIMEOUT", "WAITS FOR")
    cells = [
        (
            each.point,
            each.payload,
            "yes" if each.may_abort else "",
            "yes" if each.counts else "",
            f"{each.timeout_s:g} s",
            each.waits_for,
        )
        for each in facts
    ]
    return terminal.table(headers, cells)
