"""Describe declarations of custom properties on the wire of /v1."""

from dataclasses import dataclass

from aggregator.policies.properties import Declaration, Level


@dataclass(frozen=True, slots=True)
class DeclaredProperties:
    properties: tuple[Declaration, ...]


@dataclass(frozen=True, slots=True)
class DeclareProperty:
    """Declared again, it has the newer pattern; VMs keep the values they have."""

    level: Level
    name: str
    pattern: str
    help: str = ""
    needs_hook: str = ""  # POINT/SCRIPT that nodes must have; empty: none


@dataclass(frozen=True, slots=True)
class RemoveProperty:
    level: Level
    name: str
