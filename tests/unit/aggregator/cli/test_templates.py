"""`skerry template`: each command, as text and as JSON."""

import pytest

from aggregator.api.template_verbs import VERBS
from tests.fakes.services import ELM
from tests.unit.aggregator.cli import shell
from tests.unit.aggregator.cli.shell import Desk

# The command that calls each verb, one after the other.
COMMANDS = {
    "template_create": "create app debian --description first",
    "template_list": "list",
    "template_show": "show debian/1",
    "template_change": "change debian --description second",
    "template_new_vm": "new-vm debian made --clone",
    "template_delete": "delete debian --yes",
}


def test_command_is_there_for_every_verb() -> None:
    assert set(COMMANDS) == {verb.name for verb in VERBS}


def test_commands_call_their_verbs_and_end_well(desk: Desk) -> None:
    for verb, words in COMMANDS.items():
        desk.called.clear()
        desk.ok("template", *words.split())
        assert verb in desk.called
    assert desk.ok("--json", "template", "list").json == {"templates": []}
    assert "made" in desk.ok("vm", "list").text


def test_show_names_the_vms_that_need_it(desk: Desk) -> None:
    desk.ok("template", "create", "app", "debian")
    desk.ok("template", "new-vm", "debian", "thin")
    shown = desk.ok("template", "show", "debian").text
    assert "needed by thin" in shown
    assert "disk system" in shown


def test_versions_are_told_apart(desk: Desk) -> None:
    desk.ok("template", "create", "app", "debian")
    desk.ok("template", "create", "app", "--version-of", "debian")
    lines = desk.ok("--json", "template", "list").json["templates"]
    assert [each["template"].get("version") for each in lines] == [1, 2]
    ended = shell.run("template", "show", "debian")
    assert (ended.status, "2 versions" in ended.err) == (1, True)
    assert "version 2" in desk.ok("template", "show", "debian/2").text


def test_a_disk_is_copied_to_one_more_place(desk: Desk) -> None:
    desk.ok("template", "create", "app", "debian")
    desk.called.clear()
    desk.ok("template", "copy-disk", "debian", "system", "data2")
    assert "disk_copy" in desk.called


def test_one_that_is_not_there_says_so(desk: Desk) -> None:
    ended = shell.run("template", "show", "none")
    assert (ended.status, "no template none" in ended.err) == (1, True)


@pytest.mark.parametrize(
    "words",
    [
        "create app debian2",
        "new-vm debian made --clone",
        "copy-disk debian system data2",
    ],
)
def test_the_node_that_is_named_moves_the_data(desk: Desk, words: str) -> None:
    desk.ok("template", "create", "app", "debian")
    desk.ok("template", *words.split(), "--data-node", "elm")
    _, _, request, _ = desk.fleet.orders.storage.asked[-1]
    assert request.data_node_id == ELM
