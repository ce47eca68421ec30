"""Test what the guest's builder decides."""

import struct

import pytest

from tests.lab import guest

DEPENDENCIES = """\
kernel/virtio/virtio.ko: kernel/virtio/virtio_ring.ko
kernel/virtio/virtio_ring.ko:
kernel/net/virtio_net.ko: kernel/net/failover.ko kernel/virtio/virtio.ko
kernel/net/failover.ko:
kernel/char/virtio-rng.ko.xz: kernel/virtio/virtio.ko
"""


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (["virtio_ring"], ["virtio_ring"]),
        (["virtio"], ["virtio_ring", "virtio"]),
        (["virtio_net"], ["failover", "virtio_ring", "virtio", "virtio_net"]),
        (["virtio", "virtio_ring"], ["virtio_ring", "virtio"]),
        (["virtio_rng"], ["virtio_ring", "virtio", "virtio-rng"]),
        (["built_in"], []),
    ],
    ids=["alone", "one", "many", "once", "dash-and-compressed", "built-in"],
)
def test_load_order_has_each_module_after_its_needs(
    wanted: list[str], expected: list[str]
) -> None:
    order = guest.load_order(DEPENDENCIES, wanted)
    names = [path.rpartition("/")[2].partition(".ko")[0] for path in order]
    assert names == expected


def test_boot_sector_has_one_bootable_partition_after_a_mebibyte() -> None:
    sector = guest.boot_sector(b"code", 31 << 20)
    assert len(sector) == 512
    assert sector.startswith(b"code\0")
    assert sector[510:] == b"\x55\xaa"
    status, kind, start, count = struct.unpack("<B3xB3xII", sector[446:462])
    assert (status, kind, start, count) == (0x80, 0x0E, 2048, 31 * 2048)
    assert sector[462:510] == bytes(48)
