"""The way to an aggregator: the feed's sender, over TLS on loopback."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from node.errors import Error
from node.host.aggregators import FeedSender, TlsAggregators
from node.http import links
from node.model.feed import DeltaOutcome
from node.model.fleet import AggregatorAddress, Role
from node.model.ids import Fingerprint
from tests.unit.node.http.test_links import Papers, Server


def _address(server: Server) -> AggregatorAddress:
    return AggregatorAddress("a1", "127.0.0.1", server.port, 1, Fingerprint("f" * 64))


@pytest.fixture
def papers(tmp_path: Path) -> Papers:
    return Papers(tmp_path)


@pytest.fixture
def server(papers: Papers) -> Iterator[Server]:
    with papers.server("a1", Role.AGGREGATOR) as server:
        server.reply = b'{"outcome":"ok","to":7}'
        yield server


def test_sender_keeps_its_connection_and_names_its_term(
    papers: Papers, server: Server
) -> None:
    terms = iter([3, 4])
    context = papers.context("n1", Role.NODE)
    sender = FeedSender(_address(server), lambda: context, lambda: next(terms))
    assert sender.send(b"{}").outcome is DeltaOutcome.OK
    assert b"X-Skerry-Term: 3\r\n" in server.request
    sender.send(b"{}")
    assert b"X-Skerry-Term: 4\r\n" in server.request
    assert len(server.callers) == 1
    sender.close()


def test_sender_pushes_to_no_other_member(papers: Papers) -> None:
    with papers.server("a2", Role.AGGREGATOR) as other:
        context = papers.context("n1", Role.NODE)
        sender = FeedSender(_address(other), lambda: context, lambda: 1)
        with pytest.raises(links.WrongMember):
            sender.send(b"{}")
        assert other.requests == 0


def test_sealed_copy_is_asked_of_no_other_member(papers: Papers) -> None:
    with papers.server("a2", Role.AGGREGATOR) as other:
        context = papers.context("n1", Role.NODE)
        with pytest.raises(links.WrongMember):
            TlsAggregators(lambda: context).sealed(_address(other))
        assert other.requests == 0


def test_sender_raises_what_the_aggregator_refused_with(
    papers: Papers, server: Server
) -> None:
    server.status = b"403 Forbidden"
    server.reply = (
        b'{"error":{"kind":"denied","code":"not_a_member","message":"no","remedy":"r"}}'
    )
    context = papers.context("n1", Role.NODE)
    sender = FeedSender(_address(server), lambda: context, lambda: 1)
    with pytest.raises(Error) as raised:
        sender.send(b"{}")
    assert raised.value.code == "not_a_member"
    sender.close()
