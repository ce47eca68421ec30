"""Nodes one version older and newer than we are push, are shown and obeyed.

The pushes are golden files: what an older release has sent stays as it is.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from werkzeug.test import Client

from aggregator import db
from aggregator.control import actions, execute
from aggregator.federation import ingest
from aggregator.federation.events import EventLog
from aggregator.federation.mirror import Mirror
from aggregator.federation.view import NodeState
from node import wire
from node.http import face
from node.model.vm import VmState
from tests.fakes import fleet
from tests.fakes.clock import FakeClock
from tests.fakes.nodes import FakeNode
from tests.unit.aggregator.control.ordering import ORIGIN
from tests.unit.aggregator.federation.test_mirror import Member

ONE, WEB = fleet.node_id(1), fleet.vm_id(1)
GOLDEN = Path(__file__).parent / "golden"
HEADERS = {ingest.ROLE: "node", ingest.SUBJECT: ONE}
VERSIONS = ("older", "newer")


class Parts:
    def __init__(self, folder: Path) -> None:
        clock = FakeClock()
        self.url = db.sqlite_url(folder / "aggregator.db")
        self.database = db.Database(self.url)
        self.events = EventLog(self.database, clock)
        self.mirror = Mirror(self.database, self.events, clock)
        self.mirror.set_members([Member(ONE, "n1")])
        pushes = ingest.Ingest(self.mirror, lambda _node: True, lambda: None)
        others = face.create_app("others", (), lambda _verb, _path: None)
        self.client = Client(pushes.before(others))

    def push(self, version: str) -> None:
        body = (GOLDEN / f"push-{version}.json").read_bytes()
        response = self.client.post("/v1/feed/delta", data=body, headers=HEADERS)
        assert response.status_code == 200
        assert wire.parse(response.data)["outcome"] == "ok"


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    made = Parts(tmp_path)
    yield made
    made.database.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_push_of_another_version_is_shown(parts: Parts, version: str) -> None:
    parts.push(version)
    view = parts.mirror.view
    node, vm = view.nodes[ONE], view.vms[WEB]
    assert (node.state, node.name) == (NodeState.UP, "n1")
    assert node.facts is not None
    assert node.facts.cpu.count == 8
    assert (vm.name, vm.state, vm.node_id) == ("web", VmState.UP, ONE)
    assert "vm_created" in [event.code for event in parts.events.list()]


@pytest.mark.parametrize("version", VERSIONS)
def test_node_of_another_version_is_asked_for_what_it_can_do(
    parts: Parts, version: str
) -> None:
    parts.push(version)
    client = FakeNode(ONE)
    start = actions.StartVm(fleet.job_id(1), ONE, WEB, ORIGIN.correlation_id)
    outcome = execute.send(client, parts.mirror.view.nodes[ONE], start)
    assert isinstance(outcome, execute.Accepted)


def test_older_node_says_nothing_of_what_it_does_not_know(parts: Parts) -> None:
    parts.push("older")
    facts = parts.mirror.view.nodes[ONE].facts
    assert facts is not None
    assert (facts.cpu.numa, facts.features) == ((), ("vm", "feed", "admission"))


def test_newer_node_s_unknown_fields_are_passed_on(parts: Parts) -> None:
    parts.push("newer")
    vm = parts.mirror.view.vms[WEB]
    assert json.loads(vm.vm_document)["spec"]["mood"] == "calm"
    assert json.loads(vm.run_document)["temperature"] == {"celsius": 41}


def test_newer_node_s_unknown_fields_and_kinds_are_kept(parts: Parts) -> None:
    parts.push("newer")
    database = db.Database(parts.url)
    kept = {each.kind: json.loads(each.body) for each in database.documents()}
    database.close()
    assert kept["gpu"] == {"cores": 9000, "schema": 1}
    assert kept["vm_run"]["temperature"] == {"celsius": 41}
    assert kept["node"]["moon"] == "full"
