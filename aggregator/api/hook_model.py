"""Describe what a fleet has decided about hooks on the wire of /v1."""

from dataclasses import dataclass

from aggregator.control.hook_bundles import NodeOutcome
from aggregator.fleet.hook_rules import SigningKey
from node.model.ids import NodeId


@dataclass(frozen=True, slots=True)
class HookRulesReply:
    keys: tuple[SigningKey, ...]
    is_strict: bool


@dataclass(frozen=True, slots=True)
class AddHookKey:
    name: str
    pem: str  # an Ed25519 public key


@dataclass(frozen=True, slots=True)
class RemoveHookKey:
    name: str


@dataclass(frozen=True, slots=True)
class SetStrictHooks:
    """Strict: what libvirt's schema dislikes after hooks have run does not start."""

    is_strict: bool


@dataclass(frozen=True, slots=True)
class InstallBundle:
    bundle: str  # the text of the file
    node_ids: tuple[NodeId, ...] = ()  # none: all nodes


@dataclass(frozen=True, slots=True)
class RemoveBundle:
    name: str
    node_ids: tuple[NodeId, ...] = ()


@dataclass(frozen=True, slots=True)
class HookOutcomes:
    nodes: tuple[NodeOutcome, ...]
