"""Set a fleet's pool up for the soak of its storage, and give orders on it.

Two storage domains in one folder that all hosts mount, a disk full of chance, a VM
whose guest writes stamps, and one that is down, with chance as well.

    <shared>/soak/alpha|beta/<storage domain id>/…
"""

import json
import random
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from aggregator.api import storage_verbs as verbs
from aggregator.api.model import OrderLine
from aggregator.api.storage_model import NewDisk, NewStorageDomain, PoolLine
from aggregator.cli.client import FleetClient
from node.errors import NotFound, Unavailable
from node.model.ids import DiskId, NodeId, StorageDomainId
from node.model.job import ENDED, JobState
from node.model.storage import Connection, DomainState, DomainType, PoolState
from node.model.storage_requests import ActOnDisk, CopyDisk, MoveDisk, ResizeDisk
from node.units import MiB
from tests.lab import command, fleet, members, soak_pool_checks, waiting
from tests.lab.agents import Agent, Refused
from tests.lab.lab import Lab
from tests.lab.soak_pool_checks import Start
from tests.lab.soak_pool_plan import DOMAINS, Task, Work

FOLDER: Final = "soak"
MOUNT: Final = f"{members.SHARED_STORAGE}/{FOLDER}"
ORDER_ENDS_S: Final = 240.0
_SLOTS: Final = 256  # for as many boots of the guest
_DATA_BYTES: Final = _SLOTS * soak_pool_checks.SLOT_SECTORS * soak_pool_checks.SECTOR
_OWN_BYTES, _GROWN_BYTES = 64 * MiB, 96 * MiB
_IMAGE: Final = "/var/lib/skerry/images/lab-guest.qcow2"
_READY_S: Final = 150.0  # three hosts join, or a guest boots, on a busy machine
_POLL_S: Final = 5.0


