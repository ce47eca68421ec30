"""Read the body of a request, XML or JSON, into one tree of typed readers.

Unknown elements are passed over, as oVirt does; a value of a wrong type is an
error that names its path. Entities and external references are never resolved.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from lxml import etree

from aggregator.rest.serialise import Form
from node import wire
from node.errors import Invalid
from node.wire import Json

DEPTH_MAX: Final = 64  # oVirt's deepest body has about ten levels
_TRUE: Final = frozenset({"true", "1"})
_FALSE: Final = frozenset({"false", "0"})
_INTEGER_MAX: Final = 2**63


class BadBody(Invalid):
    code = "bad_body"
    remedy = "Correct the body and send it again."


class BadValue(Invalid):
    code = "bad_value"
    remedy = "Correct the value of the element named in the message."


class Incomplete(Invalid):
    code = "incomplete_parameters"
    remedy = "Add what the message names."


@dataclass(frozen=True, slots=True)
class Body:
    """An element of a request; a missing one is an empty Body."""

    path: str = ""
    text: str | None = None
    attributes: tuple[tuple[str, str], ...] = ()
    children: tuple[tuple[str, "Body"], ...] = ()
    is_present: bool = True

    def child(self, path: str) -> "Body":
        """Return the element at a path; if it is absent, an empty one."""
        body = self
        for name in path.split("/"):
            body = next(
                (child for key, child in body.children if key == name),
                Body(f"{body.path}.{name}".lstrip("."), is_present=False),
            )
        return body

    def all(self, path: str) -> Iterator["Body"]:
        """Yield the items of a list: `disk_attachments/disk_attachment`."""
        *parents, name = path.split("/")
        body = self.child("/".join(parents)) if parents else self
        return (child for key, child in body.children if key == name)

    def string(self, path: str) -> str | None:
        """Return the text of an element, or None if it is absent."""
        body = self.child(path)
        return body.text if body.is_present and body.text is not None else None

    def integer(self, path: str) -> int | None:
        """Return a whole number, or None if it is absent; BadValue if it is none."""
        text = self.string(path)
        if text is None:
            return None
        try:
            number = int(text)
        except ValueError:
            number = _INTEGER_MAX
        if abs(number) >= _INTEGER_MAX:
            raise _bad(self.child(path), "an integer")
        return number

    def boolean(self, path: str) -> bool | None:
        """Return a truth value, or None if it is absent; BadValue if it is none."""
        text = self.string(path)
        if text is None:
            return None
        if text.strip().lower() not in _TRUE | _FALSE:
            raise _bad(self.child(path), "true or false")
        return text.strip().lower() in _TRUE

    def object_id(self) -> str | None:
        """Return the id, an attribute in XML and a field in JSON."""
        return dict(self.attributes).get("id") or self.string("id") or None


EMPTY: Final = Body(is_present=False)


def read(data: bytes, form: Form) -> Body:
    """Return the tree in a body; an empty body is an empty tree."""
    if not data.strip():
        return EMPTY
    return _read_json(data) if form is Form.JSON else _read_xml(data)


def _bad(body: Body, wanted: str) -> BadValue:
    return BadValue(
        f"{body.path} must be {wanted}, not {(body.text or '')[:80]!r}",
        field=body.path,
    )


def _read_xml(data: bytes) -> Body:
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        raise BadBody(f"the body is not XML: {error}") from error
    if root.getroottree().docinfo.internalDTD is not None:
        raise BadBody("the body has a document type, which is not accepted")
    return _from_xml(root, "", 0)


def _from_xml(node: etree._Element, path: str, depth: int) -> Body:
    if depth > DEPTH_MAX:
        raise BadBody(f"the body is nested deeper than {DEPTH_MAX}")
    children = []
    for child in node:
        name = etree.QName(child).localname
        below = f"{path}.{name}".lstrip(".")
        children.append((name, _from_xml(child, below, depth + 1)))
    attributes = tuple((str(key), str(value)) for key, value in node.attrib.items())
    text = None if children else node.text or ""
    return Body(path, text, attributes, tuple(children))


def _read_json(data: bytes) -> Body:
    value = wire.parse(data)
    if not isinstance(value, dict):
        raise BadBody("the body must be a JSON object")
    return _from_json(value, "", 0)


def _from_json(value: Json, path: str, depth: int) -> Body:
    if depth > DEPTH_MAX:
        raise BadBody(f"the body is nested deeper than {DEPTH_MAX}")
    if not isinstance(value, dict):
        return Body(path, _json_text(value, path))
    children = []
    for name, item in value.items():
        below = f"{path}.{name}".lstrip(".")
        for each in item if isinstance(item, list) else [item]:
            if each is not None:
                children.append((name, _from_json(each, below, depth + 1)))
    return Body(path, None, (), tuple(children))


def _json_text(value: Json, path: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise BadBody(f"{path} is a list in a list", field=path)
