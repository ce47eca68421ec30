"""Do file operations for the storage process, one line of them after another.

Becomes the storage user when it is loaded; a socket is its input and output: a line
is a list of {"name": …, its arguments}; the answer is one FileReplies. Ends with its
socket.
"""

import base64
import binascii
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from node import wire
from node.errors import Error
from node.storage.process import file_operations, launch
from node.storage.process.file_operations import FileMalformed

_KINDS: Final[Mapping[type, str]] = {
    str: "a string",
    int: "an integer",
    bool: "true or false",
    bytes: "base64",
}


def main() -> None:
    """Serve until the socket is closed.

    Arguments: our folder, the root, and what `give_up_root` needs, if it is to.
    """
    root, *words = sys.argv[2:]
    if words:
        launch.give_up_root(*map(int, words))
    for line in sys.stdin.buffer:
        answer = work(root, wire.parse(line))
        sys.stdout.buffer.write(wire.encode(answer) + b"\n")
        sys.stdout.buffer.flush()


def work(
    root: str, operations: Any, sync: Callable[[int], None] = os.fsync
) -> dict[str, Any]:
    """Do operations in order up to the first error; return what FileReplies says.

    `sync` is how a file or folder gets to the disk, by its descriptor.
    """
    replies: list[Any] = []
    try:
        with file_operations.together(sync):
            for operation in operations:
                replies.append(_perform(root, operation))
    except Error as error:
        problem = {
            "kind": error.kind,
            "code": error.code,
            "message": error.message,
            "remedy": error.remedy,
            "fields": dict(error.fields),
        }
        return {"replies": replies, "problem": problem}
    return {"replies": replies}


def _perform(root: str, operation: Mapping[str, Any]) -> Any:
    name = operation.get("name")
    function = file_operations.OPERATIONS.get(name) if isinstance(name, str) else None
    if function is None:
        raise FileMalformed(f"there is no operation {str(name)[:40]!r}")
    wanted = {
        each: kind
        for each, kind in function.__annotations__.items()
        if each not in ("root", "return")
    }
    given = {each: value for each, value in operation.items() if each != "name"}
    if odd := sorted(wanted.keys() ^ given.keys()):
        raise FileMalformed(f"{name}: {', '.join(odd)[:200]} missing or unknown")
    arguments = {
        each: _argument(each, kind, given[each]) for each, kind in wanted.items()
    }
    found = file_operations.perform(str(name), root, arguments)
    if isinstance(found, bytes):
        return base64.b64encode(found).decode()
    return wire.to_json(found)


def _argument(name: str, kind: type, value: Any) -> Any:
    if kind is bytes and isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError) as error:
            raise FileMalformed(f"{name} must be base64: {error}") from error
    if type(value) is not kind:
        raise FileMalformed(f"{name} must be {_KINDS[kind]}")
    return value
