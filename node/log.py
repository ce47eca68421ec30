"""Set up logging once per process, and keep secrets out of it."""

import logging
import sys
from typing import Final

FORMAT: Final = "%(asctime)s %(levelname)-7s %(threadName)s %(name)s: %(message)s"


class Secret:
    """A string that no log line, traceback or repr will show."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "Secret(…)"


def configure(level: str = "INFO") -> None:
    """Log to standard error, where the service manager collects it."""
    logging.basicConfig(level=level, format=FORMAT, stream=sys.stderr, force=True)
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    logging.getLogger("urllib3").setLevel(logging.INFO)
    logging.getLogger("alembic").setLevel(logging.WARNING)
