"""Decide what of the storage needs a person, each thing with its remedy.

Pure. Of disks only damaged ones: one that cannot be reached is the alarm of its
storage domain. That a silent node told something last is the alarm of that node.
"""

from collections.abc import Iterator

from aggregator.dashboard import disk_rows, storage_rows
from aggregator.dashboard.alarms import Alarm
from aggregator.federation.view import DiskRow, StorageDomainRow, View
from node.model import messages
from node.model.messages import Severity
from node.model.reason import Reason
from node.model.storage import DiskState, DomainState

# What nobody wants to use is not expected to be well.
_AT_REST = frozenset({DomainState.MAINTENANCE, DomainState.UNATTACHED})


def alarms(view: View) -> tuple[Alarm, ...]:
    """Return the alarms of pools, storage domains and disks, in any order."""
    return (*_of_pools(view), *_of_domains(view), *_of_disks(view))


def is_domain_alarming(view: View, row: StorageDomainRow) -> bool:
    """Say whether a storage domain has an alarm of its own."""
    return any(_domain_reasons(view, row))


def is_disk_alarming(row: DiskRow) -> bool:
    """Say whether a disk cannot be used."""
    return row.is_disputed or row.state in (DiskState.ILLEGAL, DiskState.UNREACHABLE)


def _of_pools(view: View) -> Iterator[Alarm]:
    for row in view.pools.values():
        for why in _severe(storage_rows.pool_troubles(view, row)):
            yield Alarm(row.name, why, _severity(why), pool_id=row.pool_id)


def _of_domains(view: View) -> Iterator[Alarm]:
    for row in view.storage_domains.values():
        for why in _domain_reasons(view, row):
            domain_id = row.storage_domain_id
            yield Alarm(row.name, why, _severity(why), storage_domain_id=domain_id)


def _domain_reasons(view: View, row: StorageDomainRow) -> Iterator[Reason]:
    if row.state not in _AT_REST or row.is_disputed:
        yield from _severe(storage_rows.domain_troubles(view, row))


def _of_disks(view: View) -> Iterator[Alarm]:
    for row in view.disks.values():
        if row.state is DiskState.ILLEGAL:
            told = disk_rows.document(row)
            name = disk_rows.name(row)
            why = told.reason or Reason(
                "disk_chain_illegal", told.since, {"name": name}
            )
            yield Alarm(name, why, _severity(why), disk_id=row.disk_id)


def _severe(reasons: tuple[Reason, ...]) -> Iterator[Reason]:
    return (each for each in reasons if _severity(each) is not Severity.NORMAL)


def _severity(why: Reason) -> Severity:
    return messages.severity(why.code)
