"""Keep the VMs of this node: the one place that changes their documents.

What is read comes from memory; what changes is on disk before anybody sees it.
Every change of a run goes through the table in `states`.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from node import wire
from node.clock import Clock, rfc3339
from node.errors import NotFound
from node.model.feed import Kind
from node.model.ids import CorrelationId, JobId, VmId
from node.model.reason import Scalar
from node.model.vm import GuestFacts, Vm, VmEnd, VmEntry, VmRun, VmState, Wanted
from node.store import JournalEntry, Store
from node.vm import states
from node.vm.states import Seen

# What forced stops need not wait for: the memory stays as it is.
_WITH_MEMORY: Final = ("vm_suspend", "vm_start")


class VmUnknown(NotFound):
    """There is no VM with that id on this node."""

    code = "vm_unknown"
    remedy = "Check the id against the list of VMs."


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen of a VM, with all that comes with it; None: as it was."""

    seen: Seen
    wanted: Wanted | None = None
    end: VmEnd | None = None
    detail: str = ""
    fields: tuple[tuple[str, Scalar], ...] = ()  # for the text of reason and event
    event: str | None = None  # in place of the one that the change of state is
    correlation_id: CorrelationId | None = None
    started_at: str | None = None
    generation: int | None = None
    is_emulated: bool | None = None
    vnc_port: int | None = None
    guest: GuestFacts | None = None
    lease_version: int | None = None


_CARRIED = (
    *("end", "started_at", "generation", "is_emulated", "vnc_port", "guest"),
    "lease_version",
)


