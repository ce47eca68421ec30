"""`skerry hook`: who may sign bundles, and where they are installed."""

from pathlib import Path, PurePosixPath

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aggregator.api.hook_verbs import VERBS
from node import hook_bundle
from tests.fakes import center_hooks
from tests.fakes import services as fakes
from tests.unit.aggregator.cli import shell
from tests.unit.aggregator.cli.shell import Desk

KEY = Ed25519PrivateKey.generate()
KEY_ID = hook_bundle.key_id(KEY.public_key())
# What is there when each command begins: key site, and bundle glue on all nodes.
COMMANDS = {
    "hook_list": "node hooks",
    "center_hook_list": "hook center list",
    "hook_rules": "hook rules",
    "hook_key_add": "hook add-key site {key}",
    "hook_key_remove": "hook remove-key site",
    "hook_strict": "hook strict on",
    "hook_install": "hook install {bundle}",
    "hook_remove": "hook remove glue",
}


class Place:
    def __init__(self, desk: Desk, folder: Path) -> None:
        self.desk = desk
        self.key = folder / "key.pem"
        self.key.write_bytes(
            KEY.public_key().public_bytes(
                serialization.Encoding.PEM,
                serialization.PublicFormat.SubjectPublicKeyInfo,
            )
        )
        self.bundle = folder / "glue.bundle"
        self.pack(KEY)

    def pack(self, *keys: Ed25519PrivateKey, version: str = "1") -> None:
        files = {PurePosixPath("before_vm_start/50_glue"): b"#!/bin/sh\n"}
        self.bundle.write_bytes(hook_bundle.write("glue", version, files, keys))

    def words(self, verb: str) -> list[str]:
        words = COMMANDS[verb].split()
        return [each.format(key=self.key, bundle=self.bundle) for each in words]


@pytest.fixture
def place(desk: Desk, tmp_path: Path) -> Place:
    made = Place(desk, tmp_path)
    desk.ok("hook", "add-key", "site", str(made.key))
    desk.ok("hook", "install", str(made.bundle))
    return made


def test_command_is_there_for_every_verb() -> None:
    assert set(COMMANDS) == {verb.name for verb in VERBS}


@pytest.mark.parametrize("verb", COMMANDS)
def test_command_calls_its_verb_and_prints_json(place: Place, verb: str) -> None:
    place.desk.called.clear()
    assert place.desk.ok("--json", *place.words(verb)).json
    assert verb in place.desk.called


def test_rules_show_keys(place: Place) -> None:
    text = place.desk.ok("hook", "rules").text
    assert "start, and warn" in text
    assert text.splitlines()[-1].split() == ["site", KEY_ID]
    assert "do not start" in place.desk.ok("hook", "strict", "on").text


def test_center_hooks_are_listed(place: Place) -> None:
    text = place.desk.ok("hook", "center", "list").text
    assert text.strip() == f"There are no hooks in {center_hooks.FOLDER}."
    refused = center_hooks.script("after_vm_stop", "60_b", "anybody may write to it")
    made = (center_hooks.script("before_vm_start", "50_a"), refused)
    place.desk.fleet.center_hooks.scripts = made
    first, second = place.desk.ok("hook", "center", "list").text.splitlines()[1:]
    assert first.split()[:2] == ["before_vm_start", "50_a"]
    assert second.endswith("anybody may write to it")


def test_center_points_are_listed(place: Place) -> None:
    lines = place.desk.ok("hook", "center", "points").text.splitlines()
    shown = {words[0]: words[1:] for words in map(str.split, lines)}
    assert shown["before_vm_start"] == ["json", "yes", "60", "s"]
    assert shown["after_node_fence_fail"] == ["json", "60", "s", "fencing"]


def test_bundle_is_on_all_nodes_or_on_some(place: Place) -> None:
    nodes = place.desk.fleet.registry.members()
    bundles = place.desk.fleet.bundles
    assert {each: dict(of) for each, of in bundles.items()} == {
        each.node_id: {"glue": "1"} for each in nodes
    }
    place.pack(KEY, version="2")
    place.desk.ok("hook", "install", str(place.bundle), "--node", "oak")
    assert [node for node, of in bundles.items() if of["glue"] == "2"] == [fakes.OAK]
    place.desk.ok("hook", "remove", "glue", "--node", "oak")
    assert bundles[fakes.OAK] == {}
    gone = shell.run("hook", "remove", "glue")
    assert (gone.status, gone.text.count("done")) == (1, len(nodes) - 1)
    assert "there is no hook bundle glue" in gone.text


def test_bundle_of_no_known_key_goes_nowhere(place: Place) -> None:
    place.pack(version="2")
    assert "has no signature" in shell.run(*place.words("hook_install")).err
    place.pack(KEY, version="3")
    place.desk.ok("hook", "remove-key", "site")
    assert "has no signature" in shell.run(*place.words("hook_install")).err
    assert {of["glue"] for of in place.desk.fleet.bundles.values()} == {"1"}


def test_key_has_one_name(place: Place) -> None:
    place.desk.ok("hook", "add-key", "site", str(place.key))
    assert "known as site" in shell.run("hook", "add-key", "b", str(place.key)).err
    assert "no public key" in shell.run("hook", "add-key", "c", "/dev/null").err


def test_nodes_know_a_key_before_they_are_handed_a_bundle(place: Place) -> None:
    told = place.desk.fleet.registry.told
    assert set(told) == {e.node_id for e in place.desk.fleet.registry.members()}
    place.desk.ok("hook", "strict", "on")
    assert told == []
