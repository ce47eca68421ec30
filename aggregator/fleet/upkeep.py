"""Keep the fleet's papers in order, in the background.

One thread: it seals what changed, tells members whom to push to, renews our own
certificate and drops what expired. Nodes that do not answer are asked again.
"""

import logging
import threading
from collections.abc import Callable
from concurrent import futures
from typing import Final

from aggregator import authority
from aggregator.fleet import term
from aggregator.registry import Member, Registry
from node.clock import Clock
from node.errors import Error
from node.model.fleet import AggregatorAddress
from node.model.ids import NodeId

log = logging.getLogger(__name__)

# A change is sealed this soon; many changes at once are sealed together.
SETTLE_S: Final = 1.0
# A member that was not reached is asked again after this.
TELL_AGAIN_S: Final = 30.0
# 2,500 members at 50 ms each are told in 16 s.
_TELLERS: Final = 8
_STOP_S: Final = 15.0  # longer than a call to a node may take


class Upkeep:
    """The thread; `on_certificate` is called when nginx must read ours anew.

    `follow` asks the leader for what changed, if that is not us. Changes that
    nobody pointed out, and dates, are looked at each `interval_s`.
    """

    def __init__(
        self,
        registry: Registry,
        leadership: term.Leadership,
        authority: authority.Authority,
        me: AggregatorAddress,
        clock: Clock,
        on_certificate: Callable[[], None],
        follow: Callable[[], str],
        interval_s: float,
    ) -> None:
        self._registry = registry
        self._leadership = leadership
        self._authority = authority
        self._me = me
        self._clock = clock
        self._on_certificate = on_certificate
        self._follow = follow
        self._interval_s = interval_s
        self._poked = threading.Event()
        self._stopping = threading.Event()
        self._told_at = float("-inf")
        self._silent: frozenset[NodeId] = frozenset()
        self._sentence = ""
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)
        registry.on_change(self.poke)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._poked.set()
        self._thread.join(_STOP_S)

    def poke(self) -> None:
        """Say that something of the fleet's documents changed."""
        self._poked.set()

    def round(self) -> str:
        """Do all that is due, and say in a sentence how it went."""
        parts = []
        if self._authority.prepare_own(self._me.name, self._me.address):
            self._on_certificate()
            parts.append("renewed our certificate")
        self._registry.expire()
        if self._leadership.seal_changes():
            parts.append(f"sealed version {self._leadership.mark().version}")
        if self._leadership.is_leading:
            parts.extend(self._tell_members())
        else:
            parts.append(self._follow())
        return ", ".join(parts)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._say(self.round())
            except Error as error:
                self._say(f"could not finish: {error}")
            self._poked.wait(self._interval_s)
            self._stopping.wait(SETTLE_S)
            self._poked.clear()

    def _say(self, sentence: str) -> None:
        if sentence and sentence != self._sentence:
            log.info("upkeep: %s", sentence)
        self._sentence = sentence

    def _tell_members(self) -> list[str]:
        untold = self._registry.untold()
        if not untold:
            return []
        now = self._clock.monotonic()
        names = frozenset(member.node_id for member in untold)
        if names <= self._silent and now - self._told_at < TELL_AGAIN_S:
            return []
        with futures.ThreadPoolExecutor(_TELLERS, "upkeep-tell") as pool:
            were_told = tuple(pool.map(self._tell, untold))
        self._told_at = now
        self._silent = frozenset(
            member.node_id
            for member, was_told in zip(untold, were_told, strict=True)
            if not was_told
        )
        told = sum(were_told)
        return [f"told {told} of {len(untold)} members who leads"]

    def _tell(self, member: Member) -> bool:
        if self._stopping.is_set() or not self._leadership.is_leading:
            return False
        try:
            self._registry.tell(member)
        except Error as error:
            log.debug("%s was not told who leads: %s", member.name, error)
            return False
        return True
