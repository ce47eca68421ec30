"""Listen to a node while a VM is made, started, paused and resumed.

Runs inside a host of the lab; `tests.scale.record` starts it and keeps what it
prints: the documents and events, with marks for what differs between nodes.
"""

import json
import sys
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from node import wire
from node.http.client import NodeClient, UnixTransport
from node.model.event import Event
from node.model.feed import Document, Kind
from node.model.ids import CorrelationId, DiskId, NicId, VmId
from node.model.job import Job
from node.model.requests import ActOnVm, Changes, CreateVm, StartVm
from node.model.stats import Stats
from node.model.vm import Disk, Nic, VmEntry, VmSpec
from node.units import MiB
from node.wire import Json
from tests.scale import daemon, samples, start_cost

_GUEST_S: Final = 180.0  # an emulated guest boots, on a machine that is busy
_STATS_S: Final = 40.0  # two samples: rates need both
_CALM_S: Final = 3.0
_ROUNDS_MAX: Final = 20
_IMAGE: Final = "lab-guest"
_SPEC: Final = VmSpec(
    VmId("0b5e24ee-9c1d-4f6a-8b52-0d3c5a6f7e81"),
    "recorded-vm",
    128 * MiB,
    disks=(
        Disk(
            DiskId("1d0f3c52-77a9-4ac4-9a3e-5b8f2e6c4d10"),
            "disk1",
            0,
            _IMAGE,
            is_bootable=True,
        ),
    ),
    nics=(
        Nic(
            NicId("2e7a9b64-10c8-4d5b-8f47-6c9a3b1d8e22"),
            "nic1",
            "56:6f:1a:c0:ff:ee",
            "ovirtmgmt",
        ),
    ),
)


def record(client: NodeClient, origin: str) -> Json:
    """Return what the node said."""
    client.vm_create(CreateVm(_SPEC))
    start_cost.finish(client, client.vm_start(_SPEC.vm_id, StartVm()))
    entry = daemon.wait("the guest's word", lambda: _with_guest(client), _GUEST_S)
    stats = daemon.wait("figures of the VM", lambda: _with_rates(client), _STATS_S)
    names = _names(client, entry)
    steady = _settled(client)
    act = ActOnVm(correlation_id=CorrelationId(str(uuid.uuid4())))
    paused = _change(client, names, lambda: client.vm_pause(_SPEC.vm_id, act))
    resumed = _change(client, names, lambda: client.vm_resume(_SPEC.vm_id, act))
    node_kinds = (Kind.NODE, Kind.DEVICE, Kind.IMAGE)
    vm_kinds = (Kind.VM, Kind.VM_RUN)
    vm_stats = {**wire.to_json(stats.vms[0]), "cpu_percent": "@cpu_percent@"}
    node_stats = {**wire.to_json(stats.node), "cpu_percent": "@cpu_percent@"}
    return {
        "origin": origin,
        "node": _documents(steady.changed, node_kinds, names),
        "vm": _documents(steady.changed, vm_kinds, names),
        "pause": paused,
        "resume": resumed,
        "node_stats": samples.mark(node_stats, names),
        "vm_stats": samples.mark(vm_stats, names),
    }


def _with_guest(client: NodeClient) -> VmEntry | None:
    entry = client.vm_show(_SPEC.vm_id)
    return entry if entry.run.guest and entry.run.guest.addresses else None


def _with_rates(client: NodeClient) -> Stats | None:
    stats = client.stats()
    return stats if any(each.cpu_percent > 0 for each in stats.vms) else None


def _names(client: NodeClient, entry: VmEntry) -> Mapping[str, str]:
    """Return what each mark stands for on this node."""
    facts, spec, guest = client.node(), entry.vm.spec, entry.run.guest
    assert guest is not None, "it was waited for"
    return {
        "node_id": facts.node_id,
        "node_name": facts.name,
        "node_address": facts.address,
        "boot_id": facts.boot_id,
        "vm_id": spec.vm_id,
        "vm_name": spec.name,
        "disk_id": spec.disks[0].disk_id,
        "nic_id": spec.nics[0].nic_id,
        "mac": spec.nics[0].mac,
        "vm_address": guest.addresses[0],
    }


def _settled(client: NodeClient) -> Changes:
    """Return all documents once none has changed for a while."""
    changes = client.changes(0)
    for _ in range(_ROUNDS_MAX):
        newer = client.changes(changes.rev, _CALM_S)
        if newer.rev == changes.rev:
            return client.changes(0)
        changes = newer
    raise daemon.StepFailed("the node's documents never rest")


def _change(
    client: NodeClient, names: Mapping[str, str], act: Callable[[], Job]
) -> Json:
    """Return the documents and events of one act, with marks."""
    rev, number = _settled(client).rev, client.events(0).last
    job = start_cost.finish(client, act())
    _settled(client)
    marks = {**names, "job_id": job.job_id}
    if job.correlation_id is not None:
        marks["correlation_id"] = job.correlation_id
    return {
        "documents": _documents(client.changes(rev).changed, tuple(Kind), marks),
        "events": [_event(each, marks) for each in client.events(number).events],
    }


def _documents(
    documents: Iterable[Document], kinds: Iterable[str], marks: Mapping[str, str]
) -> Json:
    wanted = frozenset(kinds)
    return [
        samples.mark({"kind": each.kind, "id": each.id, "body": dict(each.body)}, marks)
        for each in documents
        if each.kind in wanted
    ]


def _event(event: Event, marks: Mapping[str, str]) -> Json:
    own = {"number": "@number@", "at": "@at@", "boot_id": "@boot_id@"}
    return samples.mark({**wire.to_json(event), **own}, marks)


def main() -> None:
    """Record the agent of this host; the argument says where that is."""
    client = NodeClient(UnixTransport(start_cost.SOCKET))
    start_cost.wait_ready(client)
    print(json.dumps(record(client, sys.argv[1]), indent=1))


if __name__ == "__main__":
    main()
