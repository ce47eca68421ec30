"""Keep keys and certificates in files: replaced whole, on disk when it returns."""

import os
from pathlib import Path
from typing import Final

PRIVATE: Final = 0o600  # keys: root only
PUBLIC: Final = 0o644  # certificates: anybody may read them


def write(path: Path, text: str, mode: int) -> None:
    """Replace a file: a reader sees the old text or the new one, never a part."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        os.fchmod(stream.fileno(), mode)
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(fresh, path)
    _sync_folder(path.parent)


def read(path: Path) -> str | None:
    """Return a file's text; None if there is no such file."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
