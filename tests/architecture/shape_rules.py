"""Say how modules are named and how long they may get. Pure. Source: STYLE."""

import ast
from pathlib import PurePosixPath
from typing import Final

from tests.architecture import source
from tests.architecture.source import Source

# Names that say nothing: what is in there belongs where it is used.
EMPTY_NAMES: Final = frozenset(
    {"util", "utils", "helper", "helpers", "common", "misc", "manager", "base"}
)

# Longer than this, it cannot be understood at one sitting: split it.
FILE_LINES_MAX: Final = 600
FUNCTION_LINES_MAX: Final = 70

PRODUCT: Final = ("node", "aggregator", "hooks", "image-build")


def check_names(sources: list[Source]) -> list[str]:
    """Return modules and packages whose names say nothing."""
    return sorted(
        {
            f"{file.path}: {part} says nothing"
            for file in source.python(sources)
            for part in PurePosixPath(file.path).with_suffix("").parts
            if part in EMPTY_NAMES
        }
    )


def check_sizes(sources: list[Source]) -> list[str]:
    """Return files and functions of the product that are too long."""
    return [
        complaint
        for file in source.python(sources, *PRODUCT)
        for complaint in (*_check_file(file), *_check_functions(file))
    ]


def _check_file(file: Source) -> list[str]:
    lines = len(file.text.splitlines())
    if lines <= FILE_LINES_MAX:
        return []
    return [f"{file.path}: {lines} lines, at most {FILE_LINES_MAX}"]


def _check_functions(file: Source) -> list[str]:
    complaints: list[str] = []
    for node in ast.walk(ast.parse(file.text, file.path)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        if lines > FUNCTION_LINES_MAX:
            complaints.append(
                f"{file.path}:{node.lineno}: {node.name} has {lines} lines, "
                f"at most {FUNCTION_LINES_MAX}"
            )
    return complaints
