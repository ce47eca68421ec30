"""The lines that oVirt's metadata files have in common."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from node.storage.formats import key_values
from node.storage.formats.key_values import MetadataDamaged, UnwritableValue
from tests.unit.node.storage.examples import KEYS, TEXTS, attempt


@given(some.dictionaries(KEYS, TEXTS))
def test_parse_reads_what_lines_wrote(entries: dict[str, str]) -> None:
    lines = key_values.lines(entries)
    assert key_values.parse("\n".join(lines)) == entries
    assert [line.partition("=")[0] for line in lines] == sorted(entries)


@given(some.text(some.sampled_from("AB= \n\r\0ä\u2028")))
def test_lines_writes_whatever_parse_accepts(text: str) -> None:
    result = attempt(lambda data: key_values.parse(data.decode()), text.encode())
    if isinstance(result, dict):
        assert key_values.parse("\n".join(key_values.lines(result))) == result
    else:
        assert isinstance(result, MetadataDamaged)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("A=1\nA=1", id="key-twice"),
        pytest.param("A", id="no-value"),
        pytest.param("=1", id="no-key"),
        pytest.param("Ä=1", id="key-not-ascii"),
        pytest.param("A=1\x0b2", id="vertical-tab"),
        pytest.param("A=1\u20282", id="line-separator"),
        pytest.param("A=1\x002", id="zero"),
    ],
)
def test_parse_refuses(text: str) -> None:
    with pytest.raises(MetadataDamaged):
        key_values.parse(text)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        pytest.param("A", "1\nROLE=Master", id="second-line"),
        pytest.param("A", "1\r", id="carriage-return"),
        pytest.param("A", " 1", id="blank-before"),
        pytest.param("A", "\udc80", id="surrogate"),
        pytest.param("A", "a\0b", id="zero"),
        pytest.param("A=B", "1", id="key-with-equals"),
        pytest.param("", "1", id="no-key"),
    ],
)
def test_lines_refuses(key: str, value: str) -> None:
    with pytest.raises(UnwritableValue):
        key_values.lines({key: value})


@pytest.mark.parametrize("text", ["", "-1", "+1", "1_0", " 1", "0x1", "٣", "1e3", "8"])
def test_number_refuses(text: str) -> None:
    with pytest.raises(MetadataDamaged):
        key_values.number({"A": text}, "A", 7)
