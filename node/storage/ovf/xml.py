"""Read and change the XML of an OVF document, whatever its namespaces.

Pure. oVirt ends the OVF namespace with a slash, the standard does not, and old
engines left prefixes out: elements and attributes are found by their local
name. Entities and document types are refused. Source: oVirt's OvfWriter.
"""

import re
import uuid
from datetime import UTC, datetime
from typing import Final

from lxml import etree

from node.storage.ovf.document import DOCUMENT_MAX, DamagedOvf

OVF: Final = "http://schemas.dmtf.org/ovf/envelope/1/"
RASD: Final = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
VSSD: Final = (
    "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData"
)
XSI: Final = "http://www.w3.org/2001/XMLSchema-instance"

_NUMBER: Final = re.compile(r"[0-9]{1,15}")
_DATES: Final = ("%Y/%m/%d %H:%M:%S", "%Y.%m.%d %H:%M:%S")  # now, and oVirt 2
_SHOWN_MAX: Final = 80

# Control characters and the rest of what XML 1.0 cannot hold.
_UNWRITABLE: Final = re.compile(
    "[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
)
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"

Element = etree._Element


def parse(data: bytes) -> Element:
    """Return the root of a document; DamagedOvf if it is none or is hostile."""
    if len(data) > DOCUMENT_MAX:
        raise DamagedOvf(f"the document has {len(data)} bytes", size=len(data))
    if b"<!DOCTYPE" in data:
        raise DamagedOvf("the document has a document type, which no OVF needs")
    # The encoding is fixed, so that a declared one cannot hide what was looked for.
    parser = etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
    )
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise DamagedOvf(f"the document is not XML: {error}") from error
    if local(root) != "Envelope":
        raise DamagedOvf(f"the document is a {local(root)[:_SHOWN_MAX]}, not an OVF")
    return root


def local(element: Element) -> str:
    """Return an element's name without its namespace; empty for a comment."""
    tag: object = element.tag
    return etree.QName(element).localname if isinstance(tag, str) else ""


def children(element: Element | None, name: str) -> list[Element]:
    """Return the children of a name; None has none."""
    if element is None:
        return []
    return [each for each in element if local(each) == name]


def child(element: Element | None, name: str) -> Element | None:
    """Return the first child of a name, if there is one."""
    return next(iter(children(element, name)), None)


def text(element: Element | None, name: str) -> str:
    """Return the text of a child, stripped; empty if it is not there."""
    return prose(element, name).strip()


def prose(element: Element | None, name: str) -> str:
    """Return the text of a child as it is: what people wrote."""
    found = child(element, name)
    return "" if found is None else found.text or ""


def attribute(element: Element, name: str) -> str:
    """Return an attribute; empty if it is not there."""
    key = _key(element, name)
    return "" if key is None else str(element.attrib[key])


def section(parent: Element | None, name: str) -> Element | None:
    """Return `<Section xsi:type="ovf:NAME_Type">`, or `<NAME>` as the standard has."""
    for each in parent if parent is not None else ():
        kind = attribute(each, "type").rpartition(":")[2]
        if local(each) == name or (local(each), kind) == ("Section", f"{name}_Type"):
            return each
    return None


def set_text(parent: Element, name: str, value: str, namespace: str = "") -> None:
    """Give a child a text; a new child goes before the sections."""
    found = child(parent, name)
    if found is None:
        found = etree.Element(f"{{{namespace}}}{name}" if namespace else name)
        at = next(
            (at for at, each in enumerate(parent) if local(each) == "Section"), None
        )
        parent.insert(len(parent) if at is None else at, found)
    found.text = _UNWRITABLE.sub(_REPLACEMENT, value)


def drop(parent: Element, name: str) -> None:
    """Remove a child, if it is there."""
    for each in children(parent, name):
        parent.remove(each)


def new_section(parent: Element, name: str) -> Element:
    """Append a section of oVirt's kind."""
    made = etree.SubElement(parent, "Section")
    made.set(f"{{{XSI}}}type", f"ovf:{name}_Type")
    return made


def set_attribute(element: Element, name: str, value: str) -> None:
    """Give an attribute of OVF's namespace a value, under the key that it has."""
    key = _key(element, name)
    if key is None:
        root = element.getroottree().getroot()
        key = f"{{{root.nsmap.get('ovf', OVF)}}}{name}"
    element.set(key, _UNWRITABLE.sub(_REPLACEMENT, value))


def uuid_of(value: str, what: str) -> str:
    """Return a UUID in lower case: ids become names of files."""
    try:
        found = str(uuid.UUID(value))
    except ValueError:
        found = ""
    if found != value.lower():
        raise _bad(what, "a UUID", value)
    return found


def number_of(value: str, what: str) -> int:
    """Return a number of up to 15 digits; DamagedOvf if it is none."""
    if not _NUMBER.fullmatch(value):
        raise _bad(what, "a number", value)
    return int(value)


def truth_of(value: str, *, default: bool = False) -> bool:
    """Return what true or false means, in whatever case."""
    return value.lower() == "true" if value else default


def date_of(value: str) -> str | None:
    """Return oVirt's UTC date as RFC 3339; None if it is none."""
    for form in _DATES:
        try:
            moment = datetime.strptime(value, form).replace(tzinfo=UTC)
        except ValueError:
            continue
        return moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return None


def ovirt_date(moment: str) -> str:
    """Return an RFC 3339 moment as oVirt's UTC date."""
    return datetime.fromisoformat(moment).astimezone(UTC).strftime(_DATES[0])


def _key(element: Element, name: str) -> str | None:
    return next(
        (key for key in map(str, element.attrib) if key.rpartition("}")[2] == name),
        None,
    )


def _bad(what: str, wanted: str, value: str) -> DamagedOvf:
    shown = value[:_SHOWN_MAX]
    return DamagedOvf(f"{what} must be {wanted}, not {shown!r}", field=what)
