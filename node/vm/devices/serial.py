"""Attach a serial line whose output is kept in a file. Pure.

The file is written, bounded and rotated by virtlogd.
"""

from pathlib import Path

from lxml import etree

from node.vm.devices import element


def build(log: Path) -> list[etree._Element]:
    """Return the port, and the console that is the same line."""
    port = element.make(
        "serial",
        element.make("log", file=log.as_posix(), append="on"),
        element.make("target", type="isa-serial", port=0),
        type="pty",
    )
    console = element.make(
        "console", element.make("target", type="serial", port=0), type="pty"
    )
    return [port, console]
