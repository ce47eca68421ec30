"""Turn dataclasses into JSON values and back, with errors that name the path.

Strict reading (verbs, requests) refuses unknown fields; tolerant reading
(pushed documents, stored ones) passes over them. Pure. A field's name on the
wire is its own, or its metadata "wire".
"""

import contextlib
import dataclasses
import functools
import json
import math
import re
import types
import typing
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, TypeVar

from node.errors import Invalid

T = TypeVar("T")
Json = Any  # None, bool, int, float, str, list or dict of them
Reader = Callable[[Json, bool], Any]  # of (value, is it strict)

_SHOWN_MAX = 80  # letters of what a message repeats of a wrong value
_NOT_TEXT = re.compile("[\ud800-\udfff\0]")  # what UTF-8 or PostgreSQL cannot hold
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")  # half a pair is no text


class Malformed(Invalid):
    """A value does not have the type or form that its field needs."""

    code = "malformed"
    remedy = "Correct the field named in the message and send it again."


class UnknownField(Invalid):
    code = "unknown_field"
    remedy = "Remove the field, or check its spelling and the API's version."


class MissingField(Invalid):
    code = "missing_field"
    remedy = "Add the field and send it again."


def to_json(value: object) -> Json:
    """Return the JSON value of a dataclass, or of what dataclasses hold.

    Fields that have their empty default stay out.
    """
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, tuple | list | frozenset):
        return [to_json(item) for item in value]
    return {
        name: to_json(item)
        for attribute, name, default in _written_fields(typing.cast(Any, type(value)))
        if not _says_nothing(item := getattr(value, attribute), default)
    }


class _Misread(Exception):
    """A value is not what it should be; whoever holds it adds the way there."""

    def __init__(self, kind: type[Invalid], text: str, *way: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.way = list(way)  # from the value outwards: ".size", "[0]", ".disks"

    def explained(self) -> Invalid:
        where = "".join(reversed(self.way)).lstrip(".") or "the body"
        return self.kind(f"{where} {self}", field=where)


def from_json(cls: type[T], value: Json, *, strict: bool = True) -> T:
    """Return the dataclass that a JSON value describes; Invalid if it does not."""
    reader: Reader = _reader(typing.cast(Any, cls))
    try:
        return typing.cast(T, reader(value, strict))
    except _Misread as error:
        raise error.explained() from error.__cause__


def encode(value: object) -> bytes:
    """Return compact UTF-8 JSON of a dataclass or a JSON value."""
    return json.dumps(
        to_json(value), separators=(",", ":"), ensure_ascii=False
    ).encode()


def decode(cls: type[T], data: bytes, *, strict: bool = True) -> T:
    """Return the dataclass in a JSON text; Invalid if it is not there."""
    return from_json(cls, parse(data, strict=strict), strict=strict)


def parse(data: bytes, *, strict: bool = False) -> Json:
    """Return the JSON value in a text; Invalid if it is not JSON.

    Strict: an object that has a field twice is refused, too.
    """
    try:
        value = (_STRICT if strict else _TOLERANT).decode(data.decode())
        if b"\\u" in data and _SURROGATE.search(data):
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise Malformed(f"the body is not JSON: {error}") from error
    return value


def _refuse_constant(name: str) -> Json:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    if math.isfinite(number := float(text)):
        return number
    raise ValueError(f"{text[:_SHOWN_MAX]} is too large")


def _refuse_twins(pairs: list[tuple[str, Json]]) -> Json:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twin = _printable(next(name for name in value if names.count(name) > 1))
        raise Malformed(f"{twin} stands twice in one object", field=twin)
    return value


# Made once: json.loads with options makes a decoder for each text.
_TOLERANT = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)
_STRICT = json.JSONDecoder(
    parse_constant=_refuse_constant,
    parse_float=_finite,
    object_pairs_hook=_refuse_twins,
)


def _says_nothing(item: object, default: object) -> bool:
    return item == default and (item is None or item in ("", (), {}))


@functools.cache
def _written_fields(cls: type) -> tuple[tuple[str, str, object], ...]:
    """Return (attribute, name on the wire, default) of each field."""
    assert dataclasses.is_dataclass(cls), f"{cls} cannot travel"
    return tuple(
        (
            field.name,
            field.metadata.get("wire", field.name),
            field.default_factory()
            if field.default_factory is not dataclasses.MISSING
            else field.default,
        )
        for field in dataclasses.fields(cls)
    )


@functools.cache
def _reader(annotation: Any) -> Reader:
    """Return the function that reads a value of a type, or raises _Misread."""
    if hasattr(annotation, "__supertype__"):  # a NewType
        return _reader(annotation.__supertype__)
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return _union_reader(arguments)
    if origin is tuple:
        return _tuple_reader(arguments)
    if origin is not None and issubclass(origin, Mapping):
        return _mapping_reader(arguments)
    if annotation is Any:
        return lambda value, strict: value
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return _enum_reader(annotation)
    if dataclasses.is_dataclass(annotation):
        return _dataclass_reader(typing.cast(type, annotation))
    return _scalar_reader(annotation)


def _complain(wanted: str, value: Json) -> _Misread:
    return _Misread(Malformed, f"must be {wanted}, not {_shown(value)}")


