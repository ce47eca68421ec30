"""What nodes say and do not say becomes the next View."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.federation import apply
from aggregator.federation import view as views
from aggregator.federation.apply import Said
from aggregator.federation.view import NodeState, View
from node.model.feed import Kind
from node.model.host import Device, DeviceKind, Image
from node.model.ids import JobId, NodeId, VmId
from node.model.job import JobState
from node.model.reason import Reason, chain
from node.model.stats import VmStats
from node.model.vm import Disk, VmState, Wanted
from node.units import MiB
from tests.fakes import fleet

REASON = Reason("node_never_heard", fleet.AT, {"node": "n1"})
SILENT = Reason("node_unreachable", fleet.AT, {"node": "n1", "silence_s": 25})


def view_of(*numbers: int) -> View:
    """Return a View with nodes that are up and have said who they are."""
    view = View()
    for number in numbers:
        node_id = fleet.node_id(number)
        view = apply.add_node(view, node_id, f"n{number}", "", fleet.AT, REASON)
        view, _ = apply.set_documents(view, node_id, fleet.said(fleet.facts(number)))
        view = apply.set_state(view, node_id, NodeState.UP, None, fleet.AT)
    return view


def hear(view: View, number: int, *values: object) -> View:
    said = fleet.said(*values)
    return apply.set_documents(view, fleet.node_id(number), said)[0]


def names(view: View) -> list[str]:
    return [vm.name for vm in views.page(view, 0, 1000)]


def test_add_node_shows_it_as_connecting() -> None:
    view = apply.add_node(View(), fleet.node_id(1), "n1", "a", fleet.AT, REASON)
    node = view.nodes[fleet.node_id(1)]
    assert (node.state, node.reason) == (NodeState.CONNECTING, REASON)


def test_set_documents_shows_a_vm_with_its_run() -> None:
    view = hear(view_of(1), 1, fleet.up(1, "web"), fleet.run(1, 1, VmState.UP))
    vm = view.vms[fleet.vm_id(1)]
    assert (vm.name, vm.state, vm.vcpus) == ("web", VmState.UP, 2)
    assert vm.node_id == fleet.node_id(1)


def test_set_documents_counts_what_runs_and_what_is_promised() -> None:
    view = hear(
        view_of(1),
        1,
        fleet.up(1),
        fleet.run(1, 1, VmState.UP),
        fleet.up(2),
        fleet.run(2, 1),
        fleet.vm(3),
        fleet.run(3, 1),
    )
    node = view.nodes[fleet.node_id(1)]
    assert (node.vms_running, node.vms_promised) == (1, 2)
    assert node.memory_promised_bytes == 1024 * MiB
    assert node.vcpus_promised == 4


def test_set_documents_forgets_what_is_gone() -> None:
    view = hear(view_of(1), 1, fleet.up(1), fleet.run(1, 1, VmState.UP))
    gone = (fleet.gone(fleet.vm(1)), fleet.gone(fleet.run(1, 1)))
    view, _ = apply.set_documents(view, fleet.node_id(1), gone)
    node = view.nodes[fleet.node_id(1)]
    assert not view.vms
    assert not view.vm_order
    assert (node.vm_ids, node.vms_running, node.memory_promised_bytes) == (
        frozenset(),
        0,
        0,
    )


def test_set_documents_forgets_what_a_complete_push_does_not_say() -> None:
    before = hear(view_of(1), 1, fleet.vm(1), fleet.vm(2), fleet.job(1))
    said = fleet.said(fleet.facts(1), fleet.vm(2))
    view, _ = apply.set_documents(before, fleet.node_id(1), said, is_complete=True)
    assert set(view.vms) == {fleet.vm_id(2)}
    assert not view.jobs


def test_set_documents_leaves_other_nodes_alone_when_complete() -> None:
    before = hear(hear(view_of(1, 2), 1, fleet.vm(1)), 2, fleet.vm(2), fleet.job(2))
    view, _ = apply.set_documents(before, fleet.node_id(1), (), is_complete=True)
    assert set(view.vms) == {fleet.vm_id(2)}
    assert set(view.jobs) == {fleet.job_id(2)}


def test_set_documents_does_not_change_the_view_before() -> None:
    before = hear(view_of(1), 1, fleet.vm(1))
    hear(before, 1, fleet.vm(2), fleet.vm(1, "renamed"))
    assert names(before) == ["vm1"]


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(Said("telepathy", "x", b'{"a": 1}'), id="unknown-kind"),
        pytest.param(Said(Kind.VM, "x", b'{"spec": 7}'), id="other-type"),
        pytest.param(Said(Kind.VM_RUN, "x", b'{"state": "dreaming"}'), id="new-state"),
        pytest.param(Said(Kind.NODE, fleet.node_id(1), b"{}"), id="empty-facts"),
        pytest.param(Said(Kind.IMAGE, "x", b"[]"), id="no-object"),
    ],
)
def test_set_documents_reads_what_it_does_not_know_tolerantly(said: Said) -> None:
    view, _ = apply.set_documents(view_of(1), fleet.node_id(1), [said])
    assert view.nodes[fleet.node_id(1)].facts == fleet.facts(1)


def test_set_documents_keeps_documents_as_they_came() -> None:
    body = b'{"spec":{"name":"web"},"wanted":"up","colour":"blue"}'
    said = [Said(Kind.VM, fleet.vm_id(1), body)]
    view, _ = apply.set_documents(view_of(1), fleet.node_id(1), said)
    assert view.vms[fleet.vm_id(1)].vm_document == body


def test_set_documents_keeps_devices_and_images_by_id() -> None:
    device = Device("nic-eth0", DeviceKind.NIC, "eth0")
    said = [
        Said(Kind.DEVICE, "nic-eth0", b'{"device_id":"nic-eth0"}'),
        Said(Kind.IMAGE, "i2", b'{"name":"debian"}'),
        Said(Kind.IMAGE, "i1", b'{"name":"fedora"}'),
    ]
    view, _ = apply.set_documents(view_of(1), fleet.node_id(1), said)
    node = view.nodes[fleet.node_id(1)]
    assert len(node.devices) == 1
    assert device.device_id.encode() in node.devices[0]
    assert node.images == ("debian", "fedora")
    assert isinstance(Image("debian", 1, 1).name, str)
    said = [Said(Kind.IMAGE, "i2", None), Said(Kind.DEVICE, "nic-eth0", None)]
    view, _ = apply.set_documents(view, fleet.node_id(1), said)
    assert view.nodes[fleet.node_id(1)].images == ("fedora",)
    assert view.nodes[fleet.node_id(1)].devices == ()


def test_set_documents_keeps_a_job_to_the_node_that_made_it() -> None:
    view = hear(view_of(1, 2), 1, fleet.job(1))
    other = fleet.job(1, JobState.DONE)
    view = hear(view, 2, other)
    view, _ = apply.set_documents(view, fleet.node_id(2), [fleet.gone(other)])
    assert b"running" in view.jobs[fleet.job_id(1)]


def test_set_state_hides_what_an_unreachable_node_said_of_its_vms() -> None:
    view = hear(view_of(1), 1, fleet.up(1), fleet.run(1, 1, VmState.UP))
    view = apply.set_state(
        view, fleet.node_id(1), NodeState.UNREACHABLE, SILENT, fleet.AT
    )
    vm = view.vms[fleet.vm_id(1)]
    assert (vm.state, vm.last_state) == (VmState.UNKNOWN, VmState.UP)
    codes = [reason.code for reason in chain(vm.reason)]
    assert codes == ["vm_node_silent", "node_unreachable"]
    assert view.nodes[fleet.node_id(1)].memory_promised_bytes == 512 * MiB


def test_set_state_shows_the_vms_again_when_the_node_is_back() -> None:
    before = hear(view_of(1), 1, fleet.up(1), fleet.run(1, 1, VmState.UP))
    node_id = fleet.node_id(1)
    view = apply.set_state(before, node_id, NodeState.UNREACHABLE, SILENT, fleet.AT)
    view = apply.set_state(view, node_id, NodeState.UP, None, fleet.AT)
    assert view.vms == before.vms


def test_set_stats_changes_figures_and_no_revision() -> None:
    before = hear(view_of(1), 1, fleet.vm(1))
    figures = fleet.stats(1)
    by_id = {each.vm_id: each for each in figures.vms}
    view = apply.set_stats(before, fleet.node_id(1), figures.node, by_id, 0.5)
    assert views.stats_of(view, fleet.vm_id(1)) == VmStats(fleet.vm_id(1))
    assert view.nodes[fleet.node_id(1)].stats == figures.node
    assert view.revision == before.revision
    assert view.stats_revision == before.stats_revision + 1


def test_remove_node_removes_all_it_said() -> None:
    view = hear(view_of(1, 2), 1, fleet.vm(1), fleet.job(1))
    view = apply.remove_node(view, fleet.node_id(1))
    assert not view.vms
    assert not view.jobs
    assert set(view.nodes) == {fleet.node_id(2)}


def test_rename_node_takes_the_name_of_the_registry() -> None:
    view = apply.rename_node(view_of(1), fleet.node_id(1), "new", "10.1.1.1")
    assert view.nodes[fleet.node_id(1)].name == "new"
    assert apply.rename_node(view, fleet.node_id(1), "new", "10.1.1.1") is view


def test_set_documents_tells_of_two_nodes_that_claim_one_vm() -> None:
    view = hear(view_of(1, 2), 1, fleet.vm(1), fleet.run(1, 1))
    said = fleet.said(fleet.up(1), fleet.run(1, 2, VmState.UP))
    view, rivalries = apply.set_documents(view, fleet.node_id(2), said)
    (rivalry,) = rivalries
    assert isinstance(rivalry, apply.Rivalry)
    assert {rivalry.believed, rivalry.other} == {fleet.node_id(1), fleet.node_id(2)}
    assert view.vms[fleet.vm_id(1)].node_id == fleet.node_id(2)
    assert len(view.vm_order) == 1


def test_set_documents_tells_of_a_rivalry_once() -> None:
    view = hear(hear(view_of(1, 2), 1, fleet.vm(1)), 2, fleet.vm(1))
    said = fleet.said(fleet.run(1, 2, VmState.UP))
    _, rivalries = apply.set_documents(view, fleet.node_id(2), said)
    assert rivalries == ()


def test_set_documents_falls_back_to_the_rival_when_the_first_lets_go() -> None:
    view = hear(view_of(1, 2), 1, fleet.up(1), fleet.run(1, 1, VmState.UP))
    view = hear(view, 2, fleet.vm(1, "copy"), fleet.run(1, 2))
    gone = (fleet.gone(fleet.vm(1)), fleet.gone(fleet.run(1, 1)))
    view, _ = apply.set_documents(view, fleet.node_id(1), gone)
    assert view.vms[fleet.vm_id(1)].node_id == fleet.node_id(2)
    assert names(view) == ["copy"]
    assert not view.vm_claims


def test_set_documents_does_not_cry_over_a_vm_of_a_pool() -> None:
    spec = fleet.spec(1, pool_id=fleet.pool_id())
    defined = fleet.vm(1, spec=spec, generation=2, wanted=Wanted.UP)
    view = hear(view_of(1, 2, 3), 1, defined)
    said = fleet.said(fleet.run(1, 2, VmState.UP))
    view, troubles = apply.set_documents(view, fleet.node_id(2), said)
    assert troubles == ()
    vm = view.vms[fleet.vm_id(1)]
    assert (vm.node_id, vm.state, vm.generation) == (fleet.node_id(2), VmState.UP, 2)
    assert view.nodes[fleet.node_id(1)].memory_promised_bytes == 0
    said = fleet.said(fleet.run(1, 3, VmState.UP))
    view, troubles = apply.set_documents(view, fleet.node_id(3), said)
    assert [type(each) for each in troubles] == [apply.Rivalry]


def test_set_documents_promises_memory_to_a_vm_of_its_own_disk() -> None:
    """The VM is wanted up, and no other node can run it."""
    spec = fleet.spec(1, pool_id=fleet.local_pool_id(1))
    view = hear(view_of(1), 1, fleet.vm(1, spec=spec, wanted=Wanted.UP))
    node = view.nodes[fleet.node_id(1)]
    assert (node.vms_promised, node.memory_promised_bytes) == (1, spec.memory_bytes)


def test_set_documents_knows_which_vms_use_a_disk() -> None:
    disk = Disk(fleet.disk_id(1), "d", 1, storage_domain_id=fleet.domain_id(1))
    own = Disk(fleet.disk_id(2), "own", 1)
    view = view_of(1)
    for number in (1, 2):
        spec = fleet.spec(number, disks=(disk, own))
        view = hear(view, 1, fleet.vm(number, spec=spec))
    users = {fleet.disk_id(1): (fleet.vm_id(1), fleet.vm_id(2))}
    assert dict(view.disk_users) == users
    view = hear(view, 1, fleet.vm(1))
    assert dict(view.disk_users) == {fleet.disk_id(1): (fleet.vm_id(2),)}


def test_set_documents_keeps_a_job_that_moved_to_a_second_node() -> None:
    lost, done = fleet.job(1, JobState.FAILED), fleet.job(1, JobState.DONE)
    view = hear(hear(view_of(1, 2), 1, lost), 2, done)
    job_id = fleet.job_id(1)
    assert b"failed" in (views.job_of(view, fleet.node_id(1), job_id) or b"")
    assert b"done" in (views.job_of(view, fleet.node_id(2), job_id) or b"")
    view, _ = apply.set_documents(view, fleet.node_id(1), [fleet.gone(lost)])
    assert views.job_of(view, fleet.node_id(1), job_id) is None
    assert b"done" in view.jobs[job_id]


# Properties: whatever order things are said in, the View is that of the end.

_Step = tuple[int, int, str, VmState, str, Wanted]
_FLEET = view_of(1, 2, 3)
_STEPS = st.lists(
    st.tuples(
        st.integers(1, 3),  # node
        st.integers(1, 4),  # VM
        st.sampled_from(["vm", "run", "no-vm", "no-run", "silent", "heard"]),
        st.sampled_from([VmState.DOWN, VmState.UP, VmState.PAUSED]),
        st.sampled_from(["a", "B", "c", "ß"]),
        st.sampled_from([Wanted.UP, Wanted.DOWN]),
    ),
    max_size=30,
)


def _after(
    steps: list[_Step],
) -> tuple[View, dict[NodeId, dict[tuple[str, str], Said]], set[int]]:
    view = _FLEET
    documents: dict[NodeId, dict[tuple[str, str], Said]] = {
        fleet.node_id(number): {} for number in (1, 2, 3)
    }
    silent: set[int] = set()
    for number, vm, what, state, name, wanted in steps:
        node_id = fleet.node_id(number)
        if what == "silent":
            silent.add(number)
            view = apply.set_state(
                view, node_id, NodeState.UNREACHABLE, SILENT, fleet.AT
            )
            continue
        if what == "heard":
            silent.discard(number)
            view = apply.set_state(view, node_id, NodeState.UP, None, fleet.AT)
            continue
        value = {
            "vm": fleet.vm(vm, name, wanted=wanted),
            "run": fleet.run(vm, number, state),
            "no-vm": fleet.vm(vm),
            "no-run": fleet.run(vm, number),
        }[what]
        said = fleet.gone(value) if what.startswith("no") else fleet.said(value)[0]
        key = (said.kind, said.id)
        documents[node_id].pop(key, None)
        if said.body is not None:
            documents[node_id][key] = said
        view, _ = apply.set_documents(view, node_id, [said])
    return view, documents, silent


@given(_STEPS)
def test_set_documents_ends_the_same_as_saying_all_at_once(steps: list[_Step]) -> None:
    view, documents, silent = _after(steps)
    fresh = _FLEET
    for number in reversed((1, 2, 3)):
        node_id = fleet.node_id(number)
        said = [*fleet.said(fleet.facts(number)), *documents[node_id].values()]
        fresh, _ = apply.set_documents(fresh, node_id, said, is_complete=True)
        if number in silent:
            fresh = apply.set_state(
                fresh, node_id, NodeState.UNREACHABLE, SILENT, fleet.AT
            )
    assert fresh.vms == view.vms
    assert fresh.vm_order == view.vm_order
    assert fresh.vm_claims == view.vm_claims
    assert _sums(fresh) == _sums(view)


@given(_STEPS)
def test_set_documents_keeps_the_order_and_the_sums_right(steps: list[_Step]) -> None:
    view, _, _ = _after(steps)
    assert list(view.vm_order) == sorted(
        (views.fold(vm.name), vm_id) for vm_id, vm in view.vms.items()
    )
    claims = [
        claim
        for vm_id, shown in view.vms.items()
        for claim in view.vm_claims.get(vm_id, (shown,))
    ]
    for node_id, node in view.nodes.items():
        own = [claim for claim in claims if claim.node_id == node_id]
        promised = [
            claim
            for claim in own
            if claim.last_state in (VmState.UP, VmState.PAUSED)
            or claim.wanted is not Wanted.DOWN
        ]
        assert node.vm_ids == {claim.vm_id for claim in own}
        assert node.vms_promised == len(promised)
        assert node.memory_promised_bytes == sum(each.memory_bytes for each in promised)


@given(_STEPS)
def test_remove_node_leaves_what_the_others_say(steps: list[_Step]) -> None:
    view, _, _ = _after(steps)
    for number in (1, 2, 3):
        view = apply.remove_node(view, fleet.node_id(number))
    assert view == replace(View(), revision=view.revision)


def _sums(view: View) -> dict[NodeId, tuple[int, int, int, frozenset[VmId]]]:
    return {
        node_id: (
            node.vms_running,
            node.memory_promised_bytes,
            node.vcpus_promised,
            node.vm_ids,
        )
        for node_id, node in view.nodes.items()
    }


def test_job_ids_are_those_of_the_node() -> None:
    view = hear(view_of(1), 1, fleet.job(1))
    assert view.nodes[fleet.node_id(1)].job_ids == {JobId(fleet.job_id(1))}
