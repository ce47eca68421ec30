"""Say who asks guests who they are: a sibling, which app.py hands over."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Final, Protocol

from node.clock import Clock, parse_rfc3339
from node.model.ids import VmId
from node.model.vm import GuestFacts, VmEntry, VmState
from node.system.hypervisor import Hypervisor

_MAY_ANSWER: Final = frozenset(
    {VmState.POWERING_UP, VmState.UP, VmState.REBOOTING, VmState.POWERING_DOWN}
)


class Guests(Protocol):
    """What asks guests who they are."""

    def start(self) -> None: ...

    def close(self) -> None: ...

    def poke(self, vm_id: VmId) -> None:
        """Ask this guest at once: its agent has just come up."""


# Takes which guests could answer (True: it started lately and has not yet), where to
# put what they say, and whom to tell that one says nothing.
MakeGuests = Callable[
    [
        Hypervisor,
        Clock,
        Callable[[], Mapping[VmId, bool]],
        Callable[[VmId, GuestFacts], None],
        Callable[[VmId], None],
    ],
    Guests,
]


def to_ask(
    entries: Iterable[VmEntry], now: datetime, wait_s: float
) -> Mapping[VmId, bool]:
    """Return the VMs whose guests may answer; True: it has not, and may any moment."""
    return {
        entry.vm.spec.vm_id: entry.run.guest is None
        and (now - parse_rfc3339(entry.run.since)).total_seconds() < wait_s
        for entry in entries
        if entry.run.state in _MAY_ANSWER
    }
