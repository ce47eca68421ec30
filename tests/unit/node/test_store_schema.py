"""Every document that is stored says which schema it has."""

import pytest

from node import store_schema
from node.model.feed import Kind


@pytest.mark.parametrize("kind", [*Kind, "event"])
def test_known_is_said_of_every_kind(kind: str) -> None:
    assert store_schema.known(kind) == 1


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param([], "", id="empty"),
        pytest.param([("vm", 1), ("event", 1)], "", id="ours"),
        pytest.param([("vm", None)], "", id="before-schemas"),
        pytest.param([("gpu", 7)], "", id="not-ours-to-write"),
        pytest.param(
            [("vm", 3), ("job", 1), ("event", 2)],
            "vm documents of schema 3, this agent knows 1; "
            "event documents of schema 2, this agent knows 1",
            id="newer",
        ),
    ],
)
def test_too_new_names_what_a_newer_agent_wrote(
    rows: list[tuple[str, int | None]], expected: str
) -> None:
    assert store_schema.too_new(rows) == expected
