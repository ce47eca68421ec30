"""Tests of aggregator.dashboard.drafts."""

from dataclasses import replace
from typing import Any

import pytest

from aggregator.dashboard import drafts
from aggregator.dashboard.drafts import Draft
from node.model.ids import NodeId
from node.model.vm import Cpu, DiskInterface, Firmware
from node.units import GiB, MiB
from tests.fakes import services as fakes

GOOD = Draft(
    "12345678-1234-4234-8234-123456789abc",
    name="web",
    image="debian-12",
    network="skerry",
)


def test_to_request_asks_for_what_was_typed() -> None:
    draft = replace(
        GOOD, memory_gib="0,5", vcpus="4", disk_gib="20", firmware="uefi", node_id="n1"
    )
    draft = replace(draft, interface="sata")
    request = drafts.to_request(draft)
    assert (
        request.memory_bytes,
        request.cpu,
        request.disk_bytes,
        request.firmware,
        request.interface,
        request.node_id,
        request.image,
    ) == (
        512 * MiB,
        Cpu(cores=4),
        20 * GiB,
        Firmware.UEFI,
        DiskInterface.SATA,
        NodeId("n1"),
        "debian-12",
    )


def test_to_request_leaves_the_rest_to_the_aggregator() -> None:
    request = drafts.to_request(GOOD)
    assert (request.node_id, request.disk_bytes) == (None, 0)


@pytest.mark.parametrize(
    ("field", "text"),
    [
        pytest.param("name", "", id="no-name"),
        pytest.param("name", "é" * 128, id="name-of-256-bytes"),
        pytest.param("memory_gib", "", id="no-memory"),
        pytest.param("memory_gib", "lots", id="memory-in-words"),
        pytest.param("memory_gib", "0", id="memory-of-nothing"),
        pytest.param("memory_gib", "1e9", id="memory-as-a-power"),
        pytest.param("vcpus", "0", id="no-cpu"),
        pytest.param("vcpus", "1.5", id="half-a-cpu"),
        pytest.param("vcpus", "²", id="a-digit-that-is-no-number"),
        pytest.param("disk_gib", "-3", id="disk-below-nothing"),
        pytest.param("firmware", "coreboot", id="unknown-firmware"),
        pytest.param("interface", "scsi", id="unknown-bus"),
        pytest.param("network", "", id="no-network"),
    ],
)
def test_to_request_names_the_field_that_is_wrong(field: str, text: str) -> None:
    changes: dict[str, Any] = {field: text}
    with pytest.raises(drafts.BadDraft) as caught:
        drafts.to_request(replace(GOOD, **changes))
    assert caught.value.fields["field"] == field


def test_to_request_refuses_an_empty_disk_without_a_size() -> None:
    with pytest.raises(drafts.BadDraft) as caught:
        drafts.to_request(replace(GOOD, image="", disk_gib=""))
    assert caught.value.fields["field"] == "disk_gib"


def test_to_request_refuses_an_id_that_we_did_not_serve() -> None:
    with pytest.raises(drafts.BadDraft):
        drafts.to_request(replace(GOOD, vm_id="../../x"))


def test_from_form_reads_an_absent_tick_as_no() -> None:
    assert drafts.from_form({"vm_id": "v", "name": "web"}).start == ""


def test_choices_are_what_the_nodes_have() -> None:
    offered = drafts.choices(fakes.make_view())
    assert (offered.images, offered.networks, [name for _, name in offered.nodes]) == (
        ("debian-12", "fedora-43"),
        ("skerry",),
        ["ash", "elm", "oak"],
    )
