"""Say in one sentence how this node is. Pure."""

from collections.abc import Iterable

from node import translate
from node.model.host import AdmissionState, AggregatorLink, NodeFacts


def sentence(
    facts: NodeFacts,
    admission: AdmissionState,
    links: Iterable[AggregatorLink],
    *,
    running: int,
    defined: int,
) -> str:
    """Return the health of a node: the worst first, then its guests, then its fleet."""
    problems = "; ".join(
        translate.text(problem.code, problem.fields).rstrip(".")
        for problem in facts.problems
    )
    parts = [
        f"{facts.name} needs attention: {problems}"
        if problems
        else f"{facts.name} is well",
        _guests(running, defined, is_emulated=not facts.kvm.is_usable),
        _fleet(admission, tuple(links)),
    ]
    return "; ".join(parts) + "."


def _guests(running: int, defined: int, *, is_emulated: bool) -> str:
    if not defined:
        return "no VMs are defined"
    manner = " (emulated)" if is_emulated and running else ""
    return f"{running} of {defined} VM{'s' * (defined != 1)} run{manner}"


def _fleet(admission: AdmissionState, links: tuple[AggregatorLink, ...]) -> str:
    if admission is AdmissionState.WAITING:
        return "it waits for admission to a fleet"
    reached = sum(link.is_reached for link in links)
    if not links:
        return "its fleet has no aggregator"
    if not reached:
        return "no aggregator is reached, which guests do not notice"
    return f"{reached} of {len(links)} aggregator{'s' * (len(links) != 1)} reached"
