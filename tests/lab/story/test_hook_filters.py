"""A guest behind the filter of isolatedprivatevlan: nobody else hears it."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from aggregator.api.property_model import DeclareProperty, RemoveProperty
from aggregator.policies.properties import Level
from node.model.ids import VmId
from node.model.properties import CustomProperty
from node.model.requests import SetProperties
from tests.lab import members, waiting
from tests.lab.story.conftest import Story

pytestmark = pytest.mark.lab

HOST, NAME = "h1", "isolatedprivatevlan"
SAMPLE = members.CHECKOUT / "hooks" / NAME
SCRIPT = f"before_vm_start/50_{NAME}"
STRANGER = "02:00:00:00:00:01"


def _put(story: Story, file: Path, path: str) -> None:
    data = base64.b64encode(file.read_bytes()).decode()
    text = f"mkdir -p $(dirname {path}) && echo {data} | base64 -d >{path}"
    _shell(story, f"{text} && chmod 0755 {path}")


def _shell(story: Story, script: str) -> str:
    done = story.lab.member(HOST).exec(["sh", "-c", script])
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def filtered(story: Story) -> Iterator[Story]:
    """Give the host the script and its filters, and the fleet the property."""
    _put(story, SAMPLE / SCRIPT, f"/etc/skerry/hooks/{SCRIPT}")
    # the second needs the first
    for name in (f"{NAME}-vdsm", f"{NAME}-address-vdsm"):
        _put(story, SAMPLE / f"{name}.xml", f"/tmp/{name}.xml")
        _shell(story, f"virsh -q nwfilter-define /tmp/{name}.xml")
    (declared,) = json.loads((SAMPLE / "properties.json").read_text())
    story.client.property_declare(DeclareProperty(Level.VM, NAME, declared["pattern"]))
    yield story
    story.clear()
    story.client.property_remove(RemoveProperty(Level.VM, NAME))
    _shell(story, "rm -rf /etc/skerry/hooks/before_vm_start")


def _start(story: Story, vm_id: VmId, value: str) -> None:
    request = SetProperties((CustomProperty(NAME, value),))
    order = story.client.vm_set_properties(vm_id, request)
    story.fleet.wait_order(story.client, order)
    story.fleet.start_vm(story.client, vm_id)


def _is_heard_by_h2(story: Story, vm_id: VmId) -> bool:
    guest = story.fleet.wait_address(story.client, vm_id).entry.run.guest
    assert guest is not None
    url = f"http://{guest.addresses[0]}/tick"
    asked = story.lab.member("h2").exec(["curl", "-fsS", "-m", "2", url])
    return asked.returncode == 0


def test_guest_hears_its_gateway_and_nobody_else(filtered: Story) -> None:
    shown = filtered.lab.in_switch(["ip", "-br", "link", "show", "switch"])
    gateway = shown.stdout.split()[2]
    vm_id = filtered.make_vm("alone", HOST)
    filtered.fleet.start_vm(filtered.client, vm_id)
    assert _is_heard_by_h2(filtered, vm_id)
    filtered.fleet.stop_vm(filtered.client, vm_id)
    _start(filtered, vm_id, gateway)
    # It asks for an address, and only its gateway has one for it.
    detail = filtered.fleet.wait_address(filtered.client, vm_id)
    assert filtered.guest_ticks(detail) >= 0
    assert not _is_heard_by_h2(filtered, vm_id)


def test_filter_of_a_strange_gateway_is_before_the_card(filtered: Story) -> None:
    vm_id = filtered.make_vm("alone", HOST)
    _start(filtered, vm_id, f"{STRANGER},192.0.2.7")

    def rules() -> str:
        return _shell(filtered, "ebtables -t nat -L --Lmac2")

    waiting.until("the rules", lambda: STRANGER in rules())
    assert "192.0.2.7" in rules()
