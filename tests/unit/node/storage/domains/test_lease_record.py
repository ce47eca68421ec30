"""Leases as sanlock 3.8 wrote them."""

import pytest

from node.storage.domains import lease_record
from node.storage.domains.lease_record import LeaseDamaged, LeaseRecord
from node.storage.process.protocol import ResourceAt
from tests.fakes import leasing_guard
from tests.unit.node.storage.examples import SD

VM = "aaaaaaaa-0000-4000-8000-000000000001"
# Of `sanlock direct init`; the rest of the sector is zero.
FRESH = bytes.fromhex(
    "10201506040006001000000000020000d007000000000000d0070000000000000000000000000000"
    "00000000000000000000000000000000323735373636"
    "63622d633764382d343364362d613636332d34653532313630646536323000000000000000000000"
    "000061616161616161612d303030302d343030302d383030302d3030303030303030303030310000"
    "0000000000000000000000000000000000000000000000000000e57d55ac"
).ljust(512, b"\0")


def test_parse_reads_what_sanlock_made() -> None:
    assert lease_record.parse(FRESH) == LeaseRecord(SD, VM, 0, 0, 0, True)


@pytest.mark.parametrize("is_free", [True, False])
def test_parse_tells_whose_it_is(is_free: bool) -> None:
    place = ResourceAt(SD, VM, "/x", 0)
    data = leasing_guard.record(place, 7, 3, 5, timestamp=0 if is_free else 99)
    assert lease_record.parse(data) == LeaseRecord(SD, VM, 7, 3, 5, is_free)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(bytes(512), id="nothing"),
        pytest.param(FRESH[:100], id="cut"),
        pytest.param(b"\1" + FRESH[1:], id="another-magic"),
        pytest.param(FRESH[:48] + b"\1" + FRESH[49:], id="a-bit-that-flipped"),
    ],
)
def test_parse_refuses_what_is_no_lease(data: bytes) -> None:
    with pytest.raises(LeaseDamaged):
        lease_record.parse(data)
