"""Start the lab's command line: `python -m tests.lab`."""

import sys

from tests.lab import cli

sys.exit(cli.main(sys.argv[1:]))
