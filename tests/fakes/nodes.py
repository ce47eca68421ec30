"""Nodes that an aggregator can order things of, and that count what they did.

A node does a job of one id once, and makes a VM of one id once, as real ones.
A VM that was deleted is never made again. What a verb of storage does to a thing
of one id is done once, by whichever node: it lies on the storage.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from aggregator.control import execute
from aggregator.control.actions import Action
from aggregator.control.execute import Done, NodeClient
from aggregator.federation.view import NodeView, View
from node.errors import Error, NotFound, revive
from node.http.client import NodeUnreachable
from node.model import requests
from node.model.ids import JobId, NodeId, VmId
from node.model.job import ErrorReport, Job, JobState
from node.model.verb import Verb
from node.model.vm import Vm, VmEntry, VmRun, VmState
from tests.fakes import fleet

T = TypeVar("T")


class FakeNode:
    """Acts as it is told, and counts.

    `refusal` is raised instead of acting, `refuses` tells what of storage it refuses;
    `is_deaf` loses the request, `is_mute` acts and loses the reply.
    """

    def __init__(self, node_id: NodeId) -> None:
        self.node_id = node_id
        self.refusal: Error | None = None
        self.refuses: Callable[[Any], Error | None] = lambda _request: None
        self.is_deaf = False
        self.is_mute = False
        self.job_state = JobState.RUNNING
        self.jobs: dict[JobId, Job] = {}
        self.vms: dict[VmId, Vm] = {}
        self.gone: set[VmId] = set()
        self.asked: list[str] = []
        self.started: list[Vm | None] = []  # the definitions that came with a start
        self.leaving: list[bool] = []  # whether disks may stay of a VM that is deleted
        self.did: Counter[str] = Counter()  # how often something was really done
        self.storage: set[str] = set()  # what was done there; shared by some nodes
        self.requests: list[tuple[str, str, Any]] = []  # of storage
        self.job_error: ErrorReport | None = None  # how jobs of storage end
        self.job_result = ""  # what they say when they are done
        # What verbs answer that are no jobs, by its kind.
        self.replies: list[object] = [fleet.pool(1)]

    def vm_create(self, request: requests.CreateVm) -> VmEntry:
        self._hear("vm_create")
        vm_id = request.spec.vm_id
        if vm_id in self.gone:
            raise revive("conflict", "vm_gone", f"VM {vm_id} was deleted", "")
        if vm_id not in self.vms:
            self.did[f"vm_create {vm_id}"] += 1
            self.vms[vm_id] = Vm(request.spec, 1, fleet.AT)
        self._answer()
        run = VmRun(vm_id, self.node_id, VmState.DOWN, fleet.AT)
        return VmEntry(self.vms[vm_id], run)

    def vm_start(self, vm_id: VmId, request: requests.StartVm) -> Job:
        self.started.append(request.vm)
        return self._job("vm_start", vm_id, request.job_id)

    def vm_stop(self, vm_id: VmId, request: requests.StopVm) -> Job:
        return self._job(f"vm_stop {request.manner}", vm_id, request.job_id)

    def vm_pause(self, vm_id: VmId, request: requests.ActOnVm) -> Job:
        return self._job("vm_pause", vm_id, request.job_id)

    def vm_resume(self, vm_id: VmId, request: requests.ActOnVm) -> Job:
        return self._job("vm_resume", vm_id, request.job_id)

    def vm_reset(self, vm_id: VmId, request: requests.ActOnVm) -> Job:
        return self._job("vm_reset", vm_id, request.job_id)

    def vm_delete(self, vm_id: VmId, request: requests.DeleteVm) -> Job:
        self.leaving.append(request.may_leave_disks)
        return self._job("vm_delete", vm_id, request.job_id)

    def vm_attach_disk(self, vm_id: VmId, request: requests.AttachDisk) -> Job:
        verb = f"vm_attach_disk {request.disk.disk_id}"
        return self._job(verb, vm_id, request.job_id)

    def vm_detach_disk(self, vm_id: VmId, request: requests.DetachDisk) -> Job:
        verb = f"vm_detach_disk {request.disk_id}"
        return self._job(verb, vm_id, request.job_id)

    def vm_resize_disk(self, vm_id: VmId, request: requests.ResizeVmDisk) -> Job:
        verb = f"vm_resize_disk {request.disk_id} {request.size_bytes}"
        return self._job(verb, vm_id, request.job_id)

    def call(
        self,
        verb: Verb,
        kind: type[T],
        request: Any = None,
        *,
        query: Mapping[str, object] | None = None,
        wait_s: float = 0.0,
        **path: str,
    ) -> T:
        self._hear(verb.name)
        refusal = self.refuses(request)
        if refusal is not None:
            raise refusal
        object_id = next(iter(path.values()), "") or _named(request)
        self.requests.append((verb.name, object_id, request))
        done = f"{verb.name} {object_id}"
        job_id = JobId(getattr(request, "job_id", ""))
        if job_id not in self.jobs:
            if done not in self.storage and self.job_error is None:
                self.did[done] += 1
                self.storage.add(done)
            state = JobState.FAILED if self.job_error else self.job_state
            self.jobs[job_id] = Job(
                job_id, verb.name, "pool", object_id, state, fleet.AT
            )
            if state is JobState.DONE:
                done_job = replace(self.jobs[job_id], result=self.job_result)
                self.jobs[job_id] = done_job
            if self.job_error is not None:
                self.jobs[job_id] = replace(
                    self.jobs[job_id], error=self.job_error, ended_at=fleet.AT
                )
        self._answer()
        replies = (self.jobs[job_id], *self.replies)
        return next(each for each in replies if isinstance(each, kind))

    def job_show(self, job_id: JobId, wait_s: float = 0.0) -> Job:
        self._hear("job_show")
        if job_id not in self.jobs:
            raise NotFound(f"there is no job {job_id}")
        self._answer()
        return self.jobs[job_id]

    def delete(self, vm_id: VmId) -> None:
        """Delete a VM for somebody else, such as a person at the node."""
        del self.vms[vm_id]
        self.gone.add(vm_id)

    def _job(self, verb: str, vm_id: VmId, job_id: JobId | None) -> Job:
        self._hear(verb)
        assert job_id is not None, "the aggregator chooses the id"
        if job_id not in self.jobs:
            self.did[f"{verb} {vm_id}"] += 1
            self.jobs[job_id] = Job(
                job_id, verb.split()[0], "vm", vm_id, self.job_state, fleet.AT
            )
        self._answer()
        return self.jobs[job_id]

    def _hear(self, verb: str) -> None:
        self.asked.append(verb)
        if self.is_deaf:
            raise NodeUnreachable(f"{self.node_id} cannot be reached")
        if self.refusal is not None:
            raise self.refusal

    def _answer(self) -> None:
        if self.is_mute:
            raise NodeUnreachable(f"{self.node_id} broke off")


def _named(request: Any) -> str:
    """Return the id of what a request makes."""
    for name in ("disk_id", "storage_domain_id", "pool_id"):
        if found := getattr(request, name, None):
            return str(found)
    return ""


class InlineExecutor:
    """Carries actions at once, on the caller's thread."""

    def __init__(self, connect: Callable[[NodeView], NodeClient]) -> None:
        self._connect = connect

    def send(self, node: NodeView, action: Action, done: Done) -> None:
        done(execute.send(self._connect(node), node, action))

    def ask_job(self, node: NodeView, job_id: JobId, done: Done) -> None:
        done(execute.ask_job(self._connect(node), job_id))


class FakeViewer:
    """Shows the View that the test puts there."""

    def __init__(self, view: View) -> None:
        self.view = view

    def wait(self, since_revision: int, timeout_s: float) -> View:
        return self.view
