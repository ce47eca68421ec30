"""Say what may be called where: the clock, chance, and texts for people. Pure."""

import ast
from collections.abc import Iterator
from typing import Final

from tests.architecture import import_rules, source
from tests.architecture.source import Source

# The time of day is asked here; all else is handed a Clock.
CLOCK: Final = "node/clock.py"
TIMES_OF_DAY: Final = frozenset(
    {
        "date.today",
        "datetime.now",
        "datetime.today",
        "datetime.utcnow",
        "time.time",
        "time.time_ns",
    }
)

# What decides is handed its ids: asked twice, it gives the same answer.
NEW_IDS: Final = frozenset({"uuid.uuid1", "uuid.uuid4", "uuid1", "uuid4"})

# They show texts of events and reasons to people: through `node.translate`.
FACES: Final = (
    "node/cli/",
    "node/commands/",
    "aggregator/api/",
    "aggregator/cli/",
    "aggregator/dashboard/",
    "aggregator/rest/",
)
TEXTS: Final = frozenset({"messages.text", "messages.remedy"})
_TRANSLATED: Final = 3  # arguments: code, fields, how to translate


def check_clock(sources: list[Source]) -> list[str]:
    """Return where the time of day is asked past the clock."""
    return [
        f"{file.path}:{call.lineno}: {name} belongs to {CLOCK}"
        for file in source.python(sources, "node", "aggregator")
        if file.path != CLOCK
        for name, call in _calls(file)
        if any(name == each or name.endswith(f".{each}") for each in TIMES_OF_DAY)
    ]


def check_ids(sources: list[Source]) -> list[str]:
    """Return where a module that decides makes an id."""
    return [
        f"{file.path}:{call.lineno}: {name} in a pure module"
        for file in source.python(sources, "node", "aggregator")
        if source.is_below(file.module, import_rules.PURE)
        for name, call in _calls(file)
        if name in NEW_IDS
    ]


def check_texts(sources: list[Source]) -> list[str]:
    """Return where a face shows a text that is never translated."""
    return [
        f"{file.path}:{call.lineno}: {name} is not translated"
        for file in source.python(sources)
        if file.path.startswith(FACES)
        for name, call in _calls(file)
        if name in TEXTS and len(call.args) + len(call.keywords) < _TRANSLATED
    ]


def _calls(file: Source) -> Iterator[tuple[str, ast.Call]]:
    """Yield (dotted name, call) of each call of a file."""
    for node in ast.walk(ast.parse(file.text, file.path)):
        if isinstance(node, ast.Call) and isinstance(
            node.func, ast.Name | ast.Attribute
        ):
            yield ast.unparse(node.func), node
