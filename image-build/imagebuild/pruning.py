"""Decide what of the root file system is dropped: rules, each with its reason.

    drop PATTERN…         a path, and all below it; * stays within a name, ** does not
    keep PATTERN…         what stays all the same
    drop-package NAME…    all files that came with a package, unless they are kept

Pure. Paths begin with a slash, as seen inside the root. A rule that has become idle is
told, so that the list stays true.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

_PARTS: Final = re.compile(r"(\*\*/|\*\*|\*|\?|\[[^]]+\])")
_MEANINGS: Final = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


@dataclass(frozen=True, slots=True)
class Rule:
    verb: str
    pattern: str
    reason: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What goes, by the rule that says so, and the rules that say nothing."""

    dropped: Mapping[str, Rule]
    idle: tuple[Rule, ...]


def judge(
    rules: Iterable[Rule], paths: Collection[str], owned: Mapping[str, Iterable[str]]
) -> Verdict:
    """Return which paths are dropped; `owned` are the files of each package.

    A path in a folder that is kept stays; a folder goes when nothing is left in it.
    """
    kept_by: list[tuple[Rule, re.Pattern[str]]] = []
    dropped_by: list[tuple[Rule, re.Pattern[str]]] = []
    packages: dict[str, Rule] = {}
    used: set[Rule] = set()
    for rule in rules:
        if rule.verb == "drop-package":
            if rule.pattern in owned:
                used.add(rule)
            packages.update(dict.fromkeys(owned.get(rule.pattern, ()), rule))
        else:
            target = kept_by if rule.verb == "keep" else dropped_by
            target.append((rule, _expression(rule.pattern)))
    any_kept = _any(kept_by)
    any_dropped = _any(dropped_by)
    dropped: dict[str, Rule] = {}
    for path in paths:
        is_dropped = path in packages or any_dropped.fullmatch(path)
        if not is_dropped:
            continue
        if any_kept.fullmatch(path):
            used.update(rule for rule, one in kept_by if one.fullmatch(path))
            continue
        found = [rule for rule, one in dropped_by if one.fullmatch(path)]
        used.update(found)
        dropped[path] = found[0] if found else packages[path]
    idle = tuple(rule for rule in rules if rule not in used)
    return Verdict(dropped, idle)


def _any(rules: list[tuple[Rule, re.Pattern[str]]]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{one.pattern})" for _, one in rules) or r"(?!)")


def _expression(pattern: str) -> re.Pattern[str]:
    """Return what matches a path, and all below it."""
    text = "".join(
        _MEANINGS.get(part, part if part.startswith("[") else re.escape(part))
        for part in _PARTS.split(pattern)
    )
    return re.compile(rf"{text}(?:/.*)?", re.DOTALL)
