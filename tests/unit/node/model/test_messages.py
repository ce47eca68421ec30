"""The table of codes: complete, and safe to fill."""

import ast
import string
from collections.abc import Callable, Iterator
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as some

from node.model import messages
from node.model.messages import Message, Severity

_TELLERS = ("Reason", "event", "_tell")  # what is called with a code
_FORMATTER = string.Formatter()


def _wrong(is_right: Callable[[Message], bool]) -> list[str]:
    """Return the codes of the messages that are not as they must be."""
    return [code for code, each in messages.MESSAGES.items() if not is_right(each)]


def _names(template: str) -> list[str]:
    return [name for _, name, _, _ in _FORMATTER.parse(template) if name is not None]


def _told() -> Iterator[str]:
    """Yield the codes that the product's code spells out."""
    product = Path(__file__).parents[4]
    for folder in ("node", "aggregator"):
        for path in (product / folder).rglob("*.py"):
            for call in ast.walk(ast.parse(path.read_text(), path)):
                if not isinstance(call, ast.Call) or not call.args:
                    continue
                code = call.args[0]
                name = getattr(call.func, "attr", getattr(call.func, "id", ""))
                if isinstance(code, ast.Constant) and name in _TELLERS:
                    yield str(code.value)


def test_every_code_that_is_told_has_a_text() -> None:
    told = set(_told())
    assert {"node_joined", "libvirt_down"} <= told  # an event and a reason
    assert told <= set(messages.MESSAGES)


def test_messages_are_sentences_with_plain_fields() -> None:
    def is_sentence(message: Message) -> bool:
        text = message.text
        names = _names(text + message.remedy)
        begins_well = text[:1].isupper() or text.startswith(("{", "libvirt"))
        return begins_well and all(name.isidentifier() for name in names)

    assert _wrong(is_sentence) == []


def test_messages_have_a_remedy_when_somebody_must_act() -> None:
    def is_helpful(message: Message) -> bool:
        return bool(message.remedy) == (message.severity is not Severity.NORMAL)

    assert _wrong(is_helpful) == []


def test_remedies_name_only_fields_that_the_texts_name() -> None:
    def is_filled(message: Message) -> bool:
        return set(_names(message.remedy)) <= set(_names(message.text))

    assert _wrong(is_filled) == []


def test_text_fills_in_the_fields() -> None:
    said = messages.text("vm_started", {"name": "v1", "node": "h1"})
    assert said == "VM v1 runs on h1."


def test_text_shows_a_question_mark_for_a_missing_field() -> None:
    assert messages.text("vm_started", {"name": "v1"}) == "VM v1 runs on ?."


def test_remedy_says_what_to_do() -> None:
    assert messages.remedy("vm_lost_with_host", {}) == "Start it again."


@given(code=some.text(), name=some.text())
def test_codes_that_are_unknown_are_shown_as_they_are(code: str, name: str) -> None:
    if code in messages.MESSAGES or "{" in code or "}" in code:
        return
    assert messages.text(code, {"name": name}) == code
    assert messages.remedy(code, {"name": name}) == ""
    assert messages.severity(code) is Severity.NORMAL


@given(value=some.text())
def test_text_shows_a_field_as_it_is(value: str) -> None:
    said = messages.text("vm_created", {"name": value})
    assert said == f"VM {value} was created."


def test_text_is_translated_before_it_is_filled() -> None:
    words = {"VM {name} was created.": "{name}: neue VM"}
    said = messages.text("vm_created", {"name": "v1"}, lambda text: words[text])
    assert said == "v1: neue VM"
