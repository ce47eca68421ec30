"""Measure what the View of a large fleet costs: memory, pages, changes, figures.

Run as `python -m tests.scale.view_cost [nodes] [VMs per node]`; prints a table
to compare with DESIGN section 8.
"""

import random
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from aggregator.federation import apply, reading
from aggregator.federation import view as views
from aggregator.federation.apply import Said
from aggregator.federation.view import NodeState, View
from node import wire
from node.model.feed import Delta, Kind
from node.model.ids import DiskId, NicId, VmId, VolumeId
from node.model.reason import Reason
from node.model.storage import ChainSummary, DiskDocument, PoolMark
from node.model.vm import Disk, Nic, VmState
from node.units import GiB, MiB
from tests.fakes import fleet

NODES, PER_NODE = 2500, 20
POOL_NODES = 250  # as many as a pool spans
DISKS_PER_VM = 2
DOMAINS = 10  # of a pool
SAMPLES = 2000
STATS_EVERY_S = 15.0
NEVER_HEARD = Reason("node_never_heard", fleet.AT, {"node": "n"})


def fill(nodes: int, per_node: int) -> View:
    """Return a View in which every node has told everything."""
    view = View()
    for number in range(nodes):
        node_id = fleet.node_id(number)
        view = apply.add_node(view, node_id, f"n{number}", "", fleet.AT, NEVER_HEARD)
        first = number * per_node
        said = [
            *fleet.said(fleet.facts(number)),
            *(
                each
                for vm in range(first, first + per_node)
                for each in documents(vm, number)
            ),
        ]
        view, _ = apply.set_documents(view, node_id, said, is_complete=True)
        view = apply.set_state(view, node_id, NodeState.UP, None, fleet.AT)
        view = figures(view, number, per_node)
    return view


def add_storage(view: View, nodes: int, per_node: int) -> View:
    """Return the View with pools of 250 nodes, whose managers tell all disks."""
    per_pool = POOL_NODES * per_node * DISKS_PER_VM
    for number in range(nodes):
        pool, place = divmod(number, POOL_NODES)
        mark = PoolMark(1, 1) if place == 0 else None
        pool_id = fleet.pool_id(pool)
        size = min(POOL_NODES, nodes - pool * POOL_NODES)
        hosts = range(number - place, number - place + size)
        said: list[object] = [
            fleet.pool(
                number,
                pool_id=pool_id,
                holder=number - place,
                mark=mark,
                members=hosts if mark else (number - place, number),
            ),
            *(
                fleet.storage_domain(number, each, pool=pool_id, mark=mark)
                for each in range(pool * DOMAINS, (pool + 1) * DOMAINS)
            ),
        ]
        if mark is not None:
            disks = range(pool * per_pool, pool * per_pool + size * per_node * 2)
            said += [pool_disk(each, pool) for each in disks]
        node_id = fleet.node_id(number)
        view, _ = apply.set_documents(view, node_id, fleet.said(*said))
    return view


def pool_disk(number: int, pool: int, **changes: Any) -> DiskDocument:
    """Return a disk of a pool, with the chain that every disk has."""
    volume_id = VolumeId(fleet.disk_id(number))
    return fleet.disk(
        number,
        f"disk-{number * 7919 % 100_003}-{number}",
        pool_id=fleet.pool_id(pool),
        storage_domain_ids=(fleet.domain_id(pool * DOMAINS + number % DOMAINS),),
        chain=ChainSummary((volume_id,)),
        **changes,
    )


def documents(vm: int, number: int, state: VmState = VmState.UP) -> tuple[Said, ...]:
    """Return the documents of a VM with a disk and a card."""
    spec = fleet.spec(
        vm,
        f"vm-{vm * 7919 % 100_003}-{vm}",
        disks=(Disk(DiskId(fleet.vm_id(vm)), "disk", 10 * GiB, "debian"),),
        nics=(Nic(NicId(fleet.vm_id(vm)), "nic", "52:54:00:00:00:01", "ovirtmgmt"),),
    )
    return fleet.said(fleet.vm(vm, spec=spec), fleet.run(vm, number, state))


def stats_body(number: int, per_node: int) -> bytes:
    """Return the push of a node that brings only figures."""
    first = number * per_node
    stats = fleet.stats(*range(first, first + per_node))
    return wire.encode(fleet.delta(1, 1, stats=stats))


