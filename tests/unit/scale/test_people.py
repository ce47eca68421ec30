"""Test what counts as an answer."""

import pytest

from tests.scale import people
from tests.scale.connection import Answer
from tests.scale.people import Question


def _answer(status: int, body: bytes) -> Answer:
    return Answer(status, body, 0.0, 0.001)


def test_check_passes_an_answer_with_its_sign() -> None:
    people.check(_answer(200, b"<name>vm-00007</name>"), "/x", "vm-00007")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        pytest.param(200, b"nothing here", id="wrong-answer"),
        pytest.param(500, b"vm-00007", id="error"),
        pytest.param(302, b"vm-00007", id="login-page"),
    ],
)
def test_check_refuses_an_answer_that_is_none(status: int, body: bytes) -> None:
    with pytest.raises(people.WrongAnswer, match="vm-00007"):
        people.check(_answer(status, body), "/x", "vm-00007")


@pytest.mark.parametrize(
    "question", people.QUESTIONS, ids=[each.name for each in people.QUESTIONS]
)
def test_question_has_a_local_target_and_a_sign(question: Question) -> None:
    assert question.target(123, 1000).startswith("/")
    assert question.sign(123, 1000)


def test_page_of_a_vm_begins_with_the_first_on_it() -> None:
    page = people.QUESTIONS[0]
    assert page.target(123, 1000).endswith("page+2")
    assert page.sign(123, 1000) == "vm-00100"
