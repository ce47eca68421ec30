"""Run several real hosts on one machine, for tests and the demonstration.

Standard library only: it runs before any virtual environment exists.
Usage: `python -m tests.lab --help`, or `from tests.lab import Lab`.
"""

from tests.lab.lab import Lab

__all__ = ["Lab"]
