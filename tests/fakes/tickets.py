"""A transfer server that moves nothing: a test says what its clients did."""

from dataclasses import dataclass, field

from node.transfer.client import TransferServerSilent
from node.transfer.tickets import TicketInfo, TicketRequest, TicketUnknown


@dataclass(slots=True)
class FakeTickets:
    """`is_down`: it does not answer."""

    installed: dict[str, TicketRequest] = field(default_factory=dict)
    idle_s: int = 0
    transferred: int = 0
    flushes: int = 0
    sha256: str = ""
    is_down: bool = False

    def install(self, request: TicketRequest) -> None:
        self._check()
        self.installed[request.uuid] = request

    def info(self, ticket_id: str) -> TicketInfo:
        self._check()
        request = self.installed.get(ticket_id)
        if request is None:
            raise TicketUnknown("there is no such ticket")
        return TicketInfo(
            *(request.uuid, request.size, request.url, request.timeout, request.ops),
            *(request.inactivity_timeout, request.sparse, request.dirty),
            *(request.transfer_id, request.filename),
            active=False,
            canceled=False,
            connections=0,
            expires=0,
            idle_time=self.idle_s,
            transferred=self.transferred,
            ranges=(),
        )

    def extend(self, ticket_id: str, timeout_s: int) -> None:
        self._check()
        if ticket_id not in self.installed:
            raise TicketUnknown("there is no such ticket")

    def remove(self, ticket_id: str) -> None:
        self._check()
        self.installed.pop(ticket_id, None)

    def flush(self, ticket_id: str) -> None:
        self._check()
        self.flushes += 1

    def checksum(self, ticket_id: str) -> str:
        self._check()
        return self.sha256

    def _check(self) -> None:
        if self.is_down:
            raise TransferServerSilent("no answer")
