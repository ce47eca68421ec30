"""Tests of aggregator.dashboard.routes."""

import flask
import pytest

from aggregator.dashboard import routes


@pytest.mark.parametrize(
    ("text", "number"),
    [
        pytest.param("0", 0, id="nothing"),
        pytest.param("12", 12, id="number"),
        pytest.param("9" * 18, 10**18 - 1, id="largest"),
        pytest.param("1" * 19, None, id="too-large-for-the-database"),
        pytest.param("-1", None, id="negative"),
        pytest.param("1.5", None, id="fraction"),
        pytest.param("²", None, id="superscript"),
        pytest.param("", None, id="empty"),
    ],
)
def test_number_is_read_when_it_can_be_meant(text: str, number: int | None) -> None:
    with flask.Flask("test").test_request_context("/", query_string={"before": text}):
        assert routes.number("before") == number


@pytest.mark.parametrize(
    ("query", "number"),
    [
        pytest.param({}, 1, id="absent"),
        pytest.param({"page": "7"}, 7, id="given"),
        pytest.param({"page": "x"}, 1, id="no-number"),
        pytest.param({"page": "0"}, 1, id="zero"),
    ],
)
def test_page_number_starts_at_one(query: dict[str, str], number: int) -> None:
    with flask.Flask("test").test_request_context("/", query_string=query):
        assert routes.page_number() == number
