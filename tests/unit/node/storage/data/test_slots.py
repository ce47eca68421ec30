"""What managers and nodes write for each other."""

from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as some

from node.model.ids import NodeId
from node.storage.data import slots
from node.storage.data.slots import Board, Orders, Report, Reports, Work
from node.storage.formats.journal import Order
from node.storage.operations import plan
from tests.fakes.guard import LocalFiles
from tests.unit.node.storage.examples import IMAGE, OTHER_IMAGE, SD

VOLUME = PurePosixPath("/", SD, "images", f"_remove_me_{IMAGE}", OTHER_IMAGE)
SOURCE = f"/{SD}/images/{IMAGE}/{OTHER_IMAGE}"
WORDS = ("-p", "-t", "none", "-T", "none", "-f", "qcow2", "-O", "qcow2", SOURCE)
ORDER = Order(
    IMAGE, OTHER_IMAGE, plan.move_data(VOLUME, "convert", *WORDS, OTHER_IMAGE), 1, 2
)
NODE = NodeId(IMAGE)


def test_slot_holds_as_many_orders_as_a_node_gets() -> None:
    orders = Orders(NODE, (ORDER,) * slots.ORDERS_MAX)
    assert slots.parse(Orders, slots.write(orders)) == orders


def test_slot_holds_the_reports_of_so_many_orders() -> None:
    report = Report(IMAGE, Work.FAILED, 100, "storage_program_failed", "x" * 300)
    reports = Reports(NODE, 7, (report,) * slots.ORDERS_MAX)
    assert slots.parse(Reports, slots.write(reports)) == reports


def test_write_refuses_more_than_a_slot() -> None:
    with pytest.raises(slots.SlotFull):
        slots.write(Orders(NODE, (ORDER,) * 100))


@given(some.integers(0, slots.SLOT_BYTES - 1), some.integers(1, 255))
def test_parse_takes_no_damaged_slot(place: int, change: int) -> None:
    whole = slots.write(Orders(NODE, (ORDER,)))
    damaged = bytearray(whole)
    damaged[place] ^= change
    assert slots.parse(Orders, bytes(damaged)) in (None, Orders(NODE, (ORDER,)))
    # What comes after the text is zeros, or it is no slot.
    assert slots.parse(Orders, bytes(damaged)) is None


@given(some.binary(max_size=2000))
def test_parse_reads_anything(data: bytes) -> None:
    body = slots.write(Orders(NODE))
    for each in (data, body[:100] + data):
        assert slots.parse(Orders, each) is None


def test_slots_of_nodes_do_not_touch(tmp_path: Path) -> None:
    board = Board(LocalFiles(str(tmp_path)), str(tmp_path / "data_jobs"))
    assert board.orders(250) == Orders(NodeId(""))  # before there is a file
    board.make()
    for host_id in (1, 2, 250):
        board.put_orders(host_id, Orders(NodeId(f"n{host_id}"), (ORDER,)))
        board.put_reports(host_id, Reports(NodeId(f"n{host_id}"), host_id))
    board.put_orders(2, Orders(NodeId("n2")))
    found = [board.orders(each) for each in (1, 2, 3, 250)]
    assert [len(each.orders) for each in found if each is not None] == [1, 0, 0, 1]
    said = [board.reports(each) for each in (1, 2, 3, 250)]
    assert [each.counter for each in said if each is not None] == [1, 2, 0, 250]
