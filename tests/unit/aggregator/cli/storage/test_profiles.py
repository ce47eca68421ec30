"""`skerry qos` and `skerry disk-profile`: what limits disks, from a shell."""

import pytest

from aggregator.api.profile_verbs import VERBS
from node.model.ids import DiskId
from tests.unit.aggregator.cli import shell
from tests.unit.aggregator.cli.shell import Desk

# What is there when each command begins: a QoS `slow` and a profile `thrifty` on data1.
COMMANDS = {
    "qos_list": "qos list",
    "qos_create": "qos create slower --limit total_iops=10",
    "qos_change": "qos change slow --limit total_iops=20",
    "qos_remove": "qos remove unused",
    "disk_profile_list": "disk-profile list",
    "disk_profile_create": "disk-profile create other data1 --qos slow",
    "disk_profile_change": "disk-profile change thrifty --no-qos",
    "disk_profile_remove": "disk-profile remove thrifty",
    "disk_choose_profile": "disk-profile choose loose thrifty",
}


@pytest.fixture
def made(desk: Desk) -> Desk:
    desk.ok("qos", "create", "slow", "--limit", "total_iops=100")
    desk.ok("qos", "create", "unused")
    desk.ok("disk-profile", "create", "thrifty", "data1", "--qos", "slow")
    return desk


def test_command_is_there_for_every_verb() -> None:
    assert set(COMMANDS) == {verb.name for verb in VERBS}


@pytest.mark.parametrize("verb", COMMANDS)
def test_command_calls_its_verb_and_prints_json(made: Desk, verb: str) -> None:
    ended = made.ok("--json", *COMMANDS[verb].split())
    assert ended.json
    assert made.called[-1] == verb


def test_lists_show_who_is_limited_how(made: Desk) -> None:
    shown = made.ok("qos", "list").text.splitlines()
    assert shown[1].split() == ["slow", "total_iops", "100", "thrifty", "Default"]
    rows = made.ok("disk-profile", "list").text.splitlines()
    assert [row.split()[:2] for row in rows[1:4]] == [
        ["data1", "data1"],
        ["thrifty", "data1"],
        ["data2", "data2"],
    ]
    assert "slow" in rows[2]


def test_disk_shows_its_profile(made: Desk) -> None:
    assert "data1" in made.ok("disk", "show", "loose").text
    made.ok("disk-profile", "choose", "loose", "thrifty")
    assert "thrifty" in made.ok("disk", "show", "loose").text
    shown = made.ok("--json", "disk", "show", "loose").json
    assert shown["disk_profile"] == "thrifty"


def test_new_disk_has_the_profile_that_is_named(made: Desk) -> None:
    made_id = "12345678-1234-4234-8234-123456789abc"
    words = ("disk", "create", "new", "data1", "1G", "--id", made_id)
    made.ok(*words, "--profile", "thrifty")
    choice = made.fleet.orders.profiles.now().choices[DiskId(made_id)]
    assert choice.profile_id is not None


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        ("qos remove slow", 1, "thrifty"),
        ("qos remove none", 1, "no storage QoS named none"),
        ("qos create SLOW", 1, "already"),
        ("qos create b --limit total_iops=1 --limit read_iops=1", 1, "excludes"),
        ("qos create b --limit speed=1", 2, "none of"),
        ("disk-profile remove data1", 1, "default"),
        ("disk-profile create b iso1", 1, "no data storage domain"),
        ("disk-profile change thrifty --qos slow --no-qos", 2, "one of"),
        ("disk-profile choose loose data2", 1, "another storage domain"),
    ],
)
def test_wrong_words_say_why(made: Desk, words: str, status: int, code: str) -> None:
    before = made.fleet.orders.profiles.now()
    ended = shell.run(*words.split())
    assert (ended.status, code in ended.err) == (status, True), ended.err
    assert made.fleet.orders.profiles.now() == before
