"""`skerry property` and `skerry vm edit`: custom properties from a shell."""

import pytest

from aggregator.api.property_verbs import VERBS
from aggregator.policies.properties import Level
from tests.fakes import services as fakes
from tests.unit.aggregator.cli import shell
from tests.unit.aggregator.cli.shell import Desk

# What is there when each command begins: pincpu of VMs, and macspoof of cards.
COMMANDS = {
    "property_list": "property list",
    "property_declare": "property declare numa [0-9]+ --help-text Where.",
    "property_remove": "property remove macspoof --level nic",
    "vm_set_properties": "vm edit web1 --property pincpu=1-4",
}


@pytest.fixture
def made(desk: Desk) -> Desk:
    desk.ok("property", "declare", "pincpu", "[0-9-]+", "--help-text", "Where to run.")
    desk.ok("property", "declare", "smbios", ".*")
    desk.ok("property", "declare", "macspoof", "true|false", "--level", "nic")
    return desk


def test_command_is_there_for_every_verb() -> None:
    assert set(COMMANDS) == {verb.name for verb in VERBS}


@pytest.mark.parametrize("verb", COMMANDS)
def test_command_calls_its_verb_and_prints_json(made: Desk, verb: str) -> None:
    made.called.clear()
    assert made.ok("--json", *COMMANDS[verb].split()).json
    assert verb in made.called


def test_list_shows_patterns_and_help(made: Desk) -> None:
    rows = made.ok("property", "list").text.splitlines()
    (shown,) = [row for row in rows if "pincpu" in row]
    assert shown.split() == ["vm", "pincpu", "[0-9-]+", "Where", "to", "run."]
    assert rows[-1].split()[:3] == ["nic", "macspoof", "true|false"]


def test_declare_keeps_the_hook_that_is_needed(made: Desk) -> None:
    hook = "before_vm_start/50_smbios"
    made.ok("property", "declare", "smbios", ".*", "--needs-hook", hook)
    assert made.fleet.orders.properties.now()[Level.VM, "smbios"].needs_hook == hook
    assert hook in made.ok("property", "list").text


def test_vm_edit_changes_adds_and_removes(made: Desk) -> None:
    words = ("vm", "edit", "web1", "--property")
    made.ok(*words, "pincpu=1", "--property", "smbios={'a':'b=c'}")
    made.ok(*words, "pincpu=2")
    made.ok(*words, "smbios=")
    shown = made.ok("vm", "show", "web1").text
    assert "custom properties  pincpu=2\n" in shown
    assert "smbios" not in shown


def test_vm_edit_changes_a_card(made: Desk) -> None:
    made.ok("vm", "edit", "web1", "--property", "macspoof=true", "--device", "nic1")
    shown = made.ok("vm", "show", "web1").text
    assert "custom properties of nic1  macspoof=true\n" in shown


def test_vm_is_created_with_properties(made: Desk) -> None:
    made.ok("vm", "create", "new", "--property", "pincpu=1-4", "--property", "smbios=x")
    assert "custom properties  pincpu=1-4\n" in made.ok("vm", "show", "new").text


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        ("property declare LD_PRELOAD .*", 1, "change how hooks run"),
        ("property declare vmId .*", 1, "told by Skerry itself"),
        ("property declare a-b .*", 1, "letters, digits and underscores"),
        ("property declare x (", 1, "no regular expression"),
        ("property declare x .* --needs-hook 50_x", 1, "no hook 50_x"),
        ("property declare sap_agent .*", 1, "comes with every fleet"),
        ("property remove none", 1, "no custom property none of a VM"),
        ("property remove pincpu --level host", 2, "is not one of"),
        ("vm edit web1 --property pincpu=all", 1, "must match [0-9-]+"),
        ("vm edit web1 --property macspoof=true", 1, "macspoof of a VM"),
        ("vm edit web1 --property pincpu=1 --device x", 1, "no card or disk x"),
        ("vm edit web1 --property pincpu", 2, "no property such as"),
        ("vm edit web1", 2, "--property"),
        ("vm create new --property pincpu=all", 1, "must match [0-9-]+"),
    ],
)
def test_wrong_words_say_why(made: Desk, words: str, status: int, told: str) -> None:
    before = made.fleet.orders.properties.now()
    ended = shell.run(*words.split())
    assert (ended.status, told in ended.err) == (status, True), ended.err
    assert made.fleet.orders.properties.now() == before


def test_property_in_use_stays(made: Desk) -> None:
    made.ok("vm", "edit", "web1", "--property", "pincpu=1")
    ended = shell.run("property", "remove", "pincpu")
    assert (ended.status, "web1" in ended.err) == (1, True)


def test_vm_edit_is_based_on_what_it_read(made: Desk) -> None:
    made.ok("vm", "edit", "web1", "--property", "pincpu=1")
    (asked,) = [
        request
        for verb, vm_id, request, _ in made.fleet.orders.storage.asked
        if (verb, vm_id) == ("vm_set_properties", fakes.WEB1)
    ]
    assert asked.generation == 1
