"""Carry out what a soak has planned, and say how it ended.

An order may be refused, or find nobody: that is what the faults are for. What must
not come back is a bug, nonsense, or silence for ever.
"""

import threading
import time
from dataclasses import dataclass
from typing import Final

from aggregator.api import verbs
from aggregator.api.model import NewVm, OrderLine
from aggregator.cli.client import FleetClient
from node.errors import Error, NotFound, Unavailable
from node.model.ids import NodeId, VmId
from node.model.job import ENDED, JobState
from node.model.requests import StartVm, StopManner, StopVm
from node.units import MiB
from tests.lab import errors, fleet, members, soak_break, soak_look
from tests.lab.soak_break import Pause
from tests.lab.soak_checks import Ledger
from tests.lab.soak_plan import Fault, Kind, Order, PlannedVm, Step, Verb, Way

# The aggregator may be frozen for 120 s, and a guest may take 20 s to shut down.
ORDER_ENDS_S: Final = 240.0
_POLL_S: Final = 5.0
_CREATES_MAX: Final = 3  # a creation that nobody answered is asked for again
_GRACE_S: Final = 20.0
_SHELL_S: Final = 100.0  # a graceful stop, on a machine that is busy
_MEMORY: Final = 128 * MiB
# Kinds of refusals that a fault or the state of a VM explains.
_EXPLAINED: Final = frozenset({"conflict", "not_found", "unavailable", "busy"})
_OUR_BUGS: Final = frozenset({"internal_error", "bad_reply"})


@dataclass(frozen=True, slots=True)
class Outcome:
    text: str
    problem: str = ""  # what must not be


