"""Decide which kernel modules stay: what an allow list names, and what those need.

    module PATTERN…       a folder or a name below kernel/, or the beginning of names *
    no-module PATTERN…    what is left out of that

Pure. A module that a kept one needs stays whatever the list says.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from node.errors import Invalid

_SUFFIX: Final = re.compile(r"\.ko(\.(xz|zst|gz))?$")


class ModuleMissing(Invalid):
    code = "module_missing"
    remedy = "Correct `device` in the recipe, or allow the module in modules.ks."


@dataclass(frozen=True, slots=True)
class ModuleRule:
    pattern: str
    is_kept: bool
    reason: str

    def fits(self, module: str) -> bool:
        """Tell whether a module is meant, by its path below `kernel/`."""
        name = _SUFFIX.sub("", module.removeprefix("kernel/"))
        if self.pattern.endswith("*"):
            return name.startswith(self.pattern[:-1])
        return name == self.pattern or name.startswith(f"{self.pattern}/")


def parse_dependencies(text: str) -> dict[str, list[str]]:
    """Return what each module needs, from the text of modules.dep."""
    lines = (line.partition(":") for line in text.splitlines() if line.strip())
    return {module: needs.split() for module, _, needs in lines}


def choose(
    rules: Iterable[ModuleRule], needs: Mapping[str, Iterable[str]]
) -> frozenset[str]:
    """Return the modules that stay, of all that `needs` names."""
    rules = tuple(rules)
    allowed = [rule for rule in rules if rule.is_kept]
    denied = [rule for rule in rules if not rule.is_kept]
    wanted = (
        module
        for module in needs
        if any(rule.fits(module) for rule in allowed)
        and not any(rule.fits(module) for rule in denied)
    )
    return closure(wanted, needs)


def closure(
    wanted: Iterable[str], needs: Mapping[str, Iterable[str]]
) -> frozenset[str]:
    """Return modules with all that they need."""
    open_ends = list(wanted)
    kept = set(open_ends)
    while open_ends:
        for module in needs[open_ends.pop()]:
            if module not in kept:
                kept.add(module)
                open_ends.append(module)
    return frozenset(kept)


def idle(rules: Iterable[ModuleRule], modules: Iterable[str]) -> tuple[ModuleRule, ...]:
    """Return the rules that fit no module at all."""
    modules = tuple(modules)
    return tuple(
        rule for rule in rules if not any(rule.fits(module) for module in modules)
    )


def name(module: str) -> str:
    """Return what modprobe calls a module."""
    return _SUFFIX.sub("", PurePosixPath(module).name).replace("-", "_")
