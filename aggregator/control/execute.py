"""Carry actions to nodes: bounded workers, few at a time to one node.

What comes back is an Outcome. A node that answered with an error has refused;
one that did not answer is silent, and whether it acted is not known; so is one
whose agent is away: its nginx answers for it, or it says itself that it stops.
"""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from aggregator.control import actions
from aggregator.control.actions import Action, StorageAction
from aggregator.federation.view import NodeView
from node.errors import Busy, Error, Unsupported
from node.http import nginx
from node.http.client import BadReply, NodeUnreachable
from node.model import requests
from node.model.host import Feature
from node.model.ids import JobId, VmId
from node.model.job import Job
from node.model.verb import Verb
from node.model.vm import Firmware, VmEntry

T = TypeVar("T")

log = logging.getLogger(__name__)

# A silent node holds a worker for its deadline (10 s): several may be silent.
WORKERS: Final = 24
# A node answers a verb in milliseconds; it makes no more VMs at once.
PER_NODE: Final = 3
QUEUE_MAX: Final = 2000
# What stands for an agent that is being restarted: it has not acted, and soon will.
AWAY: Final = frozenset({nginx.SERVICE_DOWN, "agent_stopping"})


class TooManyActions(Busy):
    code = "too_many_actions"
    remedy = "Wait until some orders have ended, then try again."


class FeatureMissing(Unsupported):
    """The node is older than what is asked of it, or lacks a package for it."""

    code = "feature_missing"
    remedy = (
        "Upgrade the node, or install what the feature needs (uefi: the package "
        "ovmf); or ask for something that needs less."
    )


class NodeClient(Protocol):
    """The verbs of `node.http.client.NodeClient` that actions use."""

    def vm_create(self, request: requests.CreateVm) -> VmEntry: ...
    def vm_start(self, vm_id: VmId, request: requests.StartVm) -> Job: ...
    def vm_stop(self, vm_id: VmId, request: requests.StopVm) -> Job: ...
    def vm_pause(self, vm_id: VmId, request: requests.ActOnVm) -> Job: ...
    def vm_resume(self, vm_id: VmId, request: requests.ActOnVm) -> Job: ...
    def vm_reset(self, vm_id: VmId, request: requests.ActOnVm) -> Job: ...
    def vm_delete(self, vm_id: VmId, request: requests.DeleteVm) -> Job: ...
    def vm_attach_disk(self, vm_id: VmId, request: requests.AttachDisk) -> Job: ...
    def vm_detach_disk(self, vm_id: VmId, request: requests.DetachDisk) -> Job: ...
    def vm_resize_disk(self, vm_id: VmId, request: requests.ResizeVmDisk) -> Job: ...
    def job_show(self, job_id: JobId, wait_s: float = 0.0) -> Job: ...
    def call(
        self,
        verb: Verb,
        kind: type[T],
        request: object = None,
        *,
        query: Mapping[str, object] | None = None,
        wait_s: float = 0.0,
        **path: str,
    ) -> T: ...


@dataclass(frozen=True, slots=True)
class Created:
    entry: VmEntry


@dataclass(frozen=True, slots=True)
class Finished:
    """It is done, and needed no job."""


@dataclass(frozen=True, slots=True)
class Accepted:
    job: Job


@dataclass(frozen=True, slots=True)
class Refused:
    error: Error  # the node's own


@dataclass(frozen=True, slots=True)
class Silent:
    error: Error


Outcome = Created | Finished | Accepted | Refused | Silent
Connect = Callable[[NodeView], NodeClient]
Done = Callable[[Outcome], None]


class Carrier(Protocol):
    """Whoever takes actions to nodes: the executor, or a test."""

    def send(self, node: NodeView, action: Action, done: Done) -> None: ...
    def ask_job(self, node: NodeView, job_id: JobId, done: Done) -> None: ...