class VmRegister:
    """All VMs that are defined on this node. Any thread may call."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        node_name: Callable[[], str],
        guest_wait_s: float,
    ) -> None:
        self._store = store
        self._clock = clock
        self._node_name = node_name
        self._guest_wait_s = guest_wait_s
        self._changed = threading.Condition(threading.RLock())
        # Takes each change of a run, before and after it, in order; returns at once.
        self.on_run: Callable[[VmEntry, VmEntry], None] = lambda before, after: None
        vms = _load(store, Kind.VM, Vm)
        runs = _load(store, Kind.VM_RUN, VmRun)
        # Never changed in place: who reads it needs no lock.
        self._entries: Mapping[VmId, VmEntry] = {
            VmId(vm_id): VmEntry(vm, runs[vm_id])
            for vm_id, vm in vms.items()
            if vm.spec.pool_id is not None
        }
        # Names of VMs from when nodes kept disks without a pool: nothing can run them.
        self.left_behind = tuple(
            vm.spec.name for vm in vms.values() if vm.spec.pool_id is None
        )

    def list(self) -> tuple[VmEntry, ...]:
        return tuple(self._entries.values())

    def find(self, vm_id: VmId) -> VmEntry | None:
        return self._entries.get(vm_id)

    def get(self, vm_id: VmId) -> VmEntry:
        entry = self.find(vm_id)
        if entry is None:
            raise VmUnknown(f"there is no VM {vm_id} on this node", vm_id=vm_id)
        return entry

    def is_active(self, vm_id: VmId) -> bool:
        """Tell whether a VM runs here, or is about to."""
        entry = self.find(vm_id)
        return entry is not None and states.is_active(entry.run.state)

    def was_deleted(self, vm_id: VmId) -> bool:
        """Tell whether a VM with that id was here, and is not any more."""
        return self.find(vm_id) is None and self._store.is_retired(vm_id)

    def has_job(self, vm_id: VmId, verb: str = "") -> bool:
        """Tell whether a job on a VM has not ended; of this verb, if one is named."""
        return self.find_job(vm_id, verb) is not None

    def find_job(self, vm_id: VmId, verb: str = "") -> JobId | None:
        """Return a job on a VM that has not ended; of this verb, if one is named."""
        return next(
            (
                each.job_id
                for each in self._store.journal()
                if isinstance(each.arguments, dict)
                and verb in ("", each.verb)
                and each.arguments.get("vm_id") == vm_id
            ),
            None,
        )

    def waiting(self, vm_id: VmId) -> tuple[JobId, ...]:
        """Return the jobs that keep the memory of a VM, or go on with it, or will."""
        return tuple(
            each.job_id
            for each in self._store.journal()
            if isinstance(each.arguments, dict)
            and each.arguments.get("vm_id") == vm_id
            and (each.verb in _WITH_MEMORY or _keeps_memory(each))
        )

    def add(self, entry: VmEntry, correlation_id: CorrelationId | None) -> None:
        vm_id = entry.vm.spec.vm_id
        with self._changed:
            with self._store.change() as change:
                change.put(Kind.VM, vm_id, entry.vm)
                change.put(Kind.VM_RUN, vm_id, entry.run)
                change.event(
                    "vm_created",
                    vm_id=vm_id,
                    correlation_id=correlation_id,
                    name=entry.vm.spec.name,
                )
            self._entries = {**self._entries, vm_id: entry}
            self._changed.notify_all()

    def adopt(self, vm: Vm, down: VmRun) -> VmEntry:
        """Take on a definition from a pool, unless a newer one is here.

        What is wanted of the VM is this node's own matter; `down` is its run if the
        VM is new here.
        """
        vm_id = vm.spec.vm_id
        with self._changed:
            entry = self.find(vm_id)
            if entry is not None and entry.vm.generation >= vm.generation:
                return entry
            if entry is None:
                after = VmEntry(replace(vm, wanted=Wanted.DOWN), down)
            else:
                after = replace(entry, vm=replace(vm, wanted=entry.vm.wanted))
            with self._store.change() as change:
                change.put(Kind.VM, vm_id, after.vm)
                change.put(Kind.VM_RUN, vm_id, after.run)
            self._entries = {**self._entries, vm_id: after}
            self._changed.notify_all()
            return after

    def forget(
        self, vm_id: VmId, only_if: Callable[[VmEntry], bool] = lambda entry: True
    ) -> bool:
        """Let a VM of a pool go that is not this node's matter any more."""
        with self._changed:
            entry = self.find(vm_id)
            if entry is None or not only_if(entry):
                return False
            with self._store.change() as change:
                change.delete(Kind.VM, vm_id)
                change.delete(Kind.VM_RUN, vm_id)
            self._drop(vm_id)
            return True

    def remove(
        self,
        vm_id: VmId,
        correlation_id: CorrelationId | None,
        left: Sequence[str] = (),
    ) -> None:
        """Forget a VM that was deleted; `left` names the disks that stay."""
        with self._changed:
            entry = self.get(vm_id)
            with self._store.change() as change:
                change.delete(Kind.VM, vm_id)
                change.delete(Kind.VM_RUN, vm_id)
                change.retire(vm_id)
                change.event(
                    "vm_deleted",
                    vm_id=vm_id,
                    correlation_id=correlation_id,
                    name=entry.vm.spec.name,
                )
                if left:
                    change.event(
                        "vm_disks_left",
                        vm_id=vm_id,
                        correlation_id=correlation_id,
                        name=entry.vm.spec.name,
                        disks=", ".join(left),
                    )
            self._drop(vm_id)

    def apply(
        self,
        vm_id: VmId,
        sight: Sight,
        *,
        only_if: Callable[[VmEntry], bool] = lambda entry: True,
    ) -> VmEntry | None:
        """Take in what was seen; return the VM as it is then.

        None if there is no such VM, or the condition does not hold any more.
        """
        with self._changed:
            entry = self._entries.get(vm_id)
            if entry is None or not only_if(entry):
                return None
            changed, events = self._decide(entry, sight)
            if changed != entry or events:
                self._write(entry, changed, events, sight)
            return changed

    def tick(self) -> None:
        """Let time do its part: a guest without an agent is up after a while."""
        for entry in self.list():
            seen = states.settle(entry.run, self._clock.now(), self._guest_wait_s)
            if seen is not None:
                self.apply(entry.vm.spec.vm_id, Sight(seen))

    def wait(
        self, vm_id: VmId, condition: Callable[[VmRun], bool], timeout_s: float
    ) -> bool:
        """Wait until a VM's run meets a condition, or the VM is gone."""

        def is_met() -> bool:
            entry = self._entries.get(vm_id)
            return entry is None or condition(entry.run)

        with self._changed:
            return self._changed.wait_for(is_met, timeout_s)

    def _drop(self, vm_id: VmId) -> None:
        rest = {key: each for key, each in self._entries.items() if key != vm_id}
        self._entries = rest
        self._changed.notify_all()

    def _decide(
        self, entry: VmEntry, sight: Sight
    ) -> tuple[VmEntry, dict[str, dict[str, Scalar]]]:
        """Return the VM after what was seen, and the events that this is."""
        now = self._clock.now()
        wanted = sight.wanted or entry.vm.wanted
        vm = replace(entry.vm, wanted=wanted)
        run, events = entry.run, {}
        fields: dict[str, Scalar] = {
            "name": vm.spec.name,
            "node": self._node_name(),
            **dict(sight.fields),
        }
        if sight.detail:
            fields["detail"] = sight.detail
        seen: Seen | None = sight.seen
        while seen is not None:
            before = run.state
            run = states.advance(run, seen, rfc3339(now))
            if seen is sight.seen and _may_carry(seen, before, run.state):
                run = replace(run, **_carried(sight, run))
            run = replace(run, reason=states.explain(wanted, run, seen, fields))
            code = states.event_code(before, run, seen)
            if code is not None:
                told = dict(fields)
                if seen is Seen.ENDED and run.end is not None:
                    told["detail"] = run.end.detail
                events[code] = told
            seen = states.settle(run, now, self._guest_wait_s)
        if sight.event is not None:
            events = {sight.event: fields}
        return VmEntry(vm, run), events

    def _write(
        self,
        before: VmEntry,
        after: VmEntry,
        events: dict[str, dict[str, Scalar]],
        sight: Sight,
    ) -> None:
        vm_id = after.vm.spec.vm_id
        with self._store.change() as change:
            if after.vm != before.vm:
                change.put(Kind.VM, vm_id, after.vm)
            if after.run != before.run:
                change.put(Kind.VM_RUN, vm_id, after.run)
            for code, fields in events.items():
                change.event(
                    code, vm_id=vm_id, correlation_id=sight.correlation_id, **fields
                )
        self._entries = {**self._entries, vm_id: after}
        self._changed.notify_all()
        self.on_run(before, after)


