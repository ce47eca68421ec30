"""The node: one agent that turns a machine into a hypervisor of a fleet."""

from typing import Final

VERSION: Final = "0.1.0"
