"""A signed bundle of hooks goes to every node of a fleet, and acts on its guests."""

from collections.abc import Iterator
from pathlib import PurePosixPath

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aggregator.api.hook_model import (
    AddHookKey,
    InstallBundle,
    RemoveBundle,
    RemoveHookKey,
    SetStrictHooks,
)
from node import hook_bundle
from node.errors import Denied
from tests.lab import errors, waiting
from tests.lab.story.conftest import Story

pytestmark = pytest.mark.lab

HOST = "h1"
KEY = Ed25519PrivateKey.generate()
KEY_ID = hook_bundle.key_id(KEY.public_key())
PEM = (
    KEY.public_key()
    .public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    .decode()
)
NAME = "lab"
# What the schema has never heard of, and libvirt passes over.
SCRIPT = b"""#!/bin/sh
sed -i 's:<name>:<unheard-of/><name>:' "$_hook_domxml"
echo "seen by $(basename "$0")" >&2
"""


def bundle(version: str, script: bytes = SCRIPT) -> str:
    files = {PurePosixPath("before_vm_start/50_lab"): script}
    return hook_bundle.write(NAME, version, files, [KEY]).decode()


def scripts(story: Story, host: str) -> list[tuple[str, str]]:
    listed = story.fleet.node_json(host, "hooks", "list")["scripts"]
    return [(each["point"], each["name"]) for each in listed]


@pytest.fixture
def signed(story: Story) -> Iterator[Story]:
    story.client.hook_key_add(AddHookKey(NAME, PEM))
    yield story
    story.client.hook_strict(SetStrictHooks(False))
    story.client.hook_remove(RemoveBundle(NAME))
    story.client.hook_key_remove(RemoveHookKey(NAME))


def test_bundle_is_on_every_node_and_acts(signed: Story) -> None:
    outcomes = signed.client.hook_install(InstallBundle(bundle("1"))).nodes
    hosts = [each.name for each in signed.fleet.hosts()]
    assert sorted((e.name, e.problem) for e in outcomes) == [(n, "") for n in hosts]
    for host in hosts:
        assert scripts(signed, host) == [("before_vm_start", "50_lab")]
        (told,) = signed.fleet.node_json(host, "hooks", "bundles")["bundles"]
        assert told == {"name": NAME, "version": "1", "signed_by": KEY_ID}
    vm_id = signed.make_vm("hooked", HOST)
    signed.fleet.start_vm(signed.client, vm_id)

    def codes() -> set[str]:
        told = signed.client.event_list().events
        return {each.code for each in told if each.vm_id == vm_id}

    waiting.until("what it said", lambda: "hook_said" in codes())
    waiting.until("the warning", lambda: "hook_edit_unusual" in codes())


def test_strict_fleet_starts_nothing_that_the_schema_dislikes(signed: Story) -> None:
    signed.client.hook_install(InstallBundle(bundle("1")))
    signed.client.hook_strict(SetStrictHooks(True))

    def is_told() -> bool:
        return bool(signed.fleet.node_json(HOST, "rules")["has_strict_hooks"])

    waiting.until("the node's strictness", is_told)
    vm_id = signed.make_vm("hooked", HOST)
    with pytest.raises(errors.StepFailed, match="strict") as caught:
        signed.fleet.start_vm(signed.client, vm_id)
    assert "50_lab" in str(caught.value)


def test_node_refuses_what_no_key_of_its_fleet_has_signed(signed: Story) -> None:
    signed.client.hook_key_remove(RemoveHookKey(NAME))
    with pytest.raises(Denied) as caught:
        signed.client.hook_install(InstallBundle(bundle("1")))
    assert caught.value.code == "hook_bundle_unsigned"
    assert scripts(signed, HOST) == []
    signed.client.hook_key_add(AddHookKey(NAME, PEM))
