"""Every verb of storage reaches the method of its name, with what was asked."""

import typing
from pathlib import Path

import pytest

from node import wire
from node.api.storage import StorageVerbs
from node.model import storage_verbs
from node.model.job import JobState
from node.model.storage_requests import ResizeDisk
from node.model.verb import Verb
from tests.contract.agents import UNKNOWN, FakeAgent
from tests.fakes.storage_service import NAS, ROOT


@pytest.mark.parametrize("verb", storage_verbs.VERBS, ids=lambda verb: verb.name)
def test_a_verb_is_a_method_of_the_same_types(verb: Verb) -> None:
    hints = typing.get_type_hints(getattr(StorageVerbs, verb.name))
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


def test_an_act_is_a_job_that_is_the_same_when_asked_again(agent: FakeAgent) -> None:
    body = {"size_bytes": 2**35, "job_id": UNKNOWN}
    replies = [
        agent.client.post(f"/v1/disks/{ROOT}/resize", json=body) for _ in range(2)
    ]
    assert [each.status_code for each in replies] == [202, 202]
    jobs = [each.json and each.json["job_id"] for each in replies]
    assert jobs == [UNKNOWN, UNKNOWN]
    asked = wire.from_json(ResizeDisk, body)
    assert agent.storage.asked == [("disk_resize", asked)] * 2
    agent.settle()
    (ended,) = [each for each in agent.jobs.list() if each.verb == "disk_resize"]
    assert (ended.object_id, ended.state) == (ROOT, JobState.DONE)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(f"/v1/storage-domains/{UNKNOWN}", id="storage-domain"),
        pytest.param(f"/v1/storage-domains/{UNKNOWN}/check", id="check"),
        pytest.param(f"/v1/pools/{UNKNOWN}", id="pool"),
        pytest.param(f"/v1/disks/{UNKNOWN}", id="disk"),
    ],
)
def test_what_is_not_there_is_not_found(agent: FakeAgent, path: str) -> None:
    assert agent.client.get(path).status_code == 404


def test_a_malformed_id_reaches_nobody(agent: FakeAgent) -> None:
    reply = agent.client.post("/v1/storage-domains/nas/activate", json={})
    assert reply.status_code == 400
    assert agent.storage.asked == []


def test_what_is_seen_is_told_whole(agent: FakeAgent) -> None:
    reply = agent.client.get(f"/v1/storage-domains/{NAS}")
    assert reply.json == wire.to_json(agent.storage.domains[NAS])
