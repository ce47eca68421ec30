"""Look whether a pool whose storage was broken is whole, and what it lost."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from aggregator.api import verbs
from aggregator.api.model import EventLine, EventLines
from node.model.ids import DiskId
from node.model.job import ENDED
from tests.lab import (
    command,
    polling,
    soak_look,
    soak_pool_checks,
    soak_pool_stage,
    soak_pool_vms,
    witness,
)
from tests.lab.agents import Refused
from tests.lab.soak_pool_stage import Stage

_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_KEPT: Final = ("OVF_STORE",)  # disks of the storage domain's own, by description
_MANAGERS: Final = re.compile(r"/skerry/journals/|/master/vms/")
_EVENTS_MAX: Final = 1000
_SILENT_S: Final = 60.0  # it writes several times a second


def problems(stage: Stage) -> list[str]:
    """Return what is not (yet) as it must be when nobody breaks anything."""
    found = [*_members(stage), *_journals(stage)]
    if found:
        return found
    return [*_vm(stage), *_disks(stage), *_locks(stage), *_product_says(stage)]


def losses(stage: Stage) -> list[str]:
    """Return what is lost, or was written by two, since the stage was set."""
    return [
        *lost_stamps(stage),
        *_lost_content(stage),
        *_chains(stage),
        *_writers(stage),
    ]


def lost_stamps(stage: Stage) -> list[str]:
    """Return what the VM's guests called written, and is not on its disk."""
    if not stage.has_vm:
        return []
    used = stage.slots * soak_pool_checks.SLOT_SECTORS * soak_pool_checks.SECTOR
    acks = stage.acks().values()  # before the disk is read
    data = _content(stage, stage.data, used)
    return soak_pool_checks.lost_writes(data, acks)


def silence(stage: Stage) -> list[str]:
    """Return that the guest of a VM that runs acknowledges nothing any more.

    A guest that was to go on with its memory, and booted since there was none, begins
    to write here.
    """
    if not stage.has_vm or not (runner := stage.runner()):
        return []
    slot = stage.slots - 1
    before = stage.acks()[slot]

    def is_heard() -> bool:
        if stage.acks()[slot] != before or stage.is_slot_taken():
            return True
        stage.offer_slot(runner)
        return False

    if polling.until(is_heard, _SILENT_S, 1.0):
        return []
    return [f"the guest writes nothing for {_SILENT_S:.0f} s, after {before}"]


def alarms(stage: Stage) -> list[str]:
    """Return where nodes contradicted one another about the pool or its VM."""
    return [
        f"{event.at} {event.text}"
        for event in events(stage)
        if event.code in ("documents_conflict", "pool_maps_differ")
    ]


def events(stage: Stage) -> tuple[EventLine, ...]:
    """Return all events that the aggregator has, the oldest first."""
    found: list[EventLine] = []
    while True:
        since = found[-1].number if found else 0
        query = {"since": since, "max": _EVENTS_MAX}
        fresh = stage.client.call(verbs.EVENT_LIST, EventLines, query=query).events
        found += fresh
        if len(fresh) < _EVENTS_MAX:
            return tuple(found)


def terms(stage: Stage) -> list[EventLine]:
    """Return the events of nodes that became manager of the pool, in order."""
    pool = stage.pool().name
    told = [
        event
        for event in events(stage)
        if event.code == "spm_started" and event.fields.get("pool") == pool
    ]
    return sorted(told, key=lambda event: event.at)


def _members(stage: Stage) -> Iterator[str]:
    for line in stage.client.node_list().nodes:
        if line.state != "up":
            yield f"{line.name} is {line.state}"
    if not stage.is_pool_well():
        pool = stage.pool()
        yield f"the pool is {pool.state}, managed by {pool.manager or 'nobody'}"
    for order in stage.client.order_list().orders:
        if order.state not in ENDED:
            yield f"the order {order.verb} {order.name} is still open ({order.step})"


def _journals(stage: Stage) -> Iterator[str]:
    for path in stage.root_folder().glob("*/*/dom_md/skerry/journals/*"):
        yield f"the journal {path.name} is still there"


