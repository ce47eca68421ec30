"""A node's transfers that there are none of: one example, and what was asked."""

from dataclasses import replace
from typing import Final

from node.errors import NotFound
from node.model.ids import DiskId, TransferId
from node.model.storage import Transfer, TransferDirection, TransferPhase
from node.model.storage_requests import (
    ActOnTransfer,
    CreateTransfer,
    FinalizeTransfer,
    TransferList,
)
from node.units import GiB

UPLOAD: Final = TransferId("eeeeeeee-0000-4000-8000-0000000000dd")
EXAMPLE: Final = Transfer(
    UPLOAD,
    DiskId("eeeeeeee-0000-4000-8000-0000000000aa"),
    TransferDirection.UPLOAD,
    TransferPhase.TRANSFERRING,
    "https://oak:54322/images/ticket",
    20 * GiB,
    5 * GiB,
)


class NoExample(NotFound):
    code = "no_such_example"
    remedy = "Ask for the example."


class FakeTransfers:
    """What `node.api.transfers` serves. Tests read `asked`."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, object]] = []  # verb and request

    def transfer_list(self) -> TransferList:
        return TransferList((EXAMPLE,))

    def transfer_show(self, transfer_id: TransferId) -> Transfer:
        if transfer_id != UPLOAD:
            raise NoExample(f"there is no transfer {transfer_id}")
        return EXAMPLE

    def transfer_create(self, request: CreateTransfer) -> Transfer:
        self.asked.append(("transfer_create", request))
        return replace(EXAMPLE, transfer_id=request.transfer_id)

    def transfer_extend(
        self, transfer_id: TransferId, request: ActOnTransfer
    ) -> Transfer:
        return self._act("transfer_extend", transfer_id, request)

    def transfer_pause(
        self, transfer_id: TransferId, request: ActOnTransfer
    ) -> Transfer:
        return self._act("transfer_pause", transfer_id, request)

    def transfer_resume(
        self, transfer_id: TransferId, request: ActOnTransfer
    ) -> Transfer:
        return self._act("transfer_resume", transfer_id, request)

    def transfer_finalize(
        self, transfer_id: TransferId, request: FinalizeTransfer
    ) -> Transfer:
        return self._act("transfer_finalize", transfer_id, request)

    def transfer_cancel(
        self, transfer_id: TransferId, request: ActOnTransfer
    ) -> Transfer:
        return self._act("transfer_cancel", transfer_id, request)

    def _act(self, verb: str, transfer_id: TransferId, request: object) -> Transfer:
        self.asked.append((verb, request))
        return self.transfer_show(transfer_id)
