"""What is read of documents, known and unknown."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aggregator.federation import reading
from node import wire
from node.model.host import NodeFacts
from node.model.reason import Reason
from node.model.vm import Cpu, GuestFacts, VmRun, VmState, Wanted
from tests.fakes import fleet

VM, NODE = fleet.vm_id(1), fleet.node_id(1)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
_DOCUMENTS = st.dictionaries(
    st.sampled_from(
        ["spec", "wanted", "state", "reason", "guest", "generation", "since", "name"]
    ),
    _JSON | st.dictionaries(st.sampled_from(["name", "cpu", "addresses"]), _JSON),
)


def test_read_vm_reads_all_that_a_list_shows() -> None:
    vm = fleet.vm(
        1,
        spec=fleet.spec(1, "web", cpu=Cpu(sockets=2, cores=3), description="d"),
        wanted=Wanted.UP,
        generation=7,
    )
    reason = Reason("vm_waits_for_guest", fleet.AT)
    run = VmRun(
        VM,
        NODE,
        VmState.POWERING_UP,
        fleet.AT,
        reason=reason,
        guest=GuestFacts(fleet.AT, addresses=("10.0.0.9", "fe80::1")),
    )
    row = reading.read_vm(VM, NODE, wire.encode(vm), wire.encode(run))
    assert (row.name, row.description, row.vcpus) == ("web", "d", 6)
    assert (row.state, row.wanted) == (VmState.POWERING_UP, Wanted.UP)
    assert (row.reason, row.since, row.generation) == (reason, fleet.AT, 7)
    assert row.addresses == ("10.0.0.9", "fe80::1")


def test_read_vm_calls_a_vm_without_definition_by_its_id() -> None:
    run = wire.encode(fleet.run(1, 1, VmState.UP))
    assert reading.read_vm(VM, NODE, b"", run).name == VM


def test_read_facts_passes_over_fields_that_it_does_not_know() -> None:
    body = {**wire.to_json(fleet.facts(1)), "mood": "good"}
    assert reading.read_facts(json.dumps(body).encode()) == fleet.facts(1)


def test_read_facts_returns_none_when_they_cannot_be_read() -> None:
    assert reading.read_facts(b'{"node_id": 7}') is None


def test_encode_body_replaces_half_surrogates() -> None:
    assert json.loads(reading.encode_body({"name": "a\ud800b"})) == {"name": "a?b"}


@given(_DOCUMENTS, _DOCUMENTS)
def test_read_vm_reads_whatever_is_json(
    vm: dict[str, Any], run: dict[str, Any]
) -> None:
    row = reading.read_vm(VM, NODE, reading.encode_body(vm), reading.encode_body(run))
    assert isinstance(row.name, str)
    assert isinstance(row.vcpus, int)
    assert row.state in VmState


@given(_JSON)
def test_read_facts_survives_whatever_is_json(value: object) -> None:
    found = reading.read_facts(json.dumps(value).encode())
    assert found is None or isinstance(found, NodeFacts)