def _keeps_memory(entry: JournalEntry) -> bool:
    is_kept = isinstance(entry.arguments, dict) and entry.arguments.get("has_memory")
    return entry.verb == "vm_snapshot_create" and bool(is_kept)


def _may_carry(seen: Seen, before: VmState, after: VmState) -> bool:
    """Only the first to tell of an end is believed; the rest is of active runs.

    But that a memory is lost is seen after the end.
    """
    if seen is Seen.ENDED:
        return after is not before
    if seen is Seen.MEMORY_LOST:
        return after is VmState.DOWN
    return states.is_active(after)


def _carried(sight: Sight, run: VmRun) -> dict[str, Any]:
    """Return the fields of a run that a sight brings."""
    carried = {
        name: value for name in _CARRIED if (value := getattr(sight, name)) is not None
    }
    if run.started_at is not None:
        carried.pop("started_at", None)  # a run starts once
    if _is_old_word(sight.guest, run.guest):
        carried.pop("guest", None)
    return carried


def _is_old_word(said: GuestFacts | None, known: GuestFacts | None) -> bool:
    """Tell whether a guest says again what it said before: that is no news."""
    return bool(said and known and replace(said, at=known.at) == known)


def _load(store: Store, kind: Kind, cls: Any) -> dict[str, Any]:
    return {
        document.id: wire.from_json(cls, document.body, strict=False)
        for document in store.list(kind)
    }
