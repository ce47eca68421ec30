"""What is kept of a disk besides its volumes, and what a file of it may hold."""

import hashlib
from dataclasses import replace

import pytest

from node.model.storage import BadDiskQos, DiskQos
from node.storage.formats import disk_options
from node.storage.formats.disk_options import (
    DAMAGED,
    DEFAULT,
    DiskOptions,
    NewerDiskOptions,
    NotShareable,
    OptionsChange,
)
from node.storage.formats.volume_meta import Format
from tests.unit.node.storage.examples import IMAGE, OTHER_IMAGE

FULL = DiskOptions(True, True, DiskQos(read_iops=5, write_bytes_s=1 << 40))
TEXT = disk_options.write(IMAGE, FULL)


def signed(body: str) -> bytes:
    digest = hashlib.sha256(body.encode()).hexdigest()
    return f"{body}\nsha256={digest}\n".encode()


@pytest.mark.parametrize("options", [FULL, DEFAULT], ids=["full", "default"])
def test_parse_returns_what_was_written(options: DiskOptions) -> None:
    data = disk_options.write(IMAGE, options).encode()
    assert disk_options.parse(data, IMAGE) == options


def test_fields_that_are_not_known_are_kept() -> None:
    body = f'{{"schema":1,"disk_id":"{IMAGE}","color":["red"],"is_shared":true}}'
    options = disk_options.parse(signed(body), IMAGE)
    assert (options.is_shared, options.others) == (True, '{"color":["red"]}')
    changed = disk_options.changed(options, OptionsChange(is_shared=False))
    text = disk_options.write(IMAGE, changed)
    assert '"color":["red"]' in text
    assert disk_options.parse(text.encode(), IMAGE) == changed


@pytest.mark.parametrize(
    "data",
    [
        b"",
        TEXT.encode()[:-1],
        TEXT.replace("true", "fals", 1).encode(),
        disk_options.write(OTHER_IMAGE, FULL).encode(),
        signed("[]"),
        signed('{"schema":1}'),
        signed(f'{{"schema":1,"disk_id":"{IMAGE}","is_shared":1}}'),
    ],
    ids=["empty", "cut", "changed", "other-disk", "list", "no-disk", "no-truth"],
)
def test_what_cannot_be_read_asks_for_wiping(data: bytes) -> None:
    assert disk_options.parse(data, IMAGE) == DAMAGED
    assert DAMAGED.wipe_after_delete


def test_newer_schema_is_refused() -> None:
    body = f'{{"schema":2,"disk_id":"{IMAGE}"}}'
    with pytest.raises(NewerDiskOptions):
        disk_options.parse(signed(body), IMAGE)


def test_change_leaves_what_it_does_not_name() -> None:
    for change, wanted in (
        (OptionsChange(), FULL),
        (OptionsChange(is_shared=False), replace(FULL, is_shared=False)),
        (
            OptionsChange(wipe_after_delete=False),
            replace(FULL, wipe_after_delete=False),
        ),
        (OptionsChange(qos=DiskQos()), replace(FULL, qos=DiskQos())),
    ):
        assert disk_options.changed(FULL, change) == wanted
    assert disk_options.changed(DAMAGED, OptionsChange()) == DAMAGED
    assert not disk_options.changed(DAMAGED, OptionsChange(is_shared=True)).is_damaged


@pytest.mark.parametrize(
    ("qos", "is_well"),
    [
        (DiskQos(), True),
        (DiskQos(total_iops=5, read_bytes_s=7, write_bytes_s=7), True),
        (DiskQos(total_iops=5, write_iops=5), False),
        (DiskQos(total_bytes_s=5, read_bytes_s=5), False),
        (DiskQos(read_iops=-1), False),
    ],
    ids=["none", "both-kinds", "iops-exclude", "bytes-exclude", "below-zero"],
)
def test_limits_are_checked(qos: DiskQos, is_well: bool) -> None:
    if is_well:
        disk_options.check(DiskOptions(qos=qos), Format.COW)
        return
    with pytest.raises(BadDiskQos):
        disk_options.check(DiskOptions(qos=qos), Format.COW)


def test_only_raw_disks_are_shared() -> None:
    disk_options.check(FULL, Format.RAW)
    with pytest.raises(NotShareable):
        disk_options.check(FULL, Format.COW)
