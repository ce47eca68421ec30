"""What several tests of storage start from: files written by hand, and ids."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from hypothesis import strategies as some

from node.errors import Error

Read = TypeVar("Read")

FIXTURES = Path(__file__).parent / "fixtures"

SD = "275766cb-c7d8-43d6-a663-4e52160de620"
OTHER_SD = "37e0e64b-5445-4bc3-8675-ceff4637e8e3"
POOL = "5849b030-626e-47cb-ad90-3ce782d831b3"
IMAGE = "7b805d3f-17c1-4a54-b183-830742a031e7"
OTHER_IMAGE = "57b5bf87-4bee-42ab-8910-f7e93419e0dc"

IDS = some.uuids().map(str)
# What fits on a line: no separator that any reader splits at, no blank at the ends.
TEXTS = (
    some.text(some.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=60)
    .map(str.strip)
    .filter(lambda text: len(text.splitlines()) <= 1)
)
KEYS = some.text(
    some.characters(min_codepoint=33, max_codepoint=126, exclude_characters="="),
    min_size=1,
    max_size=20,
)


def attempt(parse: Callable[[bytes], Read], data: bytes) -> Read | Error:
    """Return what was read, or why not; any other error is a bug and passes."""
    try:
        return parse(data)
    except Error as error:
        return error


def read(name: str) -> bytes:
    """Return a file that was written by hand."""
    return (FIXTURES / name).read_bytes()
