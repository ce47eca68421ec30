"""Be one node of a simulated fleet: its documents, its changes, its deltas.

No I/O; what happens and when is passed in. A node speaks as the real feed does:
numbered revisions, what is not acknowledged is sent again, everything (in parts)
when it is asked to resync. Source: DESIGN section 4.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from node.model.feed import DeltaOutcome, DeltaReply, Kind
from node.model.ids import DiskId, NicId, NodeId, VmId
from node.units import MiB
from tests.scale import samples
from tests.scale.samples import Change, Samples, Template

PART_BYTES_MAX: Final = MiB
JOBS_KEPT: Final = 200  # a node keeps no more jobs that have ended
_JOBS_PER_NODE: Final = 1_000_000  # more than any run makes: their ids are apart

# The second group of an id says what it is the id of.
_NODE, _VM, _BOOT, _EPOCH, _JOB, _DISK, _NIC = range(1, 8)


def node_id(index: int) -> NodeId:
    return NodeId(_uuid(_NODE, index))


def vm_id(index: int) -> VmId:
    return VmId(_uuid(_VM, index))


def disk_id(index: int) -> DiskId:
    return DiskId(_uuid(_DISK, index))


def nic_id(index: int) -> NicId:
    return NicId(_uuid(_NIC, index))


def mac(index: int) -> str:
    return "56:6f:1a:" + index.to_bytes(3, "big").hex(":")


def node_name(index: int) -> str:
    return f"node-{index:04}"


def vm_name(index: int) -> str:
    return f"vm-{index:05}"


def node_address(index: int) -> str:
    """Return an address of this machine itself: nobody answers, nobody is asked."""
    return f"127.{100 + (index >> 16)}.{index >> 8 & 255}.{index & 255}"


@dataclass(frozen=True, slots=True)
class Said:
    """A document, or that it is gone; the text is made when it is sent."""

    rev: int
    template: Template
    values: Mapping[str, str | int]

    @property
    def key(self) -> tuple[str, str]:
        return self.template.kind, str(
            self.values.get(self.template.id.strip("@"), self.template.id)
        )


class SimulatedNode:
    """One node with its VMs, all up at first; `jobs` of its last hour are kept."""

    def __init__(
        self, recorded: Samples, index: int, vms: range, *, jobs: int = 0
    ) -> None:
        self.node_id = node_id(index)
        self.vms = vms
        self._recorded = recorded
        self._index = index
        self._epoch = _uuid(_EPOCH, index)
        self._values: Mapping[str, str | int] = {
            "node_id": self.node_id,
            "node_name": node_name(index),
            "node_address": node_address(index),
            "boot_id": _uuid(_BOOT, index),
        }
        self._rev = 0
        self._heard_rev: int | None = None  # None: it must be told everything
        self._documents: dict[tuple[str, str], Said] = {}
        self._gone: list[Said] = []
        self._jobs: deque[Said] = deque()
        self._jobs_made = 0
        self._events: list[tuple[int, str]] = []  # not yet acknowledged
        self._events_made = 0
        self._paused: set[int] = set()
        self._say(recorded.node, self._values)
        for vm in vms:
            self._say(recorded.vm, self._vm_values(vm))
        self._jobs_kept = min(jobs, JOBS_KEPT)
        for number in range(self._jobs_kept):
            values = self._job_values(vms[number % len(vms)])
            self._say(_jobs_of(recorded.resume), values)

    @property
    def document_count(self) -> int:
        return len(self._documents)

    @property
    def is_known(self) -> bool:
        """Tell whether the aggregator has acknowledged everything once."""
        return self._heard_rev is not None

    def is_paused(self, vm: int) -> bool:
        return vm in self._paused

    def toggle(self, vm: int, at: str) -> None:
        """Pause a VM, or resume one that is paused; `at` is RFC 3339."""
        assert vm in self.vms, "a node changes its own VMs"
        is_paused = vm in self._paused
        change = self._recorded.resume if is_paused else self._recorded.pause
        self._paused ^= {vm}
        values = self._job_values(vm)
        self._say(change.documents, values)
        for event in change.events:
            self._events_made += 1
            filled = {**values, "number": self._events_made, "at": at}
            self._events.append((self._events_made, samples.fill(event, filled)))

    def deltas(self, stats: str | None = None) -> Iterator[bytes]:
        """Yield what to push now: one delta, or the parts of a resync."""
        since = self._heard_rev or 0
        changed = sorted(
            (said for said in self._documents.values() if said.rev > since),
            key=lambda said: said.rev,
        )
        parts = list(_split(map(_document, changed)))
        gone = [_tombstone(said) for said in self._gone if said.rev > since > 0]
        for number, part in enumerate(parts, start=1):
            fields = [
                f'"epoch":"{self._epoch}","from":{since},"to":{self._rev}',
                f'"boot_id":"{self._values["boot_id"]}"',
                f'"changed":[{",".join(part)}]',
                f'"part":{number},"parts":{len(parts)}',
            ]
            if number == len(parts):
                fields += self._last(gone, stats)
            yield ("{" + ",".join(fields) + "}").encode()

    def hear(self, reply: DeltaReply) -> None:
        """Take note of the reply to a push that was taken whole."""
        if reply.outcome is DeltaOutcome.RESYNC:
            self._heard_rev = None
            return
        self._heard_rev = reply.to_rev
        self._gone = [said for said in self._gone if said.rev > reply.to_rev]
        acknowledged = reply.events_acknowledged
        self._events = [event for event in self._events if event[0] > acknowledged]

    def stats(self, at: str, cpu_percent: float) -> str:
        """Return the figures of the node and its VMs, as JSON."""
        values: Mapping[str, str | int | float] = {"cpu_percent": cpu_percent}
        node = samples.fill(self._recorded.node_stats, values)
        vms = ",".join(
            samples.fill(self._recorded.vm_stats, {"vm_id": vm_id(vm), **values})
            for vm in self.vms
        )
        return f'{{"at":"{at}","node":{node},"vms":[{vms}]}}'

    def _last(self, gone: Sequence[str], stats: str | None) -> Iterator[str]:
        """Yield the fields that only the last part has."""
        if gone:
            yield f'"gone":[{",".join(gone)}]'
        if self._events:
            yield f'"events":[{",".join(text for _, text in self._events)}]'
        if stats is not None:
            yield f'"stats":{stats}'

    def _say(
        self, templates: Iterable[Template], values: Mapping[str, str | int]
    ) -> None:
        for template in templates:
            self._rev += 1
            said = Said(self._rev, template, values)
            self._documents[said.key] = said
            if template.kind == Kind.JOB:
                self._remember(said)

    def _remember(self, job: Said) -> None:
        """Keep as many jobs as were asked for: the oldest goes."""
        self._jobs.append(job)
        if len(self._jobs) > max(self._jobs_kept, 1):
            oldest = self._jobs.popleft()
            del self._documents[oldest.key]
            self._rev += 1
            self._gone.append(Said(self._rev, oldest.template, oldest.values))

    def _vm_values(self, vm: int) -> Mapping[str, str | int]:
        return {
            **self._values,
            "vm_id": vm_id(vm),
            "vm_name": vm_name(vm),
            "disk_id": disk_id(vm),
            "nic_id": nic_id(vm),
            "mac": mac(vm),
            "vm_address": f"10.{200 + (vm >> 16)}.{vm >> 8 & 255}.{vm & 255}",
        }

    def _job_values(self, vm: int) -> Mapping[str, str | int]:
        self._jobs_made += 1
        number = _JOBS_PER_NODE * self._index + self._jobs_made
        job_id = _uuid(_JOB, number)
        return {**self._vm_values(vm), "job_id": job_id, "correlation_id": job_id}


def _jobs_of(change: Change) -> tuple[Template, ...]:
    return tuple(each for each in change.documents if each.kind == Kind.JOB)


def _document(said: Said) -> str:
    kind, identity = said.key
    body = samples.fill(said.template.body, said.values)
    return f'{{"kind":"{kind}","id":"{identity}","rev":{said.rev},"body":{body}}}'


def _tombstone(said: Said) -> str:
    kind, identity = said.key
    return f'{{"kind":"{kind}","id":"{identity}","rev":{said.rev}}}'


def _split(texts: Iterable[str]) -> Iterator[list[str]]:
    """Yield groups that stay below the size of a part; one at least."""
    group: list[str] = []
    size = 0
    for text in texts:
        if group and size + len(text) > PART_BYTES_MAX // 2:
            yield group
            group, size = [], 0
        group.append(text)
        size += len(text)
    yield group


def _uuid(of: int, index: int) -> str:
    return f"5ca1ab1e-{of:04}-4000-8000-{index:012x}"
