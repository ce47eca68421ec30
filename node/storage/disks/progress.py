"""Say how far an operation on disks is, in percent and in words. Pure."""

import re
from collections.abc import Sequence
from typing import Final

from node.storage.formats.journal import Journal
from node.storage.operations.plan import Action, Verb

# Programs that say what they have copied; qemu-img does with "-p".
_TELLING: Final = frozenset({Verb.WIPE, Verb.FILL})
_PERCENT: Final = re.compile(r"\(([0-9]{1,3})[.0-9]*/100%\)")


def percent(journal: Journal, number: int, line: str = "") -> int:
    """Return how far it is: by the programs that copy, and their words.

    `number` is the action under way, `line` what its program said last.
    """
    steps = journal.plan.steps
    before = [action for step in steps[: journal.done] for action in step.do]
    copied = _copies([*before, *journal.step.do[:number]])
    found = _PERCENT.search(line)
    within = int(found[1]) if found else 0
    total = _copies([action for step in steps for action in step.do])
    return min((100 * copied + within) // max(total, 1), 100)


def text(journal: Journal) -> str:
    """Return what is being done."""
    return f"{journal.verb}: {journal.step.name}"


def _copies(actions: Sequence[Action]) -> int:
    """Return how many programs among these tell of their progress."""
    return sum(each.verb in _TELLING or "-p" in each.words for each in actions)
