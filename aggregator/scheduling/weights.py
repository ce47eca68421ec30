"""Say how well a node would do for a VM: 0 is badly, 1 is well.

Pure.
"""

from collections.abc import Callable
from typing import Final

from aggregator.scheduling import filters
from aggregator.scheduling.filters import Contender
from node.model.vm import VmSpec

Weight = Callable[[VmSpec, Contender], float]


def _leaves_memory(spec: VmSpec, contender: Contender) -> float:
    """Weigh the share of memory that is left with the VM on it."""
    facts = contender.node.facts
    assert facts is not None, "only nodes that passed the filters are weighed"
    left = filters.free_memory(contender) - filters.needed_memory(spec)
    return min(1.0, max(0.0, left / max(1, facts.memory_bytes)))


def _has_idle_cpus(_spec: VmSpec, contender: Contender) -> float:
    stats = contender.node.stats
    if stats is None:
        return 0.5  # nothing is known yet: neither for nor against
    return 1.0 - min(100.0, max(0.0, stats.cpu_percent)) / 100


def _has_few_vms(_spec: VmSpec, contender: Contender) -> float:
    return 1.0 / (1 + len(contender.node.vm_ids) + contender.promise.vms)


# Memory cannot be shared like CPU time, so it counts as much as both others.
WEIGHTS: Final[tuple[tuple[Weight, float], ...]] = (
    (_leaves_memory, 2.0),
    (_has_idle_cpus, 1.0),
    (_has_few_vms, 1.0),
)


def score(spec: VmSpec, contender: Contender) -> float:
    """Return the weighted mean, from 0 to 1."""
    total = sum(factor * weigh(spec, contender) for weigh, factor in WEIGHTS)
    return total / sum(factor for _, factor in WEIGHTS)
