"""Describe declarations of custom properties on the wire of /v1."""

from dataclasses import dataclass

from aggregator.policies.properties import Declaration, Level


@dataclass(frozen=True, slots=True)
class DeclaredProperties:
    properties: tuple[Declaration, ...]


@dataclass(frozen=True, slots=True)
class DeclareProperty:
    """Declared again, it has the newer pattern; VMs keep the values they have.

    None: as it was declared before.
    """

    level: Level
    name: str
    pattern: str
    help: str | None = None
    needs_hook: str | None = None  # POINT/SCRIPT that nodes must have; empty: none


@dataclass(frozen=True, slots=True)
class RemoveProperty:
    level: Level
    name: str
