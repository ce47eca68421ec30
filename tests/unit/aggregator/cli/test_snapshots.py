"""`skerry vm snapshot`: each command, as text and as JSON."""

import pytest

from aggregator.api.snapshot_verbs import VERBS, VM_SNAPSHOT_CREATE
from aggregator.cli import client
from node.errors import Error
from node.model.ids import SnapshotId
from node.model.storage_requests import CreateSnapshot, SnapshotPart
from tests.fakes import fleet_storage
from tests.fakes.services import ELM
from tests.unit.aggregator.cli import shell
from tests.unit.aggregator.cli.shell import Desk

UNKNOWN = SnapshotId("5a450000-0000-4000-8000-000000000001")
# The command that calls each verb, one after the other.
COMMANDS = {
    "vm_snapshot_create": "create app --description first",
    "vm_snapshot_list": "list app",
    "vm_snapshot_clone": "clone app first app2",
    "vm_snapshot_preview": "preview app first",
    "vm_snapshot_undo": "undo app",
    "vm_snapshot_restore": "restore app first --yes",
    "vm_snapshot_delete": "delete app first",
    "vm_snapshot_commit": "commit app",
}


def test_command_is_there_for_every_verb() -> None:
    assert set(COMMANDS) == {verb.name for verb in VERBS}


def test_commands_call_their_verbs_and_end_well(desk: Desk) -> None:
    for verb, words in COMMANDS.items():
        desk.called.clear()
        desk.ok("vm", "snapshot", *words.split())
        assert verb in desk.called


def test_list_marks_what_the_vm_goes_on_from(desk: Desk) -> None:
    for name in ("first", "second"):
        desk.ok("vm", "snapshot", "create", "app", "--description", name)
    _, first, second = desk.ok("vm", "snapshot", "list", "app").text.splitlines()
    assert [line.startswith("*") for line in (first, second)] == [False, True]
    shown = desk.ok("--json", "vm", "snapshot", "list", "app").json["snapshots"]
    assert [each["description"] for each in shown] == ["first", "second"]


def test_memory_is_kept_and_gone_back_to_if_asked(desk: Desk) -> None:
    desk.ok("vm", "snapshot", "create", "app", "--description", "x", "--memory")
    heads, line = desk.ok("vm", "snapshot", "list", "app").text.splitlines()
    assert (heads.split()[-1], line.split()[-1]) == ("MEMORY", "yes")
    desk.ok("vm", "snapshot", "preview", "app", "x", "--memory")
    desk.ok("vm", "snapshot", "undo", "app")
    desk.ok("vm", "snapshot", "restore", "app", "x", "--yes")
    found = [request for _, _, request, _ in desk.fleet.orders.storage.asked]
    has_memory = [e.has_memory for e in found if hasattr(e, "has_memory")]
    assert has_memory == [True, True, False]


def test_one_that_is_not_there_says_so(desk: Desk) -> None:
    ended = shell.run("vm", "snapshot", "delete", "app", "none")
    assert (ended.status, "no snapshot none" in ended.err) == (1, True)


def test_parts_are_the_aggregators_to_order(desk: Desk) -> None:
    fleet = client.connect(client.load(client.session_path()))
    request = CreateSnapshot(UNKNOWN, part=SnapshotPart.FINISH)
    with pytest.raises(Error) as caught:
        fleet.vm_snapshot_act(VM_SNAPSHOT_CREATE, request, fleet_storage.APP)
    assert caught.value.code == "snapshot_part_given"
    assert desk.fleet.orders.storage.asked == []


@pytest.mark.parametrize("words", ["delete app first", "clone app first app2"])
def test_the_node_that_is_named_moves_the_data(desk: Desk, words: str) -> None:
    desk.ok("vm", "snapshot", "create", "app", "--description", "first")
    desk.ok("vm", "snapshot", *words.split(), "--data-node", "elm")
    _, _, request, _ = desk.fleet.orders.storage.asked[-1]
    assert request.data_node_id == ELM


def test_who_moves_the_data_must_be_a_node(desk: Desk) -> None:
    words = ("vm", "snapshot", "delete", "app", str(UNKNOWN), "--data-node", "none")
    ended = shell.run(*words)
    assert (ended.status, "no node named none" in ended.err) == (1, True)
