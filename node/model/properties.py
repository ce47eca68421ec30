"""Custom properties: what administrators say to hooks of a VM and its devices."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CustomProperty:
    """A name that the fleet declares, with a value that its pattern allows.

    Hooks find it in their environment, under the same name.
    """

    name: str
    value: str
