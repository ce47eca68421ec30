"""Read the tree's own source, and say what each module imports.

Only `read` touches the disk; the rules work on what it returns.
"""

import ast
import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]

# Made by tools, so nobody's prose: what .gitignore names as well.
SKIPPED_FOLDERS: Final = frozenset({"build", "dist", "node_modules", "vendor"})


@dataclass(frozen=True, slots=True)
class Source:
    path: str  # below the checkout, with "/"
    text: str

    @property
    def module(self) -> str:
        """Return the dotted name that the file is imported by."""
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def package(self) -> str:
        """Return the package that relative imports start from."""
        is_package = self.path.endswith("/__init__.py")
        return self.module if is_package else self.module.rpartition(".")[0]


@dataclass(frozen=True, slots=True)
class Import:
    line: int
    name: str  # `from node import wire` is node.wire, as `import node.wire` is


def read(root: Path = ROOT) -> list[Source]:
    """Return every text file of the checkout that people write, by path."""
    sources: list[Source] = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(
            name
            for name in folders
            if name not in SKIPPED_FOLDERS
            and not name.endswith((".egg-info", "cache__", "_cache"))
            and name not in {".git", ".venv", ".hypothesis"}
        )
        for name in sorted(names):
            path = Path(folder, name)
            try:
                text = path.read_text(encoding="utf-8")
            except (UnicodeDecodeError, FileNotFoundError):
                # A picture, or a file that a tool removed meanwhile.
                continue
            sources.append(Source(path.relative_to(root).as_posix(), text))
    return sources


def python(sources: list[Source], *folders: str) -> list[Source]:
    """Return the Python files below the folders; all of them without any."""
    starts = tuple(f"{folder}/" for folder in folders)
    return [
        source
        for source in sources
        if source.path.endswith(".py")
        and (not starts or source.path.startswith(starts))
    ]


@functools.cache  # most rules ask
def imports(source: Source) -> tuple[Import, ...]:
    """Return what a module imports, wherever in the file it does so."""
    found = sorted(_imports(source), key=lambda found: (found.line, found.name))
    return tuple(found)


def is_below(name: str, prefixes: tuple[str, ...]) -> bool:
    """Tell whether a dotted name is one of the prefixes or inside one."""
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def _imports(source: Source) -> Iterator[Import]:
    for node in ast.walk(ast.parse(source.text, source.path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            start = node.module or ""
            if node.level:
                parents = source.package.split(".")
                kept = parents[: len(parents) - node.level + 1]
                start = ".".join([*kept, start] if start else kept)
            for alias in node.names:
                yield Import(node.lineno, f"{start}.{alias.name}")
