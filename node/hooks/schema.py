"""Say what libvirt's schema has against a domain's XML.

    python -m node.hooks.schema FILE

A program of its own: the schema takes 30 MB and a third of a second to load. It prints
a line for each complaint, and ends with 1 if there was one.
"""

import sys
from pathlib import Path
from typing import Final

from lxml import etree

SCHEMA: Final = Path("/usr/share/libvirt/schemas/domain.rng")
_MAX: Final = 10


def main(argv: list[str]) -> int:
    """Print the complaints about a file; return 1 if there are any."""
    found = complaints(Path(argv[0]).read_bytes())
    print("\n".join(found))
    return 1 if found else 0


def complaints(xml: bytes) -> tuple[str, ...]:
    """Return what the schema has against a domain; nothing where there is none."""
    if not SCHEMA.exists():
        return ()
    schema = etree.RelaxNG(etree.parse(SCHEMA))
    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    if schema.validate(etree.fromstring(xml, parser)):
        return ()
    return tuple(dict.fromkeys(each.message for each in schema.error_log))[:_MAX]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
