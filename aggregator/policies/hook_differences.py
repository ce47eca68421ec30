"""Say which hooks are not the same on all nodes. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from node.model.hooks import HookScript


@dataclass(frozen=True, slots=True)
class HookRow:
    """One script by point and name, and where it is what."""

    point: str
    name: str
    same: tuple[str, ...]  # nodes that have what most have
    others: tuple[str, ...]  # that have something else under its name, or refuse it
    without: tuple[str, ...]  # that have nothing

    @property
    def is_same(self) -> bool:
        """Tell whether all nodes have it, and the same."""
        return not self.others and not self.without


def compare(nodes: Mapping[str, Iterable[HookScript]]) -> tuple[HookRow, ...]:
    """Return all scripts of nodes, by their names, in the order of points and names.

    What most nodes have is what is meant; of equally many, the first node's.
    """
    found: dict[tuple[str, str], dict[str, str]] = {}
    for node, scripts in sorted(nodes.items()):
        for each in scripts:
            sums = found.setdefault((each.point, each.name), {})
            sums.setdefault(node, "" if each.refused else each.sha256)
    return tuple(
        _row(point, name, found[point, name], nodes) for point, name in sorted(found)
    )


def _row(
    point: str, name: str, sums: Mapping[str, str], nodes: Iterable[str]
) -> HookRow:
    counts: dict[str, int] = {}
    for each in sums.values():
        counts[each] = counts.get(each, 0) + bool(each)
    meant = max(counts, key=lambda each: counts[each])
    same = tuple(node for node, each in sums.items() if each == meant and each)
    others = tuple(node for node in sums if node not in same)
    without = tuple(sorted(set(nodes) - set(sums)))
    return HookRow(point, name, same, others, without)
