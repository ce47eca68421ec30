"""Say what codes of events and reasons mean, in the reader's language.

For the faces: command lines, REST and dashboard. The catalogue is gettext's
domain `skerry` in `locale/` beside this file, in the language that the
environment names; without one, texts stay English.
"""

import functools
import gettext
from collections.abc import Mapping
from pathlib import Path

from node.model import messages
from node.model.reason import Scalar

DOMAIN = "skerry"
FOLDER = Path(__file__).parent / "locale"


@functools.cache
def catalogue() -> gettext.NullTranslations:
    """Return the catalogue of this process's language."""
    return gettext.translation(DOMAIN, FOLDER, fallback=True)


def text(code: str, fields: Mapping[str, Scalar]) -> str:
    """Return what a code says, for a person; unknown codes are shown as they are."""
    return messages.text(code, fields, catalogue().gettext)


def remedy(code: str, fields: Mapping[str, Scalar]) -> str:
    """Return what to do about a code; empty if there is nothing to do."""
    return messages.remedy(code, fields, catalogue().gettext)
