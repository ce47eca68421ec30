"""Make XML elements: everything that comes from outside is escaped by lxml.

Pure. Source: https://libvirt.org/formatdomain.html for all elements.
"""

from lxml import etree


def make(
    tag: str,
    *children: etree._Element,
    text: str | None = None,
    **attributes: str | int,
) -> etree._Element:
    """Return an element; a trailing underscore frees Python's own words."""
    element = etree.Element(tag)
    for name, value in attributes.items():
        element.set(name.rstrip("_"), str(value))
    element.text = text
    element.extend(children)
    return element
