"""Serve the style sheet, the scripts and the pictures, each cached for ever.

An address carries a digest of the content, so that a new version is another
address.
"""

import functools
import hashlib
from pathlib import Path
from typing import Final

import flask

FOLDER: Final = Path(__file__).parent / "static"
_YEAR_S: Final = 365 * 24 * 3600
_DIGITS: Final = 12  # enough to tell versions apart


def address(name: str) -> str:
    """Return the address of a file; empty if it was not installed."""
    digest = _digest(name)
    return f"/static/{name}?v={digest}" if digest else ""


@functools.cache
def _digest(name: str) -> str:
    try:
        content = (FOLDER / name).read_bytes()
    except FileNotFoundError:
        return ""  # scripts of others are put there by the build
    return hashlib.sha256(content).hexdigest()[:_DIGITS]


def send(name: str) -> flask.Response:
    """Return a file below the folder; 404 if there is none."""
    is_named = flask.request.args.get("v", "") == _digest(name) != ""
    response = flask.send_from_directory(FOLDER, name, max_age=_YEAR_S)
    if is_named:
        response.cache_control.immutable = True
    else:
        response.cache_control.max_age = None
        response.cache_control.no_cache = True
    return response
