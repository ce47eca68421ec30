"""Say what libvirt's schema has against a domain's XML.

    python -m node.hooks.schema FILE

A program of its own: the schema takes 30 MB and a third of a second to load. It prints
a line for each complaint, and ends with 1 if there was one.
"""

import sys
import tempfile
from pathlib import Path
from typing import Final

from lxml import etree

from node.system.command import Run

SCHEMA: Final = Path("/usr/share/libvirt/schemas/domain.rng")
_MAX: Final = 10
_ANSWER_S: Final = 20.0


def main(argv: list[str]) -> int:
    """Print the complaints about a file; return 1 if there are any."""
    found = complaints(Path(argv[0]).read_bytes())
    print("\n".join(found))
    return 1 if found else 0


def ask(run: Run, xml: bytes) -> tuple[str, ...]:
    """Return the complaints about a domain, as the program tells them."""
    with tempfile.NamedTemporaryFile(suffix=".xml") as file:
        file.write(xml)
        file.flush()
        words = [sys.executable, "-m", __name__, file.name]
        said = run(words, timeout_s=_ANSWER_S, may_fail=True)
    return tuple(filter(None, said.text.splitlines()))


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
