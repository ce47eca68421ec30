"""Write and read custom properties as oVirt's engine does: `name=value;name=value`.

    Content   PredefinedProperties    those that come with oVirt
              UserDefinedProperties   all others
    Item      CustomProperties        a device's

No value has a semicolon, in oVirt or here. What no hook may have (a name such as PATH)
is left out when it is read: the VM has to be one here. Pure.
Source: ovirt-engine, OvfWriter and CustomPropertiesUtils.
"""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Final

from node.model.properties import CustomProperty
from node.policy import properties
from node.policy.properties import BadProperty
from node.storage.ovf import xml
from node.storage.ovf.xml import Element

_PREDEFINED: Final = "PredefinedProperties"
_USERS: Final = "UserDefinedProperties"
_OF_DEVICE: Final = "CustomProperties"


def read_all(content: Element) -> tuple[CustomProperty, ...]:
    """Return a VM's properties by name."""
    texts = (xml.prose(content, name) for name in (_PREDEFINED, _USERS))
    return _read(";".join(texts))


def read_device(item: Element) -> tuple[CustomProperty, ...]:
    """Return a device's properties by name."""
    return _read(xml.prose(item, _OF_DEVICE))


def write_all(content: Element, held: Iterable[CustomProperty]) -> None:
    """Give a VM's element its properties."""
    known = tuple(held)
    names = properties.PREDEFINED
    ours = (each for each in known if each.name in names)
    theirs = (each for each in known if each.name not in names)
    xml.set_text(content, _PREDEFINED, _text(ours))
    xml.set_text(content, _USERS, _text(theirs))


def write_device(item: Element, held: Iterable[CustomProperty]) -> None:
    """Give a device's element its properties, and none to one without."""
    text = _text(held)
    if text:
        xml.set_text(item, _OF_DEVICE, text)
    else:
        xml.drop(item, _OF_DEVICE)


def _text(held: Iterable[CustomProperty]) -> str:
    return ";".join(f"{each.name}={each.value}" for each in held)


def _read(text: str) -> tuple[CustomProperty, ...]:
    return properties.edited((), _fit(text))[: properties.COUNT_MAX]


def _fit(text: str) -> Iterator[CustomProperty]:
    for part in text.split(";"):
        name, _, value = part.strip("\r\n").partition("=")
        found = CustomProperty(name.strip(), value)
        with contextlib.suppress(BadProperty):
            properties.check([found])
            yield found
