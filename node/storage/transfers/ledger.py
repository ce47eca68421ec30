"""Keep the transfers of this node in its store: a restart goes on with them."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from types import MappingProxyType
from typing import Final

from node import wire
from node.clock import Clock, parse_rfc3339
from node.errors import Busy, NotFound
from node.storage.transfers import rules
from node.storage.transfers.rules import Kept
from node.store import Store

SETTING: Final = "transfers"
# Each has up to eight connections, and the transfer server a hundred.
RUNNING_MAX: Final = 12
# Clients look once more at what has ended.
ENDED_S: Final = 3600.0
ENDED_MAX: Final = 100


class TransferUnknown(NotFound):
    code = "transfer_unknown"
    remedy = "List the transfers: those that ended are kept for an hour."


class TooManyTransfers(Busy):
    code = "too_many_transfers"
    remedy = "Finalize or cancel transfers that are paused, or wait."


class Ledger:
    """All transfers, by their ids. Any thread may call."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        stored = store.setting(SETTING) or []
        assert isinstance(stored, list), "it is we who wrote it"
        read = [wire.from_json(Kept, each, strict=False) for each in stored]
        self._kept = {each.transfer_id: each for each in read}

    def all(self) -> Mapping[str, Kept]:
        return MappingProxyType(dict(self._kept))

    def get(self, transfer_id: str) -> Kept:
        """Return a transfer; TransferUnknown."""
        found = self._kept.get(transfer_id)
        if found is None:
            raise TransferUnknown(f"there is no transfer {transfer_id[:80]!a}")
        return found

    def add(self, kept: Kept) -> None:
        """Keep a new one; TooManyTransfers."""
        with self._lock:
            running = [e for e in self._kept.values() if not _is_ended(e)]
            if len(running) >= RUNNING_MAX:
                raise TooManyTransfers(f"{len(running)} transfers are under way")
            self._write({**self._young(), kept.transfer_id: kept})

    def change(self, transfer_id: str, change: Callable[[Kept], Kept]) -> Kept:
        """Keep what `change` makes of one; raises what it raises."""
        with self._lock:
            before = self.get(transfer_id)
            after = change(before)
            if after != before:
                self._write({**self._kept, transfer_id: after})
            return after

    def note(self, seen: Kept, moved_bytes: int, *, is_active: bool) -> None:
        """Tell other figures, unless the phase moved; no need to write them down."""
        with self._lock:
            before = self.get(seen.transfer_id)
            if before.transfer.phase is seen.transfer.phase:
                transfer = replace(
                    before.transfer,
                    transferred_bytes=moved_bytes,
                    is_active=is_active,
                )
                after = replace(before, transfer=transfer)
                self._kept = {**self._kept, seen.transfer_id: after}

    def _young(self) -> dict[str, Kept]:
        """Return those that have not ended long ago."""
        oldest = self._clock.now() - timedelta(seconds=ENDED_S)
        running = {k: v for k, v in self._kept.items() if not _is_ended(v)}
        ended = [
            each
            for each in self._kept.values()
            if _is_ended(each) and parse_rfc3339(each.transfer.since) > oldest
        ]
        ended.sort(key=lambda each: each.transfer.since)
        young = {each.transfer_id: each for each in ended[-ENDED_MAX:]}
        return {**young, **running}

    def _write(self, kept: dict[str, Kept]) -> None:
        with self._store.change() as change:
            change.set(SETTING, [wire.to_json(each) for each in kept.values()])
        self._kept = kept


def _is_ended(kept: Kept) -> bool:
    return kept.transfer.phase in rules.ENDED
