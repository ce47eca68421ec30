"""Every verb of transfers reaches the method of its name, with what was asked."""

import typing
from pathlib import Path

import pytest

from node import wire
from node.api.transfers import TransferVerbs
from node.model import transfer_verbs
from node.model.storage_requests import CreateTransfer
from node.model.verb import Verb
from tests.contract.agents import UNKNOWN, FakeAgent
from tests.fakes.storage_service import ROOT
from tests.fakes.transfer_service import EXAMPLE, UPLOAD


@pytest.mark.parametrize("verb", transfer_verbs.VERBS, ids=lambda verb: verb.name)
def test_verb_is_a_method_of_the_same_types(verb: Verb) -> None:
    hints = typing.get_type_hints(getattr(TransferVerbs, verb.name))
    assert hints.pop("return") is verb.reply
    assert hints.pop("request", None) is verb.request
    assert [f"{{{name}}}" for name in hints] == [
        part for part in verb.path.split("/") if part.startswith("{")
    ]


@pytest.fixture
def agent(tmp_path: Path) -> typing.Iterator[FakeAgent]:
    made = FakeAgent(tmp_path)
    yield made
    made.close()


def test_transfer_is_made_and_acted_on(agent: FakeAgent) -> None:
    body = {"transfer_id": UNKNOWN, "disk_id": ROOT, "direction": "download"}
    made = agent.client.post("/v1/transfers", json=body)
    assert made.status_code == 201
    assert made.json is not None
    assert made.json["transfer_id"] == UNKNOWN
    asked = wire.from_json(CreateTransfer, body)
    assert agent.transfers.asked == [("transfer_create", asked)]
    for name in ("extend", "pause", "resume", "finalize", "cancel"):
        reply = agent.client.post(f"/v1/transfers/{UPLOAD}/{name}", json={})
        assert reply.status_code == 200, reply.text
        assert agent.transfers.asked[-1][0] == f"transfer_{name}"


def test_transfers_are_told_whole(agent: FakeAgent) -> None:
    told = wire.to_json(EXAMPLE)
    assert agent.client.get(f"/v1/transfers/{UPLOAD}").json == told
    assert agent.client.get("/v1/transfers").json == {"transfers": [told]}
    assert agent.client.get(f"/v1/transfers/{UNKNOWN}").status_code == 404
