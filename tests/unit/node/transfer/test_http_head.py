"""Heads that are heads, and all that only looks like one."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.errors import Invalid
from node.transfer import http_head
from node.transfer.http_head import (
    ContentRangeMalformed,
    Head,
    HeadMalformed,
    HeadTooLarge,
    LengthMissing,
    Range,
    RangeMalformed,
)


def head_of(*lines: str, first: str = "GET /images/x HTTP/1.1") -> Head:
    return http_head.parse("\r\n".join([first, *lines, "", ""]).encode("latin-1"))


def test_parse_reads_path_query_and_headers() -> None:
    head = head_of(
        "Host: h",
        "RANGE:bytes=0-9 ",
        first="PUT /images/a%20b?flush=n&flush=y&close HTTP/1.1",
    )
    assert (head.method, head.path) == ("PUT", "/images/a b")
    assert head.query == {"flush": "y", "close": ""}
    assert head.headers == {"host": "h", "range": "bytes=0-9"}


@pytest.mark.parametrize(
    ("first", "lines"),
    [
        pytest.param("GET /x", [], id="no-version"),
        pytest.param("GET /x HTTP/2.0", [], id="other-version"),
        pytest.param("get /x HTTP/1.1", [], id="lower-case"),
        pytest.param("GET x HTTP/1.1", [], id="no-slash"),
        pytest.param("GET  /x HTTP/1.1", [], id="two-blanks"),
        pytest.param("GET /x HTTP/1.1", ["A : b"], id="blank-before-colon"),
        pytest.param("GET /x HTTP/1.1", ["A: b", " c"], id="folded"),
        pytest.param("GET /x HTTP/1.1", ["no colon"], id="no-colon"),
        pytest.param("GET /x HTTP/1.1", ["A: b\nC: d"], id="bare-newline"),
        pytest.param("GET /x HTTP/1.1", ["A: b\0"], id="nul"),
        pytest.param("GET /x HTTP/1.1", ["Range: bytes=0-1"] * 2, id="two-ranges"),
        pytest.param(
            "GET /x HTTP/1.1",
            ["Content-Length: 1", "content-length: 2"],
            id="two-sizes",
        ),
    ],
)
def test_parse_refuses_what_is_unclear(first: str, lines: list[str]) -> None:
    with pytest.raises(HeadMalformed):
        head_of(*lines, first=first)


def test_parse_refuses_too_many_headers() -> None:
    with pytest.raises(HeadTooLarge):
        head_of(*["A: b"] * (http_head.HEADERS_MAX + 1))


@given(st.binary(max_size=300))
def test_parse_survives_any_bytes(data: bytes) -> None:
    with contextlib.suppress(Invalid):
        http_head.parse(data + http_head.END)


@pytest.mark.parametrize(
    ("lines", "first", "is_last"),
    [
        pytest.param([], "GET / HTTP/1.1", False, id="kept"),
        pytest.param(["Connection: Close"], "GET / HTTP/1.1", True, id="closed"),
        pytest.param([], "GET / HTTP/1.0", True, id="old"),
        pytest.param(
            ["Connection: keep-alive"], "GET / HTTP/1.0", False, id="old-kept"
        ),
    ],
)
def test_is_last_follows_the_client(
    lines: list[str], first: str, is_last: bool
) -> None:
    assert head_of(*lines, first=first).is_last is is_last


def test_body_bytes_is_what_the_head_says() -> None:
    assert http_head.body_bytes(head_of()) is None
    assert http_head.body_bytes(head_of("Content-Length: 12")) == 12


@pytest.mark.parametrize(
    "line",
    [
        "Content-Length: -1",
        "Content-Length: +1",
        "Content-Length: 1, 1",
        "Content-Length: 0x10",
        "Content-Length: " + "9" * 5000,
        "Transfer-Encoding: chunked",
    ],
    ids=lambda line: line[:24],
)
def test_body_bytes_refuses_other_lengths(line: str) -> None:
    with pytest.raises(LengthMissing):
        http_head.body_bytes(head_of(line))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        pytest.param("bytes=0-0", Range(0, 1), id="a-byte"),
        pytest.param("bytes=5-9", Range(5, 10), id="some"),
        pytest.param("bytes=5-", Range(5, None), id="open"),
    ],
)
def test_wanted_range_reads_one_range(text: str, wanted: Range) -> None:
    assert http_head.wanted_range(head_of(f"Range: {text}")) == wanted


@pytest.mark.parametrize(
    "text",
    ["bytes=-5", "bytes=9-5", "bytes=0-1,4-5", "items=0-1", "bytes=a-b", "bytes=-", ""],
)
def test_wanted_range_refuses_the_others(text: str) -> None:
    with pytest.raises(RangeMalformed) as caught:
        http_head.wanted_range(head_of(f"Range: {text}"))
    assert caught.value.status == 416


@pytest.mark.parametrize(
    ("text", "start"),
    [("bytes 4-9/*", 4), ("bytes 0-9/10", 0), ("bytes 7-*/*", 7)],
)
def test_body_start_is_the_first_byte(text: str, start: int) -> None:
    assert http_head.body_start(head_of(f"Content-Range: {text}")) == start
    assert http_head.body_start(head_of()) == 0


@pytest.mark.parametrize(
    "text", ["bytes 9-4/*", "bytes 0-9/9", "bytes */9", "bytes=0-9/*", "0-9"]
)
def test_body_start_refuses_contradictions(text: str) -> None:
    with pytest.raises(ContentRangeMalformed):
        http_head.body_start(head_of(f"Content-Range: {text}"))
