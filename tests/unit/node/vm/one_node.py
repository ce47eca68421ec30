"""A node with a fake hypervisor, whose agent can be killed and started."""

import grp
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from node.clock import SystemClock
from node.config import Config
from node.guest import facts
from node.jobs import Jobs
from node.model.host import NodeFacts
from node.model.ids import VmId
from node.model.job import ENDED, Job, JobState
from node.model.requests import CreateVm, StartVm
from node.model.vm import VmRun, VmState
from node.storage import images
from node.store import Store
from node.vm.lifecycle import (
    Lifecycle,
)
from tests.fakes.hooks import FakeHooks
from tests.fakes.hypervisor import FakeHypervisor
from tests.fakes.volumes import FakeVolumes
from tests.unit.node.vm.examples import (
    HOST,
    NODE_ID,
    SPEC,
    VM_ID,
)

_GROUP = grp.getgrgid(os.getgid()).gr_name
WAIT_S = 20.0


class OneNode:
    """A node whose agent can be killed and started; its hypervisor lives on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hypervisor = FakeHypervisor()
        self.volumes = FakeVolumes(NODE_ID, is_shared=False)
        self.hooks = FakeHooks()
        self.pool = self.volumes.storage
        self.host: NodeFacts = HOST
        self.logs = folder / "logs"
        self.logs.mkdir()
        self.start_agent()

    def start_agent(self, *, has_workers: bool = True) -> None:
        """Start an agent; without workers, its jobs wait as if it was killed."""
        clock = SystemClock()
        self.store = Store(self.folder / "store.db", clock, NODE_ID, self.host.boot_id)
        self.jobs = Jobs(self.store, clock)
        self.vms = Lifecycle(
            self.hypervisor,
            self.store,
            self.jobs,
            clock,
            Config(state_folder=str(self.folder), qemu_group=_GROUP, guest_wait_s=30),
            lambda: self.host,
            images.list_images,
            facts.GuestPoller,
            self.volumes,
            self.hooks,
            self.logs,
        )
        self.jobs.recover(self.vms.job_handlers())
        self.vms.run()
        if has_workers:
            self.jobs.start()
        assert self.vms.wait_surveyed(WAIT_S)

    def stop_agent(self) -> None:
        self.jobs.stop(WAIT_S)
        self.vms.close()
        self.store.close()

    def restart_agent(self) -> None:
        self.stop_agent()
        self.start_agent()

    def create(self, **fields: Any) -> None:
        self.vms.create(CreateVm(replace(SPEC, **fields)))

    def do(self, verb: str, request: Any, vm_id: VmId = VM_ID) -> Job:
        """Call a verb and return its job, ended."""
        return self.end_of(getattr(self.vms, verb)(vm_id, request))

    def end_of(self, job: Job) -> Job:
        ended = self.jobs.get(job.job_id, WAIT_S)
        assert ended.state in ENDED, f"{ended} does not end"
        return ended

    def start(self, **fields: Any) -> None:
        assert self.do("start", StartVm(**fields)).state is JobState.DONE

    @property
    def run(self) -> VmRun:
        return self.vms.show(VM_ID).run

    def await_state(self, state: VmState) -> VmRun:
        """Wait, revision by revision, until the VM is in a state."""
        for _ in range(100):
            rev = self.store.rev
            if self.run.state is state:
                return self.run
            self.store.wait(rev, WAIT_S / 10)
        raise AssertionError(f"it is {self.run}, not {state}")

    def await_change(self, run: VmRun) -> VmRun:
        """Wait, revision by revision, until the VM is not as it was."""
        for _ in range(100):
            rev = self.store.rev
            if self.run != run:
                return self.run
            self.store.wait(rev, WAIT_S / 10)
        raise AssertionError(f"it stays {run}")

    def await_step(self, job: Job, step: str) -> None:
        """Wait, revision by revision, until a job says that it does something."""
        for _ in range(10):
            rev = self.store.rev
            seen = self.jobs.get(job.job_id)
            if seen.step == step or seen.state in ENDED:
                break
            self.store.wait(rev, WAIT_S / 10)
        assert seen.step == step

    def codes(self) -> list[str]:
        return [event.code for event in self.store.events(0).events]