def needs(action: Action) -> frozenset[str]:
    """Return the features that a node must have for an action."""
    if isinstance(action, StorageAction):
        return frozenset({Feature.STORAGE})
    is_uefi = (
        isinstance(action, actions.CreateVm) and action.spec.firmware is Firmware.UEFI
    )
    return frozenset({Feature.VM, Feature.UEFI} if is_uefi else {Feature.VM})


def send(client: NodeClient, node: NodeView, action: Action) -> Outcome:
    """Ask a node to act, once; what it cannot do, it is not asked for."""
    # What a node can do is not known before it has spoken: then it says itself.
    features = needs(action) if node.facts is None else node.facts.features
    if missing := sorted(needs(action).difference(features)):
        names = ", ".join(missing)
        verb = actions.verb_of(action)
        text = f"node {node.name} cannot do {verb}: it lacks the feature {names}"
        return Refused(FeatureMissing(text, node=node.name, features=names))
    return _ask(lambda: _SENDERS[type(action)](client, action))


def ask_job(client: NodeClient, job_id: JobId) -> Outcome:
    """Ask a node how a job is, once."""
    return _ask(lambda: Accepted(client.job_show(job_id)))


def _ask(call: Callable[[], Outcome]) -> Outcome:
    try:
        return call()
    except (NodeUnreachable, BadReply) as error:
        return Silent(error)
    except Error as error:
        return Silent(error) if error.code in AWAY else Refused(error)


def _create(client: NodeClient, action: actions.CreateVm) -> Outcome:
    request = requests.CreateVm(action.spec, action.correlation_id)
    return Created(client.vm_create(request))


def _start(client: NodeClient, action: actions.StartVm) -> Outcome:
    request = requests.StartVm(
        job_id=action.order_id,
        is_paused=action.is_paused,
        discard_memory=action.discard_memory,
        correlation_id=action.correlation_id,
        vm=action.vm,
    )
    return Accepted(client.vm_start(action.vm_id, request))


def _stop(client: NodeClient, action: actions.StopVm) -> Outcome:
    request = requests.StopVm(
        action.order_id, action.manner, action.deadline_s, action.correlation_id
    )
    return Accepted(client.vm_stop(action.vm_id, request))


def _pause(client: NodeClient, action: actions.PauseVm) -> Outcome:
    return Accepted(client.vm_pause(action.vm_id, _act(action)))


def _resume(client: NodeClient, action: actions.ResumeVm) -> Outcome:
    return Accepted(client.vm_resume(action.vm_id, _act(action)))


def _reset(client: NodeClient, action: actions.ResetVm) -> Outcome:
    return Accepted(client.vm_reset(action.vm_id, _act(action)))


def _delete(client: NodeClient, action: actions.DeleteVm) -> Outcome:
    request = requests.DeleteVm(
        action.order_id,
        correlation_id=action.correlation_id,
        may_leave_disks=action.may_leave_disks,
    )
    return Accepted(client.vm_delete(action.vm_id, request))


def _attach_disk(client: NodeClient, action: actions.AttachDisk) -> Outcome:
    request = requests.AttachDisk(
        action.disk, action.order_id, correlation_id=action.correlation_id
    )
    return Accepted(client.vm_attach_disk(action.vm_id, request))


def _detach_disk(client: NodeClient, action: actions.DetachDisk) -> Outcome:
    request = requests.DetachDisk(
        action.disk_id,
        action.order_id,
        correlation_id=action.correlation_id,
        lease_version=action.lease_version,
    )
    return Accepted(client.vm_detach_disk(action.vm_id, request))


def _resize_disk(client: NodeClient, action: actions.ResizeDisk) -> Outcome:
    request = requests.ResizeVmDisk(
        action.disk_id,
        action.size_bytes,
        action.order_id,
        correlation_id=action.correlation_id,
        lease_version=action.lease_version,
    )
    return Accepted(client.vm_resize_disk(action.vm_id, request))


