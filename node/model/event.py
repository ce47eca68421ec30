"""An event: something that happened once, numbered by the node that saw it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from node.model.ids import CorrelationId, NodeId, VmId
from node.model.reason import Scalar


@dataclass(frozen=True, slots=True)
class Event:
    """Unique by (node id, boot id, number); severity and text are the code's."""

    node_id: NodeId
    boot_id: str
    number: int  # grows by one with each event of a boot
    at: str  # RFC 3339
    code: str  # a code of node.model.messages
    fields: Mapping[str, Scalar] = field(default_factory=dict)
    vm_id: VmId | None = None
    correlation_id: CorrelationId | None = None
    schema: int = 1
