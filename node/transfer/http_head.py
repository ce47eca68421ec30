"""Read the head of an HTTP request, strictly: what is unclear is refused.

Pure. Only what transfers need: no folded lines, no chunked bodies, one range. What
imageio's server does with a range is kept (docs/formats/transfers.md). Source: RFC
9110 and 9112.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib import parse as urls

from node.errors import Invalid
from node.units import KiB

# Tickets, ranges and a browser's own headers take less than one KiB.
HEAD_BYTES_MAX: Final = 16 * KiB
HEADERS_MAX: Final = 100
END: Final = b"\r\n\r\n"

_REQUEST: Final = re.compile(r"([A-Z]{1,16}) (/[\x21-\x7e]{0,4095}) HTTP/1\.([01])")
_HEADER: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*", re.S)
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
# 19 digits: more bytes than any image has, and still a number of 64 bits.
_LENGTH: Final = re.compile(r"[0-9]{1,19}")
_RANGE: Final = re.compile(r"bytes=([0-9]{1,19})-([0-9]{0,19})")
_CONTENT_RANGE: Final = re.compile(
    r"bytes ([0-9]{1,19})-([0-9]{1,19}|\*)/([0-9]{1,19}|\*)"
)


class HeadMalformed(Invalid):
    code = "head_malformed"
    remedy = "Send a request of HTTP/1.1."


class HeadTooLarge(Invalid):
    status = 431
    code = "head_too_large"
    remedy = f"Send at most {HEAD_BYTES_MAX} bytes before the body."


class LengthMissing(Invalid):
    """A body without a length, or with more than one."""

    code = "length_missing"
    remedy = "Send one Content-Length header and no Transfer-Encoding."


class RangeMalformed(Invalid):
    """A Range header that names no single range."""

    status = 416
    code = "range_malformed"
    remedy = "Ask for one range, such as bytes=0-4095."


class ContentRangeMalformed(Invalid):
    code = "content_range_malformed"
    remedy = "Say where the body belongs, such as bytes 0-4095/*."


@dataclass(frozen=True, slots=True)
class Head:
    method: str
    path: str  # decoded
    query: Mapping[str, str]  # the last one counts
    headers: Mapping[str, str]  # by lower-case name
    is_http_10: bool = False

    @property
    def is_last(self) -> bool:
        """Tell whether the client wants the connection closed afterwards."""
        wish = self.headers.get("connection", "").lower()
        return wish == "close" or (self.is_http_10 and wish != "keep-alive")


@dataclass(frozen=True, slots=True)
class Range:
    start: int
    end: int | None  # the first byte after it; None: to the end of the image


def parse(data: bytes) -> Head:
    """Return the head that ends with an empty line; HeadMalformed if it is none."""
    first, *lines = data.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    found = _REQUEST.fullmatch(first)
    if found is None:
        raise HeadMalformed("the first line is no request")
    if len(lines) > HEADERS_MAX:
        raise HeadTooLarge(f"more than {HEADERS_MAX} headers")
    path, _, query = found[2].partition("?")
    return Head(
        found[1],
        urls.unquote(path),
        dict(urls.parse_qsl(query, keep_blank_values=True)),
        _headers(lines),
        found[3] == "0",
    )


def body_bytes(head: Head) -> int | None:
    """Return how long the body is; None: the head does not say."""
    if "transfer-encoding" in head.headers:
        raise LengthMissing("a body in chunks is not taken")
    text = head.headers.get("content-length")
    if text is None:
        return None
    if not _LENGTH.fullmatch(text):
        raise LengthMissing(f"Content-Length is {text[:40]!r}")
    return int(text)


def wanted_range(head: Head) -> Range | None:
    """Return what a GET asks for; None: all."""
    text = head.headers.get("range")
    if text is None:
        return None
    found = _RANGE.fullmatch(text)
    if found is None:
        raise RangeMalformed(f"Range is {text[:80]!r}")
    start = int(found[1])
    if not found[2]:
        return Range(start, None)
    end = int(found[2]) + 1
    if end <= start:
        raise RangeMalformed(f"Range ends before it begins: {text[:80]!r}")
    return Range(start, end)


def body_start(head: Head) -> int:
    """Return where in the image the body of a PUT belongs.

    Its length is Content-Length's; the end in Content-Range is only checked.
    """
    text = head.headers.get("content-range")
    if text is None:
        return 0
    found = _CONTENT_RANGE.fullmatch(text)
    if found is None:
        raise ContentRangeMalformed(f"Content-Range is {text[:80]!r}")
    start, last, complete = (
        None if each == "*" else int(each) for each in found.groups()
    )
    assert start is not None, "the pattern has digits there"
    if last is not None and (
        last < start or (complete is not None and last >= complete)
    ):
        raise ContentRangeMalformed(f"Content-Range contradicts itself: {text[:80]!r}")
    return start


def _headers(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        found = _HEADER.fullmatch(line)
        if found is None or _CONTROL.search(line):
            raise HeadMalformed(f"this is no header: {line[:40]!r}")
        name = found[1].lower()
        if name in headers and name in ("content-length", "range", "content-range"):
            raise HeadMalformed(f"{name} stands twice")
        headers[name] = found[2]
    return headers