def _storage(client: NodeClient, action: StorageAction) -> Outcome:
    verb = actions.STORAGE_VERBS[action.verb]
    request, path = actions.request_of(action), actions.path_of(action)
    if verb.reply is Job:
        return Accepted(client.call(verb, Job, request, **path))
    assert verb.reply is not None, "a verb that is no job tells what it did"
    client.call(verb, verb.reply, request, **path)
    return Finished()


def _act(action: Action) -> requests.ActOnVm:
    return requests.ActOnVm(
        job_id=action.order_id, correlation_id=action.correlation_id
    )


_SENDERS: Final[Mapping[type, Callable[[NodeClient, Any], Outcome]]] = {
    actions.CreateVm: _create,
    actions.StartVm: _start,
    actions.StopVm: _stop,
    actions.PauseVm: _pause,
    actions.ResumeVm: _resume,
    actions.ResetVm: _reset,
    actions.DeleteVm: _delete,
    actions.AttachDisk: _attach_disk,
    actions.DetachDisk: _detach_disk,
    actions.ResizeDisk: _resize_disk,
    StorageAction: _storage,
}


@dataclass(frozen=True, slots=True)
class _Call:
    node: NodeView
    label: str
    ask: Callable[[NodeClient], Outcome]
    done: Done


class Executor:
    """Run calls on worker threads; `done` is called on the worker's thread."""

    def __init__(
        self, connect: Connect, workers: int = WORKERS, per_node: int = PER_NODE
    ) -> None:
        self._connect = connect
        self._per_node = per_node
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="control")
        self._lock = threading.Lock()
        self._waiting: deque[_Call] = deque()
        self._running: Counter[str] = Counter()
        self._is_closed = False

    def send(self, node: NodeView, action: Action, done: Done) -> None:
        """Send an action when its turn comes; TooManyActions if many wait."""
        label = f"{actions.verb_of(action)} {action.order_id}"
        self._submit(
            _Call(node, label, lambda client: send(client, node, action), done)
        )

    def ask_job(self, node: NodeView, job_id: JobId, done: Done) -> None:
        """Ask for a job when its turn comes; TooManyActions if many wait."""
        label = f"job_show {job_id}"
        self._submit(_Call(node, label, lambda client: ask_job(client, job_id), done))

    def close(self) -> None:
        """Drop what waits, and wait for what runs (at most a call's deadline)."""
        with self._lock:
            self._is_closed = True
            self._waiting.clear()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _submit(self, call: _Call) -> None:
        with self._lock:
            if self._is_closed or len(self._waiting) >= QUEUE_MAX:
                raise TooManyActions(f"{len(self._waiting)} actions wait already")
            self._waiting.append(call)
        self._dispatch()

    def _dispatch(self) -> None:
        """Start all calls whose nodes have a free place, the oldest first."""
        with self._lock:
            held: deque[_Call] = deque()
            while self._waiting:
                call = self._waiting.popleft()
                if self._running[call.node.node_id] < self._per_node:
                    self._running[call.node.node_id] += 1
                    self._pool.submit(self._run, call)
                else:
                    held.append(call)
            self._waiting = held

    def _run(self, call: _Call) -> None:
        started = time.monotonic()
        log.info("%s to %s", call.label, call.node.name)
        try:
            outcome = _ask(lambda: call.ask(self._connect(call.node)))
            elapsed_s = time.monotonic() - started
            log.info("%s: %s in %.3f s", call.label, _said(outcome), elapsed_s)
            call.done(outcome)
        except Exception:
            log.exception("%s to %s", call.label, call.node.name)
            raise
        finally:
            with self._lock:
                self._running[call.node.node_id] -= 1
                if not self._running[call.node.node_id]:
                    del self._running[call.node.node_id]
                is_closed = self._is_closed
            if not is_closed:
                self._dispatch()


def _said(outcome: Outcome) -> str:
    match outcome:
        case Created():
            return "created"
        case Finished():
            return "done"
        case Accepted(job):
            return f"job {job.state}"
        case Refused(error):
            return f"refused, {error.code}: {error}"
        case Silent(error):
            return f"no answer: {error}"
