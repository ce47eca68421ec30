"""Understand oVirt's `search=`: parse it, then make it a predicate over rows.

    query     := any [ "sortby" field [ "asc" | "desc" ] ] [ "page" number ]
    any       := all { "or" all }
    all       := condition { [ "and" ] condition }
    condition := field op value | text
    op        := "=" | "!=" | ">" | "<" | ">=" | "<="

Pure. A value may stand in double quotes; `*` stands for anything; letters'
case does not matter unless asked. A text alone is looked for in all fields.
Source: reference of oVirt's REST API, section 3.6.
"""

import operator
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final, Generic, TypeVar

from node.errors import Invalid

R = TypeVar("R")

LENGTH_MAX: Final = 8192  # what a URL can hold
TERMS_MAX: Final = 200  # each costs time for each row


class BadSearch(Invalid):
    code = "bad_search"
    remedy = "Correct the search; see the documentation of the search language."


class Kind(Enum):
    TEXT = "text"  # searched by a text alone, too
    STATUS = "status"  # PoweringUp is powering_up
    NUMBER = "number"
    TIME = "time"
    TRUTH = "truth"


@dataclass(frozen=True, slots=True)
class SearchField(Generic[R]):
    """A field of a collection; a row may have several values of it, or none."""

    read: Callable[[R], Any]
    kind: Kind = Kind.TEXT
    is_free: bool = True  # a text alone is looked for here, too, if this is a text


@dataclass(frozen=True, slots=True)
class Condition:
    field: str  # lower case, singular; empty: any text
    operator: str
    value: str


@dataclass(frozen=True, slots=True)
class Query:
    """Alternatives, each a conjunction; no alternatives: everything."""

    alternatives: tuple[tuple[Condition, ...], ...] = ()
    sort_field: str | None = None
    is_descending: bool = False
    page: int = 1


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    is_quoted: bool = False
    is_operator: bool = False

    def is_word(self, *words: str) -> bool:
        plain = not (self.is_quoted or self.is_operator)
        return plain and self.text.lower() in words


_TOKEN: Final = re.compile(r'\s*(?:"([^"]*)"|(!=|>=|<=|=|>|<)|([^\s"=<>!]+))')
_COMPARE: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
}
_TRUTHS: Final = {"true": True, "1": True, "false": False, "0": False}


def parse(text: str) -> Query:
    """Return what a search asks for; BadSearch if it cannot be understood."""
    if len(text) > LENGTH_MAX:
        raise BadSearch("the search is too long")
    if "'" in text or ";" in text:
        raise BadSearch("a search must not contain ' or ;")
    # Names are kept in this form of Unicode.
    return _Parser(list(_tokens(unicodedata.normalize("NFC", text)))).query()


def matcher(
    query: Query,
    fields: Mapping[str, SearchField[R]],
    *,
    is_case_sensitive: bool = False,
) -> Callable[[R], bool]:
    """Return what says whether a row is meant; BadSearch for unknown fields."""
    alternatives = [
        [_test(condition, fields, is_case_sensitive) for condition in conjunction]
        for conjunction in query.alternatives
    ]
    if not alternatives:
        return lambda row: True
    return lambda row: any(
        all(test(row) for test in conjunction) for conjunction in alternatives
    )


def prefix(query: Query, name: str) -> str | None:
    """Return what a field must start with, if the search says so."""
    if len(query.alternatives) != 1:
        return None
    for condition in query.alternatives[0]:
        if (condition.field, condition.operator) == (name, "="):
            return condition.value.partition("*")[0]
    return None


def sort_key(
    query: Query, fields: Mapping[str, SearchField[R]]
) -> Callable[[R], Any] | None:
    """Return the key of the order that is asked for; None for the usual one."""
    if query.sort_field is None:
        return None
    read = _field(query.sort_field, fields).read

    def key(row: R) -> tuple[bool, Any]:
        value = read(row)
        if isinstance(value, tuple):
            value = value[0] if value else None
        if isinstance(value, str):
            value = value.casefold()
        return value is not None, value

    return key


