"""Answer the agent, which installs and watches tickets on a socket of its own.

    PUT    /tickets/{id}   install: the fields of TicketRequest
    GET    /tickets/{id}   what has become of it: TicketInfo
    PATCH  /tickets/{id}   extend: {"timeout": seconds from now}
    DELETE /tickets/{id}   cancel, wait for its requests, forget

Paths and fields are imageio's; errors are ours, as JSON.
"""

from typing import Final

from node import wire
from node.errors import Error, Invalid
from node.transfer.connection import Answer, Exchange
from node.transfer.http_head import Head
from node.transfer.images import MethodUnknown, PathUnknown
from node.transfer.tickets import PREFIX, Extension, TicketRequest, Tickets


class TicketMisplaced(Invalid):
    """The ticket's id is not the one in the path."""

    code = "ticket_misplaced"
    remedy = "Install it at /tickets/{uuid}."


class TimeoutWrong(Invalid):
    code = "timeout_wrong"
    remedy = "Send seconds from now, more than 0."


class TicketVerbs:
    """The face on the agent's socket."""

    def __init__(self, tickets: Tickets) -> None:
        self._tickets = tickets

    def answer(self, exchange: Exchange) -> Answer:
        """Do what the agent asks."""
        head = exchange.head
        ticket_id = head.path.removeprefix(PREFIX)
        if ticket_id == head.path or not ticket_id:
            raise PathUnknown("there is nothing at this path")
        match head.method:
            case "PUT":
                return self._install(exchange, ticket_id)
            case "GET":
                info = self._tickets.get(ticket_id).info()
                return Answer(200, _JSON, wire.encode(info) + b"\n")
            case "PATCH":
                return self._extend(exchange, ticket_id)
            case "DELETE":
                self._tickets.remove(ticket_id)
                return Answer(204)
        raise MethodUnknown(f"{head.method} is not for tickets")

    def refuse(self, _head: Head | None, error: Error) -> Answer:
        """Return an error as data."""
        report = {
            "kind": error.kind,
            "code": error.code,
            "message": error.message,
            "remedy": error.remedy,
            "fields": dict(error.fields),
        }
        return Answer(error.status, _JSON, wire.encode({"error": report}) + b"\n")

    def _install(self, exchange: Exchange, ticket_id: str) -> Answer:
        request = wire.decode(TicketRequest, exchange.json())
        if request.uuid != ticket_id:
            raise TicketMisplaced("the ticket has another id than its path")
        self._tickets.install(request)
        return Answer()

    def _extend(self, exchange: Exchange, ticket_id: str) -> Answer:
        extension = wire.decode(Extension, exchange.json())
        if extension.timeout <= 0:
            raise TimeoutWrong(f"the timeout is {extension.timeout}")
        self._tickets.get(ticket_id).extend(extension.timeout)
        return Answer()


_JSON: Final = {"Content-Type": "application/json"}
