"""Fit the XML of a suspended domain to the host that it goes on upon.

Pure. The guest must find the machine that it left, which libvirt checks, so what was
saved stays: also what libvirt chose then, such as the model of the CPU. Only what the
machine reaches on its host is taken from an XML that was built anew for this one.
"""

from collections.abc import Callable
from typing import Final

from lxml import etree

# Of a disk: which files it is, in which format, and what it may do to them.
_OF_DISK: Final = ("driver", "source", "backingStore")
# Of the whole domain, all of a kind together.
_WHOLE: Final = ("devices/lease", "devices/graphics", "metadata")
_OF_SERIAL: Final = ("source", "log")
_OF_OS: Final = ("loader", "nvram")


def fit(saved: str, built: str) -> str:
    """Return the XML to restore with; `built` is what a start would use here."""
    domain, ours = etree.fromstring(saved), etree.fromstring(built)
    for path in _WHOLE:
        _replace_all(domain, ours, path)
    _match(domain, ours, "devices/disk", _alias, _OF_DISK)
    _match(domain, ours, "devices/interface", _mac, ("source",))
    _match(domain, ours, "devices/serial", _port, _OF_SERIAL)
    _match(domain, ours, "os", lambda _: "", _OF_OS)
    return etree.tostring(domain, encoding="unicode")


def _replace_all(domain: etree._Element, ours: etree._Element, path: str) -> None:
    """Let all elements of a path be ours."""
    folder, _, name = path.rpartition("/")
    there = domain.find(folder) if folder else domain
    assert there is not None, "a domain has devices"
    for old in there.findall(name):
        there.remove(old)
    for new in ours.findall(path):
        there.append(new)


def _match(
    domain: etree._Element,
    ours: etree._Element,
    path: str,
    key: Callable[[etree._Element], str],
    names: tuple[str, ...],
) -> None:
    """Let these parts of each element be as in ours with the same key."""
    known = {key(each): each for each in ours.iterfind(path)}
    for each in domain.iterfind(path):
        if (new := known.get(key(each))) is not None:
            for name in names:
                _replace(each, new, name)


def _replace(there: etree._Element, ours: etree._Element, name: str) -> None:
    old, new = there.find(name), ours.find(name)
    if new is None:
        return
    if old is not None:
        there.replace(old, new)
    else:
        there.append(new)


def _alias(disk: etree._Element) -> str:
    named = disk.find("alias")  # has the whole id; the serial number is cut short
    return "" if named is None else str(named.get("name"))


def _mac(card: etree._Element) -> str:
    address = card.find("mac")
    return "" if address is None else str(address.get("address")).lower()


def _port(serial: etree._Element) -> str:
    target = serial.find("target")
    return "0" if target is None else str(target.get("port", "0"))
