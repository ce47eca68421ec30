"""Refuse what VDSM has and this node does not, when a script calls it.

That it can be imported matters: a script imports at its top, and may come to
its end without a call.
"""

from typing import NoReturn


class NotServedError(Exception):
    """The script needs a part of VDSM that this node does not have."""


def refuse(name: str, instead: str) -> NoReturn:
    """End the call with a sentence that says what to do."""
    raise NotServedError(f"{name} of VDSM is not served here: {instead}")
