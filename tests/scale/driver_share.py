"""Hold domains in libvirt's `test` driver and nothing else, to tell its share.

Opens the URI of its argument and reads a JSON list of domain XML. Prints "empty"
once the driver is open and "full" once all domains run; waits for a line of input
after each.
"""

import json
import sys

import libvirt


def main() -> None:
    """Create the domains, and keep them until the input ends."""
    xmls = json.loads(sys.stdin.readline())
    connection = libvirt.open(sys.argv[1])
    print("empty", flush=True)
    sys.stdin.readline()
    domains = [connection.createXML(xml, 0) for xml in xmls]
    print("full", flush=True)
    sys.stdin.readline()
    assert len(domains) == len(xmls), "they are held until here"
    connection.close()


if __name__ == "__main__":
    main()
