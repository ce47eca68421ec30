"""Options: described once, read with errors that name them."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as some

from node.config import Config
from node.model import options
from node.model.options import BadOption, option


@dataclass(frozen=True, slots=True)
class Schema:
    name: str = option("nobody", "text", "who it is", needs_restart=False)
    count: int = option(3, "count", "how many")
    delay_s: float = option(1.5, "s", "how long")
    is_loud: bool = option(False, "yes|no", "how it sounds")


def test_describe_tells_all_of_each_option() -> None:
    described = options.describe(Schema)
    assert [each.name for each in described] == ["name", "count", "delay_s", "is_loud"]
    first = described[0]
    assert (first.kind, first.default, first.unit, first.consequence) == (
        str,
        "nobody",
        "text",
        "who it is",
    )
    assert [each.needs_restart for each in described] == [False, True, True, True]


def test_read_returns_defaults_when_nothing_is_set() -> None:
    assert options.read(Schema, {}) == Schema()


@given(
    name=some.text(),
    count=some.integers(),
    delay_s=some.floats(allow_nan=False),
    is_loud=some.booleans(),
)
def test_read_returns_what_the_texts_say(
    name: str, count: int, delay_s: float, is_loud: bool
) -> None:
    wanted = Schema(name, count, delay_s, is_loud)
    settings = {
        "name": name,
        "count": str(count),
        "delay_s": repr(delay_s),
        "is_loud": str(is_loud),
    }
    assert options.read(Schema, settings) == wanted


@pytest.mark.parametrize(
    ("text", "value"),
    [("yes", True), ("ON", True), ("1", True), ("no", False), ("Off", False)],
)
def test_read_takes_several_words_for_yes_and_no(text: str, value: bool) -> None:
    assert options.read(Schema, {"is_loud": text}).is_loud is value


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"colour": "red"}, "there is no option colour"),
        ({"count": "many"}, "option count must be int, not 'many'"),
        ({"delay_s": "1,5"}, "option delay_s must be float, not '1,5'"),
        ({"is_loud": "maybe"}, "option is_loud must be bool, not 'maybe'"),
    ],
    ids=["unknown", "int", "float", "bool"],
)
def test_read_names_the_option_that_is_wrong(
    settings: dict[str, str], complaint: str
) -> None:
    with pytest.raises(BadOption, match=complaint):
        options.read(Schema, settings)


def test_every_option_of_the_node_has_a_unit_and_a_consequence() -> None:
    assert all(each.unit and each.consequence for each in options.describe(Config))
