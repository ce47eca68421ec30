"""Limits of a disk, as people read and type them."""

import pytest

from aggregator.dashboard import disk_limits
from aggregator.dashboard.drafts import BadDraft
from node.model.storage import DiskQos


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        pytest.param(DiskQos(), "", id="none"),
        pytest.param(DiskQos(5000), "5,000 operations/s", id="operations"),
        pytest.param(
            DiskQos(read_iops=10, write_iops=20), "10 reads/s, 20 writes/s", id="apart"
        ),
        pytest.param(DiskQos(total_bytes_s=10_000_000), "10 MB/s", id="bytes"),
        pytest.param(DiskQos(write_bytes_s=1500), "1.5 kB/s written", id="slow"),
    ],
)
def test_text_lists_limits(limits: DiskQos, text: str) -> None:
    assert disk_limits.text(limits) == text


@pytest.mark.parametrize(
    ("form", "limits"),
    [
        pytest.param({}, DiskQos(), id="nothing-typed"),
        pytest.param({"total_iops": " 7 "}, DiskQos(7), id="spaces"),
        pytest.param({"total_bytes_s": "0,5"}, DiskQos(total_bytes_s=500_000), id="mb"),
    ],
)
def test_read_understands_what_is_typed(form: dict[str, str], limits: DiskQos) -> None:
    assert disk_limits.read(form) == limits


def test_read_keeps_what_was_shown() -> None:
    now = DiskQos(total_iops=1_000_000, read_bytes_s=10_485_761_234)
    shown = {field.name: field.value for field in disk_limits.fields(now)}
    assert shown["total_iops"] == "1000000"
    assert disk_limits.read(shown) == now


@pytest.mark.parametrize("typed", ["-1", "x", "1e9", "1 000"])
def test_read_refuses_what_is_no_number(typed: str) -> None:
    with pytest.raises(BadDraft) as caught:
        disk_limits.read({"write_iops": typed})
    assert caught.value.fields["field"] == "write_iops"
