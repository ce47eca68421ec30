"""Read and write the KEY=VALUE lines of oVirt's metadata files.

Pure. Storage domains and volumes share these rules: UTF-8, one entry a line,
lines sorted by key, blanks around a value do not count. Each file adds its own
last line. Source: docs/formats/storage-domain.md.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Final, TypeVar

from node.errors import Failed, Invalid
from node.storage.formats import layout

Choice = TypeVar("Choice", bound=StrEnum)

NUMBER_MAX: Final = 2**63 - 1  # of 64 bits with a sign
_KEY = re.compile(r"[!-<>-~]{1,64}")  # printable ASCII without "="
_NOT_TEXT = re.compile("[\0\ud800-\udfff]")  # what UTF-8 or C cannot hold
_NUMBER = re.compile(r"[0-9]{1,19}")  # as many digits as 64 bits may need
_SHOWN_MAX = 80  # letters of what a message repeats of a wrong value


class MetadataDamaged(Failed):
    """A metadata file does not hold what its format asks for."""

    code = "storage_metadata_damaged"
    remedy = (
        "Nothing was changed. Check the storage domain (`skerry-node storage check`), "
        "and restore the file from a backup if other software wrote it."
    )


class UnwritableValue(Invalid):
    """A value cannot stand on one line of a metadata file."""

    code = "unwritable_metadata"
    remedy = "Remove line breaks, control characters and blanks at the ends."


def parse(text: str) -> dict[str, str]:
    """Return the entries of some lines; MetadataDamaged if a line is none."""
    entries: dict[str, str] = {}
    for line in text.split("\n"):
        if not line.strip():
            continue
        key, equals, value = line.partition("=")
        key, value = key.strip(), value.strip()
        if not equals or not _KEY.fullmatch(key):
            raise MetadataDamaged(
                f"{shown(line)} is no line KEY=VALUE", line=shown(line)
            )
        if key in entries:
            raise MetadataDamaged(f"{key} stands twice in the file", key=key)
        if not _is_one_line(value):
            raise MetadataDamaged(f"{key} has a line break in it", key=key)
        entries[key] = value
    return entries


def lines(entries: Mapping[str, str]) -> list[str]:
    """Return the sorted lines of entries, without newlines."""
    for key, value in entries.items():
        if not _KEY.fullmatch(key) or value != value.strip() or not _is_one_line(value):
            text = f"{shown(key)}={shown(value)}"
            raise UnwritableValue(f"{text} does not fit on a line", key=shown(key))
    return [f"{key}={entries[key]}" for key in sorted(entries)]


def decode(data: bytes, size_max: int) -> str:
    """Return a file's text; MetadataDamaged if it is too large or no UTF-8."""
    if len(data) > size_max:
        raise MetadataDamaged(
            f"the file has {len(data)} bytes, at most {size_max} are allowed",
            size_bytes=len(data),
        )
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise MetadataDamaged(f"the file is not UTF-8 text: {error}") from error


def required(entries: Mapping[str, str], key: str) -> str:
    """Return a value that must be there."""
    if key not in entries:
        raise MetadataDamaged(f"{key} is missing", key=key)
    return entries[key]


def number(entries: Mapping[str, str], key: str, maximum: int = NUMBER_MAX) -> int:
    """Return a value that must be a decimal number from 0 to a maximum."""
    text = required(entries, key)
    if not _NUMBER.fullmatch(text) or int(text) > maximum:
        raise wrong(key, text, f"a number up to {maximum}")
    return int(text)


def choice(kind: type[Choice], entries: Mapping[str, str], key: str) -> Choice:
    """Return a value that must be a member of an enum."""
    text = required(entries, key)
    try:
        return kind(text)
    except ValueError as error:
        raise wrong(key, text, f"one of {', '.join(kind)}") from error


def identifier(entries: Mapping[str, str], key: str) -> str:
    """Return a value that must be a lower-case UUID."""
    text = required(entries, key)
    if not layout.is_id(text):
        raise wrong(key, text, "a lower-case UUID")
    return text


def wrong(key: str, value: str, wanted: str) -> MetadataDamaged:
    """Return the error of a value that is not what its key asks for."""
    return MetadataDamaged(f"{key} is {shown(value)}, not {wanted}", key=key)


def shown(text: str) -> str:
    """Return the begin of a text that may hold anything, as one that may travel."""
    return ascii(text[:_SHOWN_MAX])


def _is_one_line(value: str) -> bool:
    # Other readers also split at vertical tabs, form feeds, U+2028 and the like.
    return not _NOT_TEXT.search(value) and len(value.splitlines()) <= 1