def _vm(stage: Stage) -> Iterator[str]:
    if not stage.has_vm:
        return
    runs = stage.runs()
    states = set(runs.values()) - {"down"}
    if states - {"up", "powering_up"}:
        yield f"the VM is {runs}"
    processes = [
        host
        for host, vm_id, _ in soak_look.qemu_processes(stage.lab)
        if vm_id == stage.vm
    ]
    if processes != [name for name, state in runs.items() if state != "down"]:
        yield f"QEMU runs on {processes}, agents say {runs}"
    if processes and soak_pool_vms.memory(stage) is not None:
        yield "the VM runs, and a memory is kept"


def _disks(stage: Stage) -> Iterator[str]:
    known = {disk.disk_id for disk in stage.client.disk_list().disks if disk.pool}
    there = [
        path.name
        for path in stage.root_folder().glob("*/*/images/*")
        if not _is_kept(path)
    ]
    if len(there) != len(set(there)):
        yield f"a disk lies on two storage domains: {sorted(there)}"
    local = {name for name in known if not _is_shared(stage, name)}
    yield from soak_pool_checks.left_over(there, known - local)


def _is_shared(stage: Stage, disk_id: DiskId) -> bool:
    """Tell whether a disk is told to lie on the soak's storage."""
    shown = stage.client.disk_show(disk_id)
    return bool(set(shown.disk.storage_domain_ids) & set(stage.domain_ids.values()))


def _is_kept(image: Path) -> bool:
    metas = [path.read_text() for path in image.glob("*.meta")]
    return any(word in meta for meta in metas for word in _KEPT)


def _locks(stage: Stage) -> Iterator[str]:
    words = ["sanlock", "client", "status"]
    told = {host.name: host.exec(words).stdout for host in stage.fleet.hosts()}
    runner = stage.runner() if stage.has_vm else ""
    yield from soak_pool_checks.locks_left(told, stage.vm, runner)


def _product_says(stage: Stage) -> Iterator[str]:
    agent = stage.agent(stage.manager())
    for name, storage_domain_id in stage.domain_ids.items():
        try:
            found = agent.get(f"/storage-domains/{storage_domain_id}/check")
        except Refused as error:
            yield f"{name} cannot be checked: {error}"
            continue
        for problem in found["problems"]:
            yield f"{name}: {problem['kind']}: {problem['explanation']}"


def _lost_content(stage: Stage) -> Iterator[str]:
    for disk_id in (stage.fixed, *([stage.still_disk] if stage.has_vm else [])):
        if _content(stage, disk_id, len(stage.content)) != stage.content:
            yield f"disk {disk_id} has another content"


def _content(stage: Stage, disk_id: str, size_bytes: int) -> bytes:
    """Return what a disk holds up to there, through its leaf."""
    image = stage.image(disk_id)
    backings = {each.backing for each in soak_pool_stage.read_volumes(image)}
    (leaf,) = [path for path in image.glob("*.meta") if path.stem not in backings]
    raw = stage.lab.plan.directory / "members" / "content.raw"
    argv = ["qemu-img", "convert", "-U", "-f", "qcow2", "-O", "raw"]
    try:
        command.check([*argv, str(leaf.with_suffix("")), str(raw)], timeout_s=60.0)
        with raw.open("rb") as file:
            return file.read(size_bytes)
    finally:
        raw.unlink(missing_ok=True)


def _chains(stage: Stage) -> Iterator[str]:
    for image in stage.root_folder().glob("*/*/images/*"):
        if not _UUID.fullmatch(image.name) or _is_kept(image):
            continue
        volumes = soak_pool_stage.read_volumes(image)
        for problem in soak_pool_checks.chain_problems(volumes):
            yield f"disk {image.name}: {problem}"


def _writers(stage: Stage) -> Iterator[str]:
    changes = witness.read(stage.lab.plan)
    begin = f"/{soak_pool_stage.FOLDER}/"
    ours = [change for change in changes if change.path.startswith(begin)]
    of_vm = [
        change
        for change in ours
        if f"/images/{stage.root}/" in change.path
        or f"/images/{stage.data}/" in change.path
    ]
    yield from soak_pool_checks.double_writers(of_vm, stage.starts)
    managers = [change for change in ours if _MANAGERS.search(change.path)]
    hosts = [str(event.fields["node"]) for event in terms(stage)]
    yield from soak_pool_checks.managers_out_of_turn(managers, hosts)