@dataclass(slots=True)
class Stage:
    """A fleet with a pool, and what was begun on it."""

    fleet: fleet.Fleet
    client: FleetClient
    domain_ids: dict[str, StorageDomainId] = field(default_factory=dict)
    fixed: DiskId = field(default_factory=lambda: DiskId(str(uuid.uuid4())))
    fixed_bytes: int = 64 * MiB
    content: bytes = b""  # of the fixed disk
    home: str = "alpha"  # the storage domain of the VM
    vm: str = field(default_factory=lambda: str(uuid.uuid4()))
    root: str = field(default_factory=lambda: str(uuid.uuid4()))
    data: str = field(default_factory=lambda: str(uuid.uuid4()))
    still: str = field(default_factory=lambda: str(uuid.uuid4()))  # it never runs
    still_disk: str = field(default_factory=lambda: str(uuid.uuid4()))
    has_vm: bool = False
    starts: list[Start] = field(default_factory=list)
    slots: int = 0  # that guests have had

    @property
    def lab(self) -> Lab:
        return self.fleet.lab

    @property
    def hosts(self) -> list[str]:
        return [host.name for host in self.fleet.hosts()]

    def agent(self, name: str) -> Agent:
        return Agent(self.lab.member(name))

    def make(self) -> None:
        """Make the pool, the disk and the VMs."""
        self.make_disk()
        manager = self.manager()
        self.agent(manager).call("POST", "/vms", {"spec": self._spec()})
        (root,) = self.files(self.root)
        argv = ["qemu-img", "convert", "-n", "-O", "raw", _IMAGE, self.inside(root)]
        assert self.lab.member(manager).exec(argv, timeout_s=60.0).returncode == 0
        disk = self._disk(self.still_disk, self.fixed_bytes, "qcow2", self._home())
        still = self._spec() | {"vm_id": self.still, "name": "still", "disks": [disk]}
        self.agent(manager).call("POST", "/vms", {"spec": still})
        self._fill(self.still_disk)
        self.has_vm = True

    def make_disk(self) -> None:
        """Make the pool, and the disk of chance on it."""
        # That of an earlier stage is told of until all hosts have come back.
        waiting.until("an end of the last pool", self._is_bare, timeout_s=_READY_S)
        for name in DOMAINS:
            self._make_domain(name)
            waiting.until(f"{name} everywhere", self.is_pool_well, timeout_s=_READY_S)
        place = self.domain_ids["alpha"]
        new = NewDisk("fixed", place, self.fixed_bytes, self.fixed)
        self.finish(self.client.disk_act(verbs.DISK_CREATE, new))
        chance = random.Random(self.fixed)
        pieces = range(0, self.fixed_bytes, MiB)
        self.content = b"".join(chance.randbytes(MiB) for _ in pieces)
        self._fill(self.fixed)

    def remove(self) -> None:
        """Let all hosts forget the pool, and remove its files."""
        self.fleet.forget_storage(self.client)
        self.lab.member("h1").exec(["rm", "-rf", MOUNT])

    def pool(self) -> PoolLine:
        for pool in self._pools():
            return pool
        raise NotFound("there is no shared pool")

    def _is_bare(self) -> bool:
        orders = self.client.order_list().orders
        return not self._pools() and all(each.state in ENDED for each in orders)

    def _pools(self) -> list[PoolLine]:
        return [each for each in self.client.pool_list().pools if not each.is_local]

    def manager(self) -> str:
        return self.pool().manager

    def is_pool_well(self) -> bool:
        """Tell whether all hosts use all storage domains, and one manages."""
        pool = self.pool()
        lines = self.client.storage_domain_list().storage_domains
        ours = [line for line in lines if line.name in self.domain_ids]
        return (
            (pool.state, pool.stale) == (PoolState.UP, None)
            and len(ours) == len(self.domain_ids)
            and all(line.state is DomainState.ACTIVE for line in ours)
            and all(line.nodes_well == len(self.hosts) for line in ours)
            and all(map(self._is_joined, self.domain_ids.values()))
        )

    def _is_joined(self, storage_domain_id: StorageDomainId) -> bool:
        """Tell whether all hosts are in a storage domain's lockspace."""
        sights = self.client.storage_domain_show(storage_domain_id).sights
        return all(sight.host_id is not None for sight in sights)

    def ask(self, task: Task) -> OrderLine:
        """Order what a task is of a disk; its source is the fixed one."""
        disk_id = task.disk_id
        assert disk_id is not None, "what is of the VM is asked of its host"
        match task.work:
            case Work.CREATE:
                place = self.domain_ids[task.place]
                new = NewDisk(disk_id[:8], place, _OWN_BYTES, disk_id)
                return self.client.disk_act(verbs.DISK_CREATE, new)
            case Work.RESIZE:
                request = ResizeDisk(_GROWN_BYTES)
                return self.client.disk_act(verbs.DISK_RESIZE, request, disk_id)
            case Work.COPY:
                copy = CopyDisk(disk_id, self.domain_ids[task.place], disk_id[:8])
                return self.client.disk_act(verbs.DISK_COPY, copy, self.fixed)
            case Work.MOVE:
                move = MoveDisk(self._elsewhere(disk_id))
                return self.client.disk_act(verbs.DISK_MOVE, move, disk_id)
        return self.client.disk_act(verbs.DISK_DELETE, ActOnDisk(), disk_id)

    def _elsewhere(self, disk_id: DiskId) -> StorageDomainId:
        """Return the storage domain that a disk does not lie on, as told.

        In the middle of a move it is told on both, until the manager is heard again.
        """

        def left() -> list[StorageDomainId]:
            here = self.client.disk_show(disk_id).disk.storage_domain_ids
            return [each for each in self.domain_ids.values() if each not in here]

        self.client.disk_show(disk_id)  # one that is not there is not waited for
        what = f"disk {disk_id} in one place"
        return waiting.until(what, left, timeout_s=_READY_S)[0]

    def finish(self, line: OrderLine, limit_s: float = ORDER_ENDS_S) -> OrderLine:
        """Return an order at its end, or as it is when nobody waits any more."""
        deadline = time.monotonic() + limit_s
        while line.state not in ENDED and time.monotonic() < deadline:
            try:
                line = self.client.order_show(line.order_id, _POLL_S)
            except Unavailable:
                time.sleep(1.0)
        return line

    def runner(self) -> str:
        """Return the host whose agent says that it runs the VM; empty: none."""
        return next(
            (name for name, state in self.runs().items() if state != "down"), ""
        )

    def runs(self) -> dict[str, str]:
        """Return what each agent says of the VM; Refused if one does not answer."""
        found = {}
        for name in self.hosts:
            try:
                found[name] = str(
                    self.agent(name).get(f"/vms/{self.vm}")["run"]["state"]
                )
            except Refused as error:
                if error.args[0] != "vm_unknown":
                    raise
                found[name] = "down"
        return found

    def start_vm(self, name: str) -> None:
        """Start the VM, and let its guest write into a slot of its own; Refused."""
        at_ns = time.monotonic_ns()
        self.agent(name).do(f"/vms/{self.vm}/start")
        self.starts.append(Start(name, at_ns))
        waiting.until(
            "the guest's agent", lambda: self.offer_slot(name), timeout_s=_READY_S
        )
        waiting.until("stamps", self.is_slot_taken, timeout_s=_READY_S)

    def offer_slot(self, name: str) -> bool:
        """Let a guest that writes nothing yet write; False: it does not answer."""
        assert self.slots < _SLOTS, "the data disk is full: begin with a new stage"
        agent = self.agent(name)
        run = agent.get(f"/vms/{self.vm}")["run"]
        script = soak_pool_checks.script(int(run["lease_version"]), self.slots)
        return agent.run_in_guest(self.vm, script)

    def is_slot_taken(self) -> bool:
        """Tell whether a guest writes into the slot that was offered."""
        is_taken = self.slots in self.acks()
        self.slots += is_taken
        return is_taken

    def stop_vm(self) -> None:
        if name := self.runner():
            self.agent(name).do(f"/vms/{self.vm}/stop", {"manner": "force"})

    def acks(self) -> dict[int, soak_pool_checks.Ack]:
        """Return what guests called written, by slot."""
        logs: list[str] = []
        for host in self.fleet.hosts():
            folder = host.directory / "var.u/lib/skerry/serial"
            logs += [path.read_text(errors="replace") for path in self._serials(folder)]
        # A guest that was suspended goes on in its slot on another host.
        return soak_pool_checks.acks("\n".join(logs))

    def image(self, disk_id: str) -> Path:
        """Return a disk's folder, as the machine sees it."""
        (found,) = self.root_folder().glob(f"*/*/images/{disk_id}")
        return found

    def root_folder(self) -> Path:
        return self.lab.plan.shared / FOLDER

    def inside(self, path: Path) -> str:
        """Return where a host finds a file of the shared storage."""
        return f"{MOUNT}/{path.relative_to(self.root_folder())}"

    def _serials(self, folder: Path) -> Iterator[Path]:
        return folder.glob(f"{self.vm}.log*")

    def files(self, disk_id: str) -> list[Path]:
        """Return the files of a disk's volumes, as the machine sees them."""
        return [path for path in self.image(disk_id).iterdir() if "." not in path.name]

    def _make_domain(self, name: str) -> None:
        path = f"{MOUNT}/{name}"
        words = ["install", "-d", "-o", "36", "-g", "36", "-m", "0770", MOUNT, path]
        assert self.lab.member("h1").exec(words).returncode == 0
        chosen = StorageDomainId(str(uuid.uuid4()))
        node_id = NodeId(self.lab.member("h1").place.node_id)
        connection = Connection(DomainType.POSIXFS, path)
        request = NewStorageDomain(name, connection, chosen, node_id=node_id)
        act = self.client.storage_domain_act
        line = self.finish(act(verbs.STORAGE_DOMAIN_CREATE, request), _READY_S)
        assert line.state is JobState.DONE, line
        self.domain_ids[name] = chosen

    def _fill(self, disk_id: str) -> None:
        """Put the chance on a disk; the witness is not asked about it."""
        (path,) = self.files(disk_id)
        source = self.lab.plan.directory / "members" / "fixed.raw"
        source.write_bytes(self.content)
        argv = ["qemu-img", "convert", "-n", "-f", "raw", "-O", "qcow2"]
        command.check([*argv, str(source), str(path)], timeout_s=60.0)
        source.unlink()

    def _spec(self) -> dict[str, Any]:
        place = self._home()
        return {
            "vm_id": self.vm,
            "name": "counter",
            "memory_bytes": 128 * MiB,
            "pool_id": self.pool().pool_id,
            "disks": [
                self._disk(self.root, 64 * MiB, "raw", place) | {"is_bootable": True},
                self._disk(self.data, _DATA_BYTES, "qcow2", place),
            ],
        }

    def _home(self) -> StorageDomainId:
        return self.domain_ids[self.home]

    def _disk(self, disk_id: str, size: int, kind: str, place: str) -> dict[str, Any]:
        return {
            "disk_id": disk_id,
            "name": disk_id[:8],
            "size_bytes": size,
            "storage_domain_id": place,
            "disk_format": kind,
        }


