"""Tests of aggregator.dashboard.questions."""

from aggregator.dashboard import questions
from aggregator.dashboard.questions import Field, Question


def _ask(*fields: Field) -> Question:
    return Question("Move?", "Move", "/there", "/back", fields=fields)


def test_question_is_impossible_with_nothing_to_choose() -> None:
    asked = _ask(Field("name", "Name"), questions.choice("to", "To", ()))
    assert asked.is_possible is False


def test_question_is_possible_with_something_to_choose() -> None:
    asked = _ask(
        questions.tick("force", "Force"), questions.choice("a", "A", [("", "x")])
    )
    assert asked.is_possible is True
