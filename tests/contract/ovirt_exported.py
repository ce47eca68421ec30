"""Lay down on an export storage domain what oVirt leaves there: by hand, not by us."""

from node.storage.formats.volume_meta import Format
from tests.contract.disks import qemu_io, run
from tests.contract.export_scene import Exports
from tests.unit.node.storage.ovf import samples

PATTERN = 7


def lay_down(scene: Exports, text: str = samples.DOCUMENT) -> None:
    """Put an export of a VM with a snapshot there, whose disk holds a pattern."""
    scene.lay_document(samples.VM, text)
    base = scene.lay_volume(
        samples.DISK, samples.BASE, meta(scene.root.name, "RAW", "INTERNAL")
    )
    base.write_bytes(bytes([PATTERN]) * 65536 + bytes((4 << 20) - 65536))
    leaf = scene.lay_volume(
        samples.DISK,
        samples.LEAF,
        meta(scene.root.name, "COW", "LEAF", PUUID=samples.BASE),
    )
    words = ("create", "-q", "-f", "qcow2", "-u", "-b", samples.BASE, "-F", "raw")
    run("qemu-img", *words, str(leaf), "4M")
    qemu_io(leaf, Format.COW, f"write -P {PATTERN} 1M 64k")


def meta(domain: str, volume_format: str, kind: str, **others: str) -> str:
    """Return a volume's metadata, as those of storage domains before V5 are."""
    lines = {
        "CTIME": "1709251200",
        "DESCRIPTION": '{"DiskAlias":"web root","DiskDescription":""}',
        "DISKTYPE": "DATA",
        "DOMAIN": domain,
        "FORMAT": volume_format,
        "GEN": "0",
        "IMAGE": samples.DISK,
        "LEGALITY": "LEGAL",
        "MTIME": "0",
        "POOL_UUID": "",
        "PUUID": samples.NOTHING,
        "SIZE": "8192",  # blocks of 512 bytes
        "TYPE": "SPARSE",
        "VOLTYPE": kind,
        **others,
    }
    return "".join(f"{key}={value}\n" for key, value in lines.items()) + "EOF\n"