def figures(view: View, number: int, per_node: int) -> View:
    """Return the View after a push of figures, from its bytes on."""
    return take(view, number, stats_body(number, per_node))


def take(view: View, number: int, body: bytes) -> View:
    """Return the View after a push that brings only figures."""
    delta = wire.decode(Delta, body, strict=False)
    assert delta.stats is not None, "the push brings figures"
    by_id = {each.vm_id: each for each in delta.stats.vms}
    node_id = fleet.node_id(number)
    return apply.set_stats(view, node_id, delta.stats.node, by_id, 0.0)


def percentile_ms(action: Callable[[], object]) -> tuple[float, float]:
    """Return the median and the 99th percentile of many calls."""
    taken = []
    for _ in range(SAMPLES):
        started = time.perf_counter()
        action()
        taken.append(time.perf_counter() - started)
    taken.sort()
    return taken[SAMPLES // 2] * 1000, taken[SAMPLES * 99 // 100] * 1000


def main(nodes: int = NODES, per_node: int = PER_NODE) -> None:
    """Print the table."""
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    view = fill(nodes, per_node)
    filled_s = time.perf_counter() - started
    vms_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    view = add_storage(view, nodes, per_node)
    stored_s = time.perf_counter() - started
    after_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    total = nodes * per_node
    chance = random.Random(7)

    def page() -> object:
        return views.page(view, chance.randrange(total), 100)

    def one() -> object:
        vm_id = VmId(fleet.vm_id(chance.randrange(total)))
        return view.vms[vm_id], views.stats_of(view, vm_id)

    def change() -> object:
        vm = chance.randrange(total)
        said = documents(vm, vm // per_node, VmState.PAUSED)
        node_id = fleet.node_id(vm // per_node)
        return apply.set_documents(view, node_id, said)

    def rename() -> object:
        vm = chance.randrange(total)
        body = reading.encode_body(
            wire.to_json(fleet.vm(vm, spec=replace(fleet.spec(vm), name="renamed")))
        )
        said = [Said(Kind.VM, fleet.vm_id(vm), body)]
        return apply.set_documents(view, fleet.node_id(vm // per_node), said)

    def disk_page() -> object:
        start = chance.randrange(len(view.disk_order))
        shown = view.disk_order[start : start + 100]
        return [view.disks[disk_id] for _, disk_id in shown]

    def disk_change() -> object:
        disk = chance.randrange(total * DISKS_PER_VM)
        pool = disk // (POOL_NODES * per_node * DISKS_PER_VM)
        said = fleet.said(pool_disk(disk, pool, allocated_bytes=chance.getrandbits(30)))
        return apply.set_documents(view, fleet.node_id(pool * POOL_NODES), said)

    def domain_check() -> object:
        number = chance.randrange(nodes)
        pool = number // POOL_NODES
        said = fleet.storage_domain(
            number,
            pool * DOMAINS,
            pool=fleet.pool_id(pool),
            latency_s=chance.random(),
        )
        return apply.set_documents(view, fleet.node_id(number), fleet.said(said))

    bodies = [stats_body(number, per_node) for number in range(min(nodes, 200))]

    def push_figures() -> object:
        number = chance.randrange(len(bodies))
        return take(view, number, bodies[number])

    print(f"{nodes} nodes, {total} VMs, told in {filled_s:.1f} s")
    disks = len(view.disks)
    print(f"{len(view.pools)} pools, {disks} disks, told in {stored_s:.1f} s")
    print(f"memory of nodes and VMs   {(vms_kib - before_kib) * 1024 / MiB:8.0f} MiB")
    print(f"memory of pools and disks {(after_kib - vms_kib) * 1024 / MiB:8.0f} MiB")
    for label, action in (
        ("a page of 100 VMs", page),
        ("one VM with figures", one),
        ("a VM changes", change),
        ("a VM gets a name", rename),
        ("a page of 100 disks", disk_page),
        ("a disk changes", disk_change),
        ("a health check is told", domain_check),
        ("figures of a node", push_figures),
    ):
        median, worst = percentile_ms(action)
        print(f"{label:24}  p50 {median:8.3f} ms   p99 {worst:8.3f} ms")
        if action is push_figures:
            share = median / 1000 * nodes / STATS_EVERY_S
            print(f"{'all figures, of a core':24}  {share:12.1%}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
