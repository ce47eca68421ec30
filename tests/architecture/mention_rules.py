"""Say what no file may mention: the project speaks of itself alone. Pure.

A clone works wherever it lies and whichever mirrors its machine uses, so
neither a developer's folders nor the hosts of package registries are named.
"""

import re
from typing import Final

from tests.architecture.source import Source

MENTIONS: Final = {
    "a developer's folder": re.compile(r"(?<![\w.})\]>*$-])[/](work|home/\w+)/"),
    "a package registry": re.compile(
        r"pypi\.org|pythonhosted\.org|npmjs\.(org|com)|\bdeb\.debian\.org"
        r"|(security|ftp|snapshot)\.debian\.org"
    ),
}


def check_mentions(sources: list[Source]) -> list[str]:
    """Return the lines that mention what they may not."""
    return [
        f"{file.path}:{number}: {what}: {found[0]}"
        for file in sources
        for number, line in enumerate(file.text.splitlines(), 1)
        for what, pattern in MENTIONS.items()
        if (found := pattern.search(line))
    ]