class Actor:
    """Gives orders and breaks things; may be used by several threads."""

    def __init__(
        self, one: fleet.Fleet, client: FleetClient, ledger: Ledger, pause: Pause
    ) -> None:
        self._fleet = one
        self._client = client
        self._ledger = ledger
        self._pause = pause
        self._lock = threading.Lock()
        self.places: dict[VmId, str] = {}  # the host of each VM, as far as known

    def carry_out(self, step: Step) -> Outcome:
        """Do one step; whatever comes of it is told."""
        try:
            if isinstance(step, Fault):
                return self._break(step)
            if step.way is Way.NODE:
                return self._order_by_node(step)
            return self._order_by_aggregator(step)
        except errors.LabError as error:
            return Outcome(f"not possible: {error.message}")

    def must(self, order: Order) -> str:
        """Give an order to a fleet that is whole; return why it failed, if so."""
        try:
            line = self._await(self._ask(order))
        except Error as error:
            return f"{order.verb} {order.vm.name} was refused: {error}"
        if line.state is not JobState.DONE:
            told = line.error.message if line.error else ""
            return f"{order.verb} {order.vm.name} ended {line.state}: {told}"
        self._note(order, line.node or "")
        return ""

    def _order_by_aggregator(self, order: Order) -> Outcome:
        try:
            line = self._await(self._ask(order))
        except Error as error:
            problem = "" if _is_explained(error) else f"{error.code}: {error}"
            return Outcome(f"refused, {error.code}: {error}", problem)
        except LookupError as error:
            return Outcome("lost", str(error))
        if line.state is JobState.DONE:
            self._note(order, line.node or "")
        told = f", {line.error.code}: {line.error.message}" if line.error else ""
        is_bug = line.error is not None and line.error.code in _OUR_BUGS
        problem = told if is_bug else ""
        if line.state not in ENDED:
            problem = f"the order has not ended in {ORDER_ENDS_S:.0f} s ({line.step})"
        return Outcome(f"{line.state}{told}", problem)

    def _ask(self, order: Order) -> OrderLine:
        vm_id = order.vm.vm_id
        match order.verb:
            case Verb.CREATE:
                return self._create(order)
            case Verb.START:
                return self._client.vm_start(vm_id, StartVm())
            case Verb.STOP:
                graceful = StopVm(manner=StopManner.GRACEFUL, deadline_s=_GRACE_S)
                return self._client.vm_stop(vm_id, graceful)
            case Verb.FORCE:
                return self._client.vm_stop(vm_id, StopVm(manner=StopManner.FORCE))
            case Verb.DELETE:
                self._note_delete_asked(vm_id)
        return self._client.vm_act(_ACTS[order.verb], vm_id)

    def _create(self, order: Order) -> OrderLine:
        """Ask for a VM; as long as nobody answers, ask again with the same id."""
        request = NewVm(
            order.vm.name,
            fleet.IMAGE,
            vm_id=order.vm.vm_id,
            memory_bytes=_MEMORY,
            node_id=self._node_id(order.host),
        )
        for _ in range(_CREATES_MAX - 1):
            try:
                return self._client.vm_create(request)
            except Unavailable:
                self._pause(1.0)
        return self._client.vm_create(request)

    def _await(self, line: OrderLine) -> OrderLine:
        """Return an order at its end, or as it is when nobody waits any more.

        LookupError: it was acknowledged, and is known no more.
        """
        deadline = time.monotonic() + ORDER_ENDS_S
        while line.state not in ENDED and time.monotonic() < deadline:
            try:
                line = self._client.order_show(line.order_id, _POLL_S)
            except NotFound as error:
                raise LookupError(f"an acknowledged order is lost: {error}") from error
            except Unavailable:
                self._pause(1.0)
        return line

    def _order_by_node(self, order: Order) -> Outcome:
        name = order.host or self.places.get(order.vm.vm_id, "")
        if not name:
            return Outcome("nowhere")
        if order.verb is Verb.DELETE:
            self._note_delete_asked(order.vm.vm_id)
        words = [str(_PROGRAM), "--json", "vm", *shell_words(order)]
        result = self._fleet.lab.member(name).exec(words, timeout_s=_SHELL_S)
        said = " ".join(result.stderr.split())
        problem = said if "Traceback" in said or "internal_error" in said else ""
        if result.returncode != 0:
            return Outcome(f"{name} says: {said or result.returncode}", problem)
        self._note(order, name)
        return Outcome(f"done by {name}", problem)

    def _note(self, order: Order, host: str) -> None:
        """Remember what was acknowledged."""
        with self._lock:
            if host:
                self.places[order.vm.vm_id] = host
            if order.verb is Verb.CREATE:
                self._ledger.created.add(order.vm.vm_id)
            if order.verb is Verb.DELETE:
                self._ledger.deleted.add(order.vm.vm_id)

    def _note_delete_asked(self, vm_id: VmId) -> None:
        with self._lock:
            self._ledger.delete_asked.add(vm_id)

    def _node_id(self, name: str) -> NodeId | None:
        return NodeId(self._fleet.lab.member(name).place.node_id) if name else None

    def _break(self, fault: Fault) -> Outcome:
        if fault.kind is Kind.CRASH:
            assert fault.vm is not None, "a crash names its VM"
            return self._crash(fault.vm)
        member = self._fleet.lab.member(fault.member)
        match fault.kind:
            case Kind.KILL:
                return Outcome(soak_break.kill(member.service_pid(fault.service)))
            case Kind.FREEZE:
                return Outcome(
                    soak_break.freeze(
                        member, fault.service, fault.duration_s, self._pause
                    )
                )
            case Kind.POWER:
                return Outcome(soak_break.power(member, fault.duration_s, self._pause))
        return Outcome(soak_break.cut(member, fault.duration_s, self._pause))

    def _crash(self, vm: PlannedVm) -> Outcome:
        for host, vm_id, pid in soak_look.qemu_processes(self._fleet.lab):
            if vm_id == vm.vm_id:
                soak_break.kill(pid)
                return Outcome(f"killed on {host}")
        return Outcome("does not run")


def shell_words(order: Order) -> tuple[str, ...]:
    """Return what follows `skerry-node vm` for an order."""
    name = order.vm.name
    match order.verb:
        case Verb.CREATE:
            chosen = ("--image", fleet.IMAGE, "--memory", str(_MEMORY))
            return ("create", name, *chosen, "--id", order.vm.vm_id)
        case Verb.STOP:
            return ("stop", name, "--manner", "graceful", "--deadline", f"{_GRACE_S:g}")
        case Verb.FORCE:
            return ("stop", name, "--manner", "force")
        case Verb.DELETE:
            return ("delete", name, "--yes")
    return (order.verb.value, name)


def _is_explained(error: Error) -> bool:
    return error.kind in _EXPLAINED and error.code not in _OUR_BUGS


_PROGRAM: Final = members.VIRTUAL_ENVIRONMENT / "bin/skerry-node"
_ACTS: Final = {
    Verb.PAUSE: verbs.VM_PAUSE,
    Verb.RESUME: verbs.VM_RESUME,
    Verb.RESET: verbs.VM_RESET,
    Verb.DELETE: verbs.VM_DELETE,
}
