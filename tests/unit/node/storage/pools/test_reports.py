"""What is told of storage, and when: news at once, figures now and then."""

from dataclasses import replace

import pytest

from node.model.ids import DiskId, NodeId, StorageDomainId
from node.model.reason import Reason
from node.model.storage import (
    Allocation,
    Connection,
    DiskDocument,
    DiskFormat,
    DiskState,
    DomainClass,
    DomainState,
    DomainType,
    PoolMark,
    StorageDomain,
    StorageDomainDocument,
)
from node.storage.pools import reports
from tests.unit.node.storage.examples import IMAGE, OTHER_SD, SD

AT, SOON, LATER = (f"2026-11-22T08:00:{second}.000Z" for second in ("00", "29", "30"))
OTHER = StorageDomainId(OTHER_SD)
DOCUMENT = StorageDomainDocument(
    StorageDomain(
        *(StorageDomainId(SD), "alpha", DomainClass.DATA),
        Connection(DomainType.NFS, "/x", "nas"),
    ),
    NodeId("n"),
    DomainState.ACTIVE,
    AT,
    latency_s=0.1,
    checked_at=AT,
    total_bytes=100,
    free_bytes=50,
)


@pytest.mark.parametrize(
    ("changed", "is_news"),
    [
        pytest.param({}, False, id="nothing"),
        pytest.param(
            {"latency_s": 0.2, "free_bytes": 49, "checked_at": SOON},
            False,
            id="young-figures",
        ),
        pytest.param({"checked_at": LATER}, True, id="old-figures"),
        pytest.param({"latency_s": None}, True, id="no-answer"),
        pytest.param({"state": DomainState.UNREACHABLE}, True, id="state"),
        pytest.param({"reason": Reason("spm_lost", AT)}, True, id="reason"),
        pytest.param({"total_bytes": 101}, True, id="it-grew"),
        pytest.param({"host_id": 3}, True, id="joined"),
        pytest.param({"mark": PoolMark(1, 1)}, True, id="manager"),
    ],
)
def test_is_news_when_it_says_more_than_figures(
    changed: dict[str, object], is_news: bool
) -> None:
    now = replace(DOCUMENT, **changed)  # type: ignore[arg-type]  # of the table
    assert reports.is_news(DOCUMENT, now) is is_news


def test_first_check_is_news() -> None:
    unseen = replace(DOCUMENT, latency_s=None, checked_at=None)
    assert reports.is_news(unseen, DOCUMENT)


DISK = DiskDocument(
    *(DiskId(IMAGE), "root", 100, 50, DiskFormat.RAW, Allocation.THIN),
    (StorageDomainId(SD),),
    DiskState.OK,
    AT,
    mark=PoolMark(1, 1),
)


def test_disks_of_a_storage_domain_that_nobody_could_read_stay_known() -> None:
    elsewhere = replace(DISK, storage_domain_ids=(OTHER,))
    copied = replace(DISK, storage_domain_ids=(*DISK.storage_domain_ids, OTHER))
    told = {"one": DISK, "two": elsewhere, "three": copied}
    found = reports.away(told, frozenset({SD}), PoolMark(2, 1), SOON)
    assert list(found) == ["one"]
    one = found["one"]
    assert (one.state, one.since, one.mark) == (
        *(DiskState.UNREACHABLE, SOON, PoolMark(2, 1)),
    )
    assert one.reason is not None
    assert reports.away(found, frozenset({SD}), PoolMark(2, 1), LATER) == found