@dataclass(slots=True)
class _Parser:
    tokens: list[_Token]
    position: int = 0
    terms: int = 0
    alternatives: list[tuple[Condition, ...]] = field(default_factory=list)

    def query(self) -> Query:
        conjunction: list[Condition] = []
        needs_term = False
        while (token := self._peek()) and not token.is_word("sortby", "page"):
            if token.is_word("and", "or"):
                if needs_term or not conjunction:
                    raise BadSearch(f"something is missing before {token.text}")
                if token.is_word("or"):
                    self.alternatives.append(tuple(conjunction))
                    conjunction = []
                needs_term = True
                self.position += 1
                continue
            conjunction.append(self._condition())
            needs_term = False
        if needs_term:
            raise BadSearch("the search ends with and/or")
        if conjunction:
            self.alternatives.append(tuple(conjunction))
        sort_field, is_descending = self._sorting()
        page = self._page()
        if (rest := self._peek()) is not None:
            raise BadSearch(f"{rest.text!r} is not expected there")
        return Query(tuple(self.alternatives), sort_field, is_descending, page)

    def _condition(self) -> Condition:
        self.terms += 1
        if self.terms > TERMS_MAX:
            raise BadSearch(f"a search has at most {TERMS_MAX} conditions")
        token = self._next("a condition")
        if token.is_operator:
            raise BadSearch(f"a field is missing before {token.text}")
        following = self._peek()
        if token.is_quoted or following is None or not following.is_operator:
            return Condition("", "=", token.text)
        self.position += 1
        value = self._next(f"the value of {token.text}")
        if value.is_operator:
            raise BadSearch(f"the value of {token.text} is missing")
        return Condition(_normal(token.text), following.text, value.text)

    def _sorting(self) -> tuple[str | None, bool]:
        token = self._peek()
        if token is None or not token.is_word("sortby"):
            return None, False
        self.position += 1
        name = _normal(self._next("the field to sort by").text)
        token = self._peek()
        if token is None or not token.is_word("asc", "desc"):
            return name, False
        self.position += 1
        return name, token.is_word("desc")

    def _page(self) -> int:
        token = self._peek()
        if token is None or not token.is_word("page"):
            return 1
        self.position += 1
        number = self._next("the number of the page").text
        if not (number.isascii() and number.isdigit() and 0 < int(number) < 2**31):
            raise BadSearch(f"there is no page {number!r}")
        return int(number)

    def _peek(self) -> _Token | None:
        at_end = self.position >= len(self.tokens)
        return None if at_end else self.tokens[self.position]

    def _next(self, wanted: str) -> _Token:
        token = self._peek()
        if token is None:
            raise BadSearch(f"{wanted} is missing")
        self.position += 1
        return token


def _tokens(text: str) -> Iterator[_Token]:
    position, end = 0, len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None:
            raise BadSearch(f"{text[position:].strip()[:40]!r} cannot be understood")
        quoted, operation, word = match.groups()
        if quoted is not None:
            yield _Token(quoted, is_quoted=True)
        elif operation is not None:
            yield _Token(operation, is_operator=True)
        else:
            yield _Token(word)
        position = match.end()


def _normal(name: str) -> str:
    """Return a field's name in lower case, its object in the singular."""
    *parents, last = name.lower().split(".")
    return ".".join([*(parent.removesuffix("s") for parent in parents), last])


def _field(name: str, fields: Mapping[str, SearchField[R]]) -> SearchField[R]:
    found = fields.get(name)
    if found is None:
        raise BadSearch(f"there is no field {name} to search by", field=name)
    return found


def _test(
    condition: Condition, fields: Mapping[str, SearchField[R]], is_case_sensitive: bool
) -> Callable[[R], bool]:
    if not condition.field:
        texts = [
            each.read
            for name, each in fields.items()
            if each.kind is Kind.TEXT and each.is_free and "." not in name
        ]
        is_like = _like(f"*{condition.value}*", is_case_sensitive)
        return lambda row: any(
            is_like(str(value)) for read in texts for value in _values(read(row))
        )
    found = _field(condition.field, fields)
    accepts = _acceptor(condition, found.kind, is_case_sensitive)
    read = found.read
    if condition.operator == "!=":
        # Something without a value is different from every value.
        return lambda row: all(accepts(value) for value in _values(read(row)))
    return lambda row: any(accepts(value) for value in _values(read(row)))


def _values(value: Any) -> tuple[Any, ...]:
    if isinstance(value, tuple):
        return value
    return () if value is None else (value,)


def _acceptor(
    condition: Condition, kind: Kind, is_case_sensitive: bool
) -> Callable[[Any], bool]:
    wanted, compare = condition.value, _COMPARE[condition.operator]
    if wanted == "*" and condition.operator in ("=", "!="):
        return lambda value: condition.operator == "="
    if kind in (Kind.TEXT, Kind.STATUS):
        fold: Callable[[str], str] = str if is_case_sensitive else str.casefold
        if kind is Kind.STATUS:
            fold = _status
        if condition.operator in ("=", "!="):
            is_like = _like(fold(wanted), is_case_sensitive=True)
            is_wanted = condition.operator == "="
            return lambda value: is_like(fold(str(value))) is is_wanted
        folded = fold(wanted)
        return lambda value: compare(fold(str(value)), folded)
    converted = _converted(condition, kind)
    return lambda value: compare(value, converted)


def _status(text: str) -> str:
    return text.replace("_", "").casefold()


def _converted(condition: Condition, kind: Kind) -> Any:
    try:
        if kind is Kind.NUMBER:
            return float(condition.value)
        if kind is Kind.TRUTH:
            return _TRUTHS[condition.value.lower()]
        moment = datetime.fromisoformat(condition.value)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, KeyError) as error:
        raise BadSearch(
            f"{condition.field} is a {kind.value}, not {condition.value!r}",
            field=condition.field,
        ) from error


def _like(pattern: str, is_case_sensitive: bool) -> Callable[[str], bool]:
    """Return a test for a text with `*`; its time is linear, whatever is asked."""
    fold: Callable[[str], str] = str if is_case_sensitive else str.casefold
    first, *inner = fold(pattern).split("*")
    if not inner:
        return lambda text: fold(text) == first
    last = inner.pop()

    def is_like(text: str) -> bool:
        text = fold(text)
        position, end = len(first), len(text) - len(last)
        if position > end or not (text.startswith(first) and text.endswith(last)):
            return False
        for part in inner:
            found = text.find(part, position, end)
            if found < 0:
                return False
            position = found + len(part)
        return True

    return is_like
