"""What an agent has of VMs, on a node whose storage is real and hypervisor a fake."""

import grp
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from node import jobs
from node.clock import SystemClock
from node.config import Config
from node.guest import facts
from node.model.ids import DiskId, SnapshotId
from node.model.job import ENDED, Job, JobState
from node.model.requests import StopManner, StopVm
from node.model.vm import Vm
from node.storage import images
from node.vm.lifecycle import Lifecycle
from node.vm.snapshotting import Snapshotter
from tests.contract import disks
from tests.fakes.hooks import FakeHooks
from tests.fakes.hypervisor import FakeHypervisor
from tests.unit.node.storage.pools.nodes import Node, Nodes
from tests.unit.node.vm.examples import HOST, VM_ID

ROOT, DATA = (DiskId(f"d15c0000-0000-4000-8000-00000000000{n}") for n in (1, 2))
S1, S2 = (SnapshotId(f"5a450000-0000-4000-8000-00000000000{n}") for n in (1, 2))
WAIT_S = 30.0


def of_jobs(strike: Callable[[], None]) -> Callable[[], None]:
    """Return what strikes calls of jobs alone, and not those of who looks on."""

    def on_call() -> None:
        if threading.current_thread().name.startswith("job-"):
            strike()

    return on_call


class VmAgent:
    """The part for VMs, which starts again with its node; the hypervisor goes on."""

    nodes: Nodes
    node: Node
    vms: Lifecycle
    snapshots: Snapshotter

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hypervisor = FakeHypervisor()
        self.hypervisor.on_merged = disks.commit_live

    def begin(self, node: Node) -> Mapping[str, jobs.Handler]:
        """Start what the agent has of VMs."""
        self.node = node
        node.guard.programs.update(disks.programs(node.guard))
        self.hypervisor.on_call = node.guard.pass_call
        logs = self.folder / "logs"
        logs.mkdir(exist_ok=True)
        self.vms = Lifecycle(
            self.hypervisor,
            node.store,
            node.jobs,
            SystemClock(),
            Config(
                state_folder=str(self.folder),
                qemu_group=grp.getgrgid(os.getgid()).gr_name,
                guest_wait_s=3600,
            ),
            lambda: replace(HOST, node_id=node.node_id),
            images.list_images,
            facts.GuestPoller,
            node.volumes,
            FakeHooks(),
            logs,
        )
        self.snapshots = self.vms.snapshotter(node.volumes, node.store)
        self.vms.run()
        assert self.vms.wait_surveyed(WAIT_S)
        return {**self.vms.job_handlers(), **self.snapshots.job_handlers()}

    def restart(self) -> None:
        """Stop the agent and start it again; guest and storage process go on."""
        self.node.jobs.stop(WAIT_S)
        self.vms.close()
        self.node = self.nodes.restart(self.node)

    def end_of(self, job: Job) -> Job:
        ended = self.node.jobs.get(job.job_id, WAIT_S)
        assert ended.state in ENDED, ended
        return ended

    def done(self, job: Job) -> Job:
        ended = self.end_of(job)
        assert ended.state is JobState.DONE, ended.error
        return ended

    def stop(self) -> None:
        self.done(self.vms.stop(VM_ID, StopVm(manner=StopManner.FORCE)))

    @property
    def vm(self) -> Vm:
        """Return the definition as it lies on the storage."""
        found = self.node.volumes.find(VM_ID)
        assert found is not None
        return found
