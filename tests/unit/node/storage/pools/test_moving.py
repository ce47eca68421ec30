"""Disks of VMs that move: what the definitions, and the VMs' leases, become."""

import grp
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from node.clock import SystemClock
from node.config import Config
from node.guest import facts
from node.model.ids import DiskId, PoolId, StorageDomainId
from node.model.requests import CreateVm, DeleteVm
from node.model.storage import DiskFormat
from node.model.storage_requests import (
    ActOnDisk,
    ActOnStorageDomain,
    AttachStorageDomain,
    CreatePool,
    CreateStorageDomain,
    MoveDisk,
)
from node.model.vm import Disk, Vm
from node.storage import images
from node.storage.spm.vm_leases import VmLeaseMissing
from node.units import MiB
from node.vm.lifecycle import Lifecycle
from tests.fakes.hooks import FakeHooks
from tests.fakes.hypervisor import FakeHypervisor
from tests.unit.node.storage.pools.nodes import Node, Nodes
from tests.unit.node.storage.small_qemu import qemu_img
from tests.unit.node.vm.examples import HOST, SPEC

ALPHA, BETA = (
    StorageDomainId(f"11111111-1111-4222-8333-00000000000{each}") for each in "ab"
)
POOL = PoolId("22222222-1111-4222-8333-00000000000a")
ROOT, DATA = (DiskId(f"cccccccc-1111-4222-8333-00000000000{n}") for n in (1, 2))


@pytest.fixture
def node(nodes: Nodes) -> Node:
    """Return the manager of a pool in which alpha and beta are active."""
    made = nodes.start()
    made.guard.programs["qemu-img"] = qemu_img(made.guard)
    for key, name in ((ALPHA, "alpha"), (BETA, "beta")):
        request = CreateStorageDomain(key, name, nodes.connection(name))
        made.done(made.storage.storage_domain_create(request))
    made.done(made.storage.pool_create(CreatePool(POOL, "main", ALPHA)))
    made.done(made.storage.storage_domain_attach(BETA, AttachStorageDomain(POOL)))
    made.done(made.storage.storage_domain_activate(BETA, ActOnStorageDomain()))
    return made


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    made = Nodes(tmp_path)
    yield made
    made.close()


def make(node: Node) -> Vm:
    """Make a VM with two disks on alpha."""
    disks = tuple(
        Disk(each, "d", MiB, storage_domain_id=ALPHA, disk_format=DiskFormat.RAW)
        for each in (ROOT, DATA)
    )
    spec = replace(SPEC, pool_id=POOL, disks=disks, nics=())
    vm, volumes = (
        Vm(spec, 1, "2026-11-22T08:00:00.000Z", home=ALPHA),
        node.volumes,
    )
    volumes.make(vm)
    with volumes.naming(vm, spec.disks):
        volumes.write(vm, 0)
    return vm


def move(node: Node, vm: Vm, disk_id: DiskId) -> Vm:
    """Move a disk to beta, and return the definition that its VM has then."""
    with node.volumes.holding(vm):
        node.done(node.storage.disk_move(disk_id, MoveDisk(BETA)))
    after = node.volumes.find(vm.spec.vm_id)
    assert after is not None
    assert node.told_definitions[-1] == after
    return after


def test_definition_stays_while_a_disk_of_the_vm_is_there(node: Node) -> None:
    vm = make(node)
    after = move(node, vm, DATA)
    places = [disk.storage_domain_id for disk in after.spec.disks]
    assert (places, after.home, after.generation) == ([ALPHA, BETA], ALPHA, 2)
    lease = node.volumes.lease(after)
    assert lease is not None
    assert lease.lockspace == ALPHA


def test_definition_and_lease_go_with_the_last_disk(node: Node) -> None:
    vm = make(node)
    before = move(node, vm, DATA)
    after = move(node, before, ROOT)
    places = [disk.storage_domain_id for disk in after.spec.disks]
    assert (places, after.home, after.generation) == ([BETA, BETA], BETA, 3)
    lease = node.volumes.lease(after)
    assert lease is not None
    assert lease.lockspace == BETA
    assert node.volumes.park(after, None) == 1
    # Nobody takes the old one for the VM's.
    with pytest.raises(VmLeaseMissing):
        node.volumes.lease(before)
    assert all(node.volumes.open(disk).layers for disk in after.spec.disks)


@pytest.fixture
def vms(nodes: Nodes, node: Node, tmp_path: Path) -> Iterator[Lifecycle]:
    """Return the VMs of the manager, as its agent puts the two together."""
    (tmp_path / "logs").mkdir()
    made = Lifecycle(
        *(FakeHypervisor(), node.store, node.jobs, SystemClock()),
        Config(
            state_folder=str(tmp_path),
            qemu_group=grp.getgrgid(os.getgid()).gr_name,
        ),
        lambda: replace(HOST, node_id=node.node_id),
        images.list_images,
        facts.GuestPoller,
        node.volumes,
        FakeHooks(),
        tmp_path / "logs",
    )
    nodes.holding, nodes.on_defined = made.pool_vms.holding, made.adopt
    nodes.user_elsewhere = made.user_of
    made.run()
    made.create(CreateVm(make(node).spec))
    yield made
    made.close()


def is_free(node: Node, vm: Vm) -> bool:
    return node.volumes.is_given_back(vm)


def test_agent_moves_and_deletes_what_a_vm_has(vms: Lifecycle, node: Node) -> None:
    node.done(node.storage.disk_move(ROOT, MoveDisk(BETA)))
    node.done(node.storage.disk_move(DATA, MoveDisk(BETA)))
    moved = vms.show(SPEC.vm_id).vm
    assert {disk.storage_domain_id for disk in moved.spec.disks} == {BETA}
    assert (moved.home, moved.generation) == (BETA, 3)
    assert is_free(node, moved)
    node.done(node.storage.disk_delete(DATA, ActOnDisk()))
    left = vms.show(SPEC.vm_id).vm
    assert [disk.disk_id for disk in left.spec.disks] == [ROOT]
    assert is_free(node, left)


def test_agent_deletes_a_vm_with_its_disks(vms: Lifecycle, node: Node) -> None:
    """Their jobs do not take the VM that goes for one that could start."""
    node.done(vms.delete(SPEC.vm_id, DeleteVm()))
    for job in node.jobs.list():
        if job.verb == "disk_delete":
            node.done(job)
    for disk_id in (ROOT, DATA):
        assert not list(node.storage.roster.seat(POOL).catalog.find(disk_id))
