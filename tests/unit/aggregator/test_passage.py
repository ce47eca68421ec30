"""Where a disk passes the aggregator, and where nginx is sent."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from aggregator import passage
from node.model.ids import DiskId, NodeId, TransferId
from node.model.storage import Transfer, TransferDirection, TransferPhase
from tests.fakes.clock import FakeClock

NODE = NodeId("11111111-2222-4333-8444-000000000001")
TRANSFER = Transfer(
    TransferId("22222222-2222-4333-8444-000000000001"),
    DiskId("33333333-2222-4333-8444-000000000001"),
    TransferDirection.UPLOAD,
    TransferPhase.TRANSFERRING,
    "https://node.example:54322/images/ticket",
    1024,
    node_id=NODE,
)


@pytest.mark.parametrize(
    ("transfer", "path"),
    [
        (TRANSFER, f"/transfers/{NODE}/images/ticket"),
        (
            replace(TRANSFER, url="https://[2001:db8::1]:1234/images/t"),
            f"/transfers/{NODE}/images/t",
        ),
        (replace(TRANSFER, url=""), ""),
        (replace(TRANSFER, node_id=None), ""),
    ],
)
def test_path_names_the_node(transfer: Transfer, path: str) -> None:
    assert passage.path(transfer) == path


def asked(address: str | None, port: int | None = 54322) -> tuple[str, dict[str, str]]:
    """Return what nginx is answered if the node is there."""
    said: list[tuple[str, dict[str, str]]] = []

    def start(status: str, headers: Iterable[tuple[str, str]]) -> None:
        said.append((status, dict(headers)))

    places, ports = {NODE: address}, {NODE: port}
    environ: dict[str, Any] = {"HTTP_X_SKERRY_PASSAGE": NODE}
    made = passage.Passage(places.get, ports.get, FakeClock())
    assert list(made(environ, start)) == []
    (answer,) = said
    return answer


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("192.0.2.7", "192.0.2.7:54322"),
        ("2001:db8::7", "[2001:db8::7]:54322"),
    ],
)
def test_nginx_is_told_an_address(address: str, place: str) -> None:
    status, headers = asked(address)
    assert (status, headers["X-Skerry-Place"]) == ("204 No Content", place)


@pytest.mark.parametrize(
    ("address", "port"), [(None, 54322), ("x" * 300, 54322), ("192.0.2.7", None)]
)
def test_nginx_is_refused_what_is_no_member(
    address: str | None, port: int | None
) -> None:
    status, headers = asked(address, port)
    assert status == "403 Forbidden"
    assert "X-Skerry-Place" not in headers


def test_name_is_looked_up_once_in_a_while() -> None:
    """Nginx asks with each request; a resolver may be far, or down."""
    clock, asks = FakeClock(), list[str]()
    answers = ["192.0.2.7", "", "192.0.2.8"]

    def look_up(name: str) -> str:
        asks.append(name)
        return answers[len(asks) - 1]

    made = passage.Passage({NODE: "n1.example"}.get, {NODE: 1}.get, clock, look_up)

    def place() -> str:
        said: list[dict[str, str]] = []
        environ: dict[str, Any] = {"HTTP_X_SKERRY_PASSAGE": NODE}
        made(environ, lambda _status, headers: said.append(dict(headers)))
        return said[0].get("X-Skerry-Place", "")

    assert [place(), place()] == ["192.0.2.7:1"] * 2
    assert len(asks) == 1
    clock.advance(passage.KEPT_S)
    assert [place(), place()] == ["192.0.2.7:1"] * 2, "the resolver is down"
    clock.advance(passage.KEPT_S)
    assert place() == "192.0.2.8:1"
    assert asks == ["n1.example"] * 3
