"""Choose the node for a VM, and say of every node why or why not.

Pure and deterministic: the same View and the same promises give the same
node. Ties go to the first name.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from aggregator.scheduling import filters, weights
from aggregator.scheduling.filters import Contender, Rules
from node.model.ids import NodeId
from node.model.reason import Reason
from node.model.vm import VmSpec


@dataclass(frozen=True, slots=True)
class Verdict:
    node_id: NodeId
    name: str
    is_accepted: bool
    reasons: tuple[Reason, ...]  # all that speaks against it
    score: float  # 0 to 1; 0 if it was not accepted


@dataclass(frozen=True, slots=True)
class Placement:
    node_id: NodeId | None  # None: no node can take it
    verdicts: tuple[Verdict, ...]  # the best first, then the refused by name


def place(spec: VmSpec, contenders: Iterable[Contender], rules: Rules) -> Placement:
    """Judge all nodes and choose the best of those that can take the VM."""
    verdicts = sorted(
        (_judge(spec, contender, rules) for contender in contenders), key=_rank
    )
    best = verdicts[0] if verdicts and verdicts[0].is_accepted else None
    return Placement(best.node_id if best else None, tuple(verdicts))


def _judge(spec: VmSpec, contender: Contender, rules: Rules) -> Verdict:
    node = contender.node
    reasons = filters.reasons_against(spec, contender, rules)
    # To four digits, so that a tie is one although the figures differ by a hair.
    score = 0.0 if reasons else round(weights.score(spec, contender), 4)
    return Verdict(node.node_id, node.name, not reasons, reasons, score)


def _rank(verdict: Verdict) -> tuple[bool, float, str, str]:
    return not verdict.is_accepted, -verdict.score, verdict.name, verdict.node_id