def gather(one: fleet.Fleet) -> Stage:
    """Return a stage with all hosts admitted, and nothing on it yet."""
    one.initialise()
    client = one.log_in()
    if not waiting.until("an answer", client.node_list).nodes:
        one.wait_candidates(client)
        one.admit_all(client)
    waiting.until("all admitted", lambda: one.admit_missing(client))
    one.wait_up(client)
    return Stage(one, client)


def read_volumes(image: Path) -> list[soak_pool_checks.Volume]:
    """Return the volumes of a disk, as their metadata and qemu-img tell them."""
    return [_read_volume(path) for path in sorted(image.glob("*.meta"))]


def _read_volume(meta: Path) -> soak_pool_checks.Volume:
    lines = meta.read_text().splitlines()
    told = dict(line.split("=", 1) for line in lines if "=" in line)
    path = meta.with_suffix("")
    kind = {"COW": "qcow2", "RAW": "raw"}[told["FORMAT"]]
    argv = ["qemu-img", "info", "-U", "-f", kind, "--output=json", str(path)]
    info = json.loads(command.check(argv))
    return soak_pool_checks.Volume(
        volume_id=path.name,
        parent_id=told["PUUID"],
        role=told["VOLTYPE"],
        legality=told["LEGALITY"],
        backing=info.get("backing-filename", ""),
    )
