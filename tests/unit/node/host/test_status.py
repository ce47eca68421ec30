"""The health of a node in one sentence."""

from dataclasses import replace

import pytest

from node.host import status
from node.model.host import (
    AdmissionState,
    AggregatorLink,
    CpuFacts,
    FirmwareFacts,
    KvmFacts,
    NodeFacts,
    Versions,
)
from node.model.ids import NodeId
from node.model.reason import Reason

_FACTS = NodeFacts(
    node_id=NodeId("n"),
    name="h1",
    address="10.77.0.1",
    boot_id="b",
    booted_at="",
    versions=Versions("", "", "", "", ""),
    features=(),
    memory_bytes=0,
    cpu=CpuFacts("", "", "", (), 1, 1, 1, 1, 0),
    kvm=KvmFacts(True, ""),
    firmware=FirmwareFacts(),
    networks=(),
    machines=(),
)
_EMULATED = replace(_FACTS, kvm=KvmFacts(False, "no"))
_DEGRADED = replace(
    _FACTS, problems=(Reason("libvirt_down", "", {"detail": "no answer"}),)
)
_A1 = AggregatorLink("a1", "", 0, 0, is_reached=True)
_A2 = AggregatorLink("a2", "", 0, 0)


@pytest.mark.parametrize(
    ("facts", "admission", "links", "running", "defined", "expected"),
    [
        (
            _FACTS,
            AdmissionState.WAITING,
            (),
            0,
            0,
            "h1 is well; no VMs are defined; it waits for admission to a fleet.",
        ),
        (
            _FACTS,
            AdmissionState.ADMITTED,
            (_A1,),
            1,
            2,
            "h1 is well; 1 of 2 VMs run; 1 of 1 aggregator reached.",
        ),
        (
            _EMULATED,
            AdmissionState.ADMITTED,
            (_A1, _A2),
            1,
            1,
            "h1 is well; 1 of 1 VM run (emulated); 1 of 2 aggregators reached.",
        ),
        (
            _DEGRADED,
            AdmissionState.ADMITTED,
            (_A2,),
            0,
            2,
            "h1 needs attention: libvirt does not answer: no answer; "
            "0 of 2 VMs run; no aggregator is reached, which guests do not notice.",
        ),
        (
            _FACTS,
            AdmissionState.ADMITTED,
            (),
            0,
            0,
            "h1 is well; no VMs are defined; its fleet has no aggregator.",
        ),
    ],
    ids=["waiting", "well", "emulated", "degraded", "no-aggregator"],
)
def test_sentence_tells_the_worst_first(
    facts: NodeFacts,
    admission: AdmissionState,
    links: tuple[AggregatorLink, ...],
    running: int,
    defined: int,
    expected: str,
) -> None:
    said = status.sentence(facts, admission, links, running=running, defined=defined)
    assert said == expected
