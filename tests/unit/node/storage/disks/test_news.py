"""Which event tells of a job on disks."""

from typing import Any

import pytest

from node.model import messages
from node.storage.disks import news, tasks
from node.storage.disks.chain_problems import Kind
from node.storage.formats.volume_meta import Allocation, Format
from node.storage.operations.copy import CopyOf
from node.storage.operations.volumes import NewVolume
from tests.unit.node.storage.examples import IMAGE, OTHER_IMAGE, OTHER_SD, SD

NEW = NewVolume(IMAGE, "", 512, Format.RAW, Allocation.SPARSE, 0)


@pytest.mark.parametrize(
    ("task", "text"),
    [
        (tasks.Create(IMAGE, SD, NEW), "Disk root was created."),
        (tasks.Delete(IMAGE, SD), "Disk root was deleted."),
        (
            tasks.Delete(IMAGE, OTHER_SD, is_copy=True),
            "The copy of disk root on second was deleted.",
        ),
        (tasks.Resize(IMAGE, SD, 512), "Disk root has 512 bytes."),
        (tasks.Change(IMAGE, SD, "{}"), "Disk root was changed."),
        (tasks.Sparsify(IMAGE, SD), "Disk root gave back what it does not use."),
        (
            tasks.Copy(IMAGE, OTHER_SD, OTHER_IMAGE, SD, CopyOf(IMAGE, "", 0)),
            "Disk root was copied to second.",
        ),
        (tasks.Move(IMAGE, SD, OTHER_SD), "Disk root was moved to second."),
        (
            tasks.Repair(IMAGE, SD, Kind.ILLEGAL_ALONE, ""),
            f"Disk root was repaired: {Kind.ILLEGAL_ALONE}.",
        ),
    ],
    ids=lambda each: type(each).__name__ if not isinstance(each, str) else "text",
)
def test_event_of_a_job_says_what_was_done(task: Any, text: str) -> None:
    names = {SD: "first", OTHER_SD: "second"}
    told = news.event_of(task, "root", lambda each: names[each])
    assert told is not None
    assert messages.text(*told) == text


def test_event_of_a_part_of_something_else_is_none() -> None:
    task = tasks.Discard(IMAGE, SD, "", "")
    assert news.event_of(task, "root", lambda each: each) is None
