"""Write elements as XML or as oVirt's JSON. Pure.

In JSON integers and booleans are texts, times are milliseconds since 1970,
lists name their items once: {"vm": [...]}, and links are always a list.
"""

import json
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from enum import StrEnum
from typing import Final
from xml.sax import saxutils

from aggregator.rest.element import Element, Value
from node import clock
from node.wire import Json


class Form(StrEnum):
    XML = "application/xml"
    JSON = "application/json"


# What XML 1.0 cannot hold, not even escaped.
_UNSPEAKABLE: Final = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# Most values: looking is much cheaper than replacing.
_PLAIN: Final = re.compile(r"[\w ./:;,=?{}()\-]*", re.ASCII)
_ATTRIBUTE_ENTITIES: Final = {'"': "&quot;"}
_DECLARATION: Final = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'


def document(element: Element, form: Form) -> bytes:
    """Return a whole document."""
    if form is Form.JSON:
        return _dump(to_json(element)).encode()
    return (_DECLARATION + to_xml(element)).encode()


def stream(
    list_tag: str, tag: str, elements: Iterable[Element], form: Form
) -> Iterator[bytes]:
    """Yield a collection's document in pieces: it may be a large one."""
    if form is Form.XML:
        yield f"{_DECLARATION}<{list_tag}>".encode()
        for element in elements:
            yield to_xml(element).encode()
        yield f"</{list_tag}>".encode()
        return
    separator = f'{{"{tag}":['
    is_empty = True
    for element in elements:
        yield (separator + _dump(to_json(element))).encode()
        separator, is_empty = ",", False
    yield b"{}" if is_empty else b"]}"


def to_xml(element: Element) -> str:
    """Return an element as XML; an empty text keeps both its tags."""
    attributes = "".join(
        f' {name}="{_escape(value, _ATTRIBUTE_ENTITIES)}"'
        for name, value in element.attributes
    )
    if element.value is not None:
        content = _escape(_text(element.value), {})
    else:
        content = "".join(map(to_xml, element.children))
        if not content:
            return f"<{element.name}{attributes}/>"
    return f"<{element.name}{attributes}>{content}</{element.name}>"


def to_json(element: Element) -> Json:
    """Return an element as a JSON value, without its own name."""
    value = element.value
    if value is not None:
        if isinstance(value, datetime):
            return round(value.timestamp() * 1000)
        return value if isinstance(value, float) else _text(value)
    body: dict[str, Json] = dict(element.attributes)
    for child in element.children:
        if element.is_list or child.name == "link":
            body.setdefault(child.name, []).append(to_json(child))
        else:
            body[child.name] = to_json(child)
    return body


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return clock.rfc3339(value)
    return str(value)


def _escape(text: str, entities: dict[str, str]) -> str:
    if _PLAIN.fullmatch(text):
        return text
    return saxutils.escape(_UNSPEAKABLE.sub("\ufffd", text), entities)


def _dump(value: Json) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