def _shown(value: Json) -> str:
    """Return a value for a message, whatever its size and depth."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, str):
        value = _printable(value)
    return json.dumps(value, ensure_ascii=False)[:_SHOWN_MAX]


def _printable(text: str) -> str:
    """Return the begin of a text that may hold anything, as one that may travel."""
    return _NOT_TEXT.sub("?", text[:_SHOWN_MAX])


_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1


def _scalar_reader(kind: type) -> Reader:
    readers: dict[type, Reader] = {
        str: _read_text,
        int: _read_integer,
        float: _read_float,
        bool: _read_truth,
    }
    return readers[kind]


def _read_truth(value: Json, strict: bool) -> bool:
    if type(value) is not bool:
        raise _complain("true or false", value)
    return value


def _read_integer(value: Json, strict: bool) -> int:
    if type(value) is not int:
        raise _complain("an integer", value)
    if not _INT_MIN <= value <= _INT_MAX:
        raise _complain("an integer of 64 bits", value)
    return value


def _read_float(value: Json, strict: bool) -> float:
    if type(value) in (int, float):
        with contextlib.suppress(OverflowError):
            if math.isfinite(number := float(value)):
                return number
    raise _complain("a number", value)


def _read_text(value: Json, strict: bool) -> str:
    if type(value) is not str:
        raise _complain("a string", value)
    _check_text(value)
    return value


def _check_text(value: str) -> None:
    # Most are plain: asking them is much cheaper than searching.
    if ("\0" in value or not value.isascii()) and _NOT_TEXT.search(value):
        raise _complain("text without surrogates and NUL", value)


def _union_reader(choices: tuple[Any, ...]) -> Reader:
    readers = [_reader(choice) for choice in choices if choice is not type(None)]
    is_optional = type(None) in choices

    def read(value: Json, strict: bool) -> Any:
        if value is None and is_optional:
            return None
        first: Invalid | None = None
        for reader in readers:
            try:
                return reader(value, strict)
            except _Misread as error:
                if len(readers) == 1 or error.kind is not Malformed:
                    raise
                first = first or error.explained()
        raise _complain("one of the types allowed there", value) from first

    return read


def _tuple_reader(arguments: tuple[Any, ...]) -> Reader:
    if arguments[-1] is Ellipsis:
        item = _reader(arguments[0])

        def read(value: Json, strict: bool) -> Any:
            if not isinstance(value, list):
                raise _complain("a list", value)
            found: list[Any] = []
            try:
                for each in value:
                    found.append(item(each, strict))
            except _Misread as error:
                error.way.append(f"[{len(found)}]")
                raise
            return tuple(found)

        return read
    items = [_reader(argument) for argument in arguments]

    def read_fixed(value: Json, strict: bool) -> Any:
        if not isinstance(value, list) or len(value) != len(items):
            raise _complain(f"a list of {len(items)}", value)
        found: list[Any] = []
        try:
            for reader, each in zip(items, value, strict=True):
                found.append(reader(each, strict))
        except _Misread as error:
            error.way.append(f"[{len(found)}]")
            raise
        return tuple(found)

    return read_fixed


def _mapping_reader(arguments: tuple[Any, ...]) -> Reader:
    item = _reader(arguments[1])

    def read(value: Json, strict: bool) -> Any:
        if not isinstance(value, dict):
            raise _complain("an object", value)
        for key in value:
            _check_text(key)
        found: dict[str, Any] = {}
        key = ""
        try:
            for key, each in value.items():
                found[key] = item(each, strict)
        except _Misread as error:
            error.way.append(f".{key[:_SHOWN_MAX]}")
            raise
        return found

    return read


def _enum_reader(kind: type[Enum]) -> Reader:
    choices = {member.value: member for member in kind}
    wanted = "one of " + ", ".join(map(str, choices))

    def read(value: Json, strict: bool) -> Any:
        member = choices.get(value) if isinstance(value, str | int) else None
        if member is None:
            raise _complain(wanted, value)
        return member

    return read


def _dataclass_reader(cls: type) -> Reader:
    fields = {
        field.metadata.get("wire", field.name): field
        for field in dataclasses.fields(cls)
    }
    required = {
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    }
    readers: dict[str, tuple[str, Reader]] = {}  # by the name on the wire

    def prepare() -> None:  # not at once: a class may hold itself
        hints = typing.get_type_hints(cls)
        for name, field in fields.items():
            readers[name] = field.name, _reader(hints[field.name])

    def read(value: Json, strict: bool) -> Any:
        if not isinstance(value, dict):
            raise _complain("an object", value)
        if not required <= value.keys():
            missing = min(required - value.keys())
            raise _Misread(MissingField, "is missing", f".{missing}")
        if len(readers) < len(fields):
            prepare()
        arguments = {}
        name = ""
        try:
            for name, each in value.items():
                if name in readers:
                    attribute, reader = readers[name]
                    arguments[attribute] = reader(each, strict)
                elif strict:
                    raise _Misread(UnknownField, "is unknown")
        except _Misread as error:
            error.way.append(f".{_printable(name)}")
            raise
        return cls(**arguments)

    return read
