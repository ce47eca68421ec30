"""Model a representation: elements with attributes, values and children.

Pure. One tree is written as XML or as JSON by `serialise`. Source: reference
of oVirt's REST API, "General rules of the wire format".
"""

import functools
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from node import clock

Value = str | bool | int | float | datetime


class Element(NamedTuple):
    """A value, or an object of children; a list holds elements of one name.

    A tuple, since a page has ten thousand: a dataclass takes three times as long.
    """

    name: str
    value: Value | None = None
    attributes: tuple[tuple[str, str], ...] = ()  # id, href, rel
    children: tuple["Element", ...] = ()
    is_list: bool = False


# What a field may be: None stays out, a whole element goes in as it is.
Content = Value | Element | None


def listed(name: str, children: Iterable[Element]) -> Element:
    """Return a list of elements."""
    return Element(name, children=tuple(children), is_list=True)


def texts(name: str, child: str, values: Iterable[str]) -> Element:
    """Return a list of plain texts."""
    return listed(name, (Element(child, value) for value in values))


def link(rel: str, href: str) -> Element:
    """Return a link to a list or an action."""
    return Element("link", attributes=(("href", href), ("rel", rel)))


def reference(name: str, href: str, object_id: str) -> Element:
    """Return a pointer to an object."""
    return Element(name, attributes=(("href", href), ("id", object_id)))


def nested(fields: Iterable[tuple[str, Content]]) -> tuple[Element, ...]:
    """Return the elements that paths like `cpu/topology/cores` describe."""
    tree: dict[str, Content | dict[str, object]] = {}
    for path, content in fields:
        if content is None:
            continue
        parents, name = _steps(path)
        place = tree
        for parent in parents:
            place = place.setdefault(parent, {})  # type: ignore[assignment]  # a parent is never a leaf
        place[name] = content
    return _elements(tree)


def moment(text: str | None) -> datetime | None:
    """Return the time that a document's text says; None for none."""
    return clock.parse_rfc3339(text) if text else None


@functools.cache  # the paths are those of the tables
def _steps(path: str) -> tuple[tuple[str, ...], str]:
    *parents, name = path.split("/")
    return tuple(parents), name


def _elements(tree: dict[str, Content | dict[str, object]]) -> tuple[Element, ...]:
    return tuple(
        Element(name, children=_elements(content))  # type: ignore[arg-type]  # one type at each depth
        if isinstance(content, dict)
        else content
        if isinstance(content, Element)
        else Element(name, content)
        for name, content in tree.items()
    )
