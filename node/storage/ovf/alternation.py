"""Choose among the OVF_STOREs of a storage domain: which to read, which to write.

Pure. There are two, written in turn: the older one is marked as not updated, then
filled, then marked as updated. So whatever ends that, the other one is whole.
Source: oVirt's ProcessOvfUpdateForStorageDomainCommand.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from node.storage.ovf.description import StoreLabel
from node.storage.ovf.store import STORE_MAX

STORES: Final = 2


@dataclass(frozen=True, slots=True)
class StoreAt:
    """An OVF_STORE's disk, and what its volume says of it."""

    disk_id: str
    volume_id: str
    label: StoreLabel

    @property
    def is_whole(self) -> bool:
        """Whether it was written to its end, by its own words."""
        size_bytes = self.label.size_bytes
        has_size = size_bytes is not None and 0 < size_bytes <= STORE_MAX
        return self.label.is_updated and has_size

    @property
    def rank(self) -> tuple[bool, str, str]:
        return self.is_whole, self.label.updated_at or "", self.disk_id


def newest_first(stores: Iterable[StoreAt]) -> tuple[StoreAt, ...]:
    """Return those that claim to be whole, the newest first."""
    whole = (each for each in stores if each.is_whole)
    return tuple(sorted(whole, key=lambda each: each.rank, reverse=True))


def next_to_write(stores: Iterable[StoreAt], damaged: Collection[str] = ()) -> StoreAt:
    """Return the one whose content counts least.

    `damaged` are the disks of those that cannot be read, whatever they say.
    """
    return min(stores, key=lambda each: (each.disk_id not in damaged, each.rank))


def moment(stores: Iterable[StoreAt], now: datetime) -> datetime:
    """Return when the next one is said to be written: later than all others.

    The label has whole seconds, and a clock may have been wrong before.
    """
    told = (each.label.updated_at for each in stores)
    last = max((datetime.fromisoformat(each) for each in told if each), default=None)
    whole = now.astimezone(UTC).replace(microsecond=0)
    return whole if last is None else max(whole, last + timedelta(seconds=1))
