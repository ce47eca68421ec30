"""Transfers of a node that move nothing: each goes on at once, as its rules say."""

from dataclasses import replace
from typing import Any

from node.errors import Error, NotFound
from node.model import storage_requests as bodies
from node.model.ids import NodeId
from node.model.reason import Reason
from node.model.storage import Transfer, TransferPhase
from node.model.verb import Verb
from node.units import GiB

OAK = NodeId("11111111-1111-4111-8111-111111111111")
_NEXT = {
    "transfer_pause": TransferPhase.PAUSED_USER,
    "transfer_resume": TransferPhase.TRANSFERRING,
    "transfer_finalize": TransferPhase.FINISHED_SUCCESS,
    "transfer_cancel": TransferPhase.CANCELLED,
}


class UnknownTransfer(NotFound):
    code = "transfer_unknown"
    remedy = "List the transfers."


class FakeTransfers:
    """`asked` lists each verb with its request; `refusal` is what a create meets."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.refusal: Error | None = None
        self.ends_badly: Reason | None = None  # what a finalization finds
        self.url = "https://192.0.2.1:54322/images"
        self.size_bytes = GiB
        self._known: dict[str, Transfer] = {}

    def answer(self, verb: Verb, request: Any, transfer_id: str) -> Any:
        """Do what a node's verb of transfers does."""
        self.asked.append((verb.name, request))
        if verb.name == "transfer_list":
            return bodies.TransferList(tuple(self._known.values()))
        if verb.name == "transfer_create":
            return self._create(request)
        if transfer_id not in self._known:
            raise UnknownTransfer(f"there is no transfer {transfer_id}")
        if verb.name == "transfer_finalize" and self.ends_badly is not None:
            phase, reason = TransferPhase.FINISHED_FAILURE, self.ends_badly
            self.change(transfer_id, phase=phase, reason=reason)
        elif verb.name in _NEXT:
            self.change(transfer_id, phase=_NEXT[verb.name])
        return self._known[transfer_id]

    def change(self, transfer_id: str, **fields: Any) -> None:
        """Let a transfer be another."""
        self._known[transfer_id] = replace(self._known[transfer_id], **fields)

    def _create(self, request: bodies.CreateTransfer) -> Transfer:
        if self.refusal is not None:
            raise self.refusal
        if request.transfer_id in self._known:
            return self._known[request.transfer_id]
        made = Transfer(
            request.transfer_id,
            request.disk_id,
            request.direction,
            TransferPhase.INITIALIZING,
            f"{self.url}/{request.transfer_id[:8]}",
            self.size_bytes,
            disk_format=request.disk_format,
            inactivity_s=request.inactivity_s,
            since="2026-11-22T08:00:00.000Z",
            timeout_policy=request.timeout_policy,
            node_id=OAK,
            name="loose",
        )
        opened = replace(made, phase=TransferPhase.TRANSFERRING)
        self._known[request.transfer_id] = opened
        return made
