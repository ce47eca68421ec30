"""Attach a disk: a block device in one file, or in a chain of them. Pure.

All layers are named with their formats, so that neither libvirt nor QEMU believes
what a guest wrote into one.
"""

from lxml import etree

from node.contract.volumes import Layer, OpenVolume
from node.model.ids import DiskId
from node.model.storage import DiskQos
from node.model.vm import Disk
from node.vm.devices import drive, element

_SERIAL_LENGTH = 20  # virtio block devices keep no more of it
_IOTUNE = {
    "total_bytes_s": "total_bytes_sec",
    "read_bytes_s": "read_bytes_sec",
    "write_bytes_s": "write_bytes_sec",
    "total_iops": "total_iops_sec",
    "read_iops": "read_iops_sec",
    "write_iops": "write_iops_sec",
}


def alias(disk_id: DiskId) -> str:
    """Return the name that a disk has for us and, after ua-, in libvirt."""
    return f"disk-{disk_id}"


def key(disk: Disk) -> str:
    """Return what the disk's place is kept under; it ends with its alias."""
    return drive.key(disk, alias(disk.disk_id))


def target(disk: Disk, position: int) -> str:
    """Return the name of the device by position: vda to vdz, then vdaa."""
    letters = ""
    position += 1
    while position:
        position, letter = divmod(position - 1, 26)
        letters = chr(ord("a") + letter) + letters
    return f"{drive.BUSES[disk.interface][1]}{letters}"


def build(
    disk: Disk,
    opened: OpenVolume,
    position: int,
    address: etree._Element,
    boot_order: int | None,
) -> etree._Element:
    """Return the disk; boot order from 1, None if the VM never boots from it.

    What the guest writes to comes first, then all beneath.
    """
    top, *rest = opened.layers
    manner = opened.manner
    qos = disk.qos if opened.qos is None else opened.qos
    result = element.make(
        "disk",
        element.make(
            "driver",
            name="qemu",
            type=top.disk_format,
            cache=manner.cache,
            error_policy=manner.on_error,
            # of reads there is no policy for a full disk
            rerror_policy="report" if manner.on_error == "report" else "stop",
            io="threads",
            discard="unmap" if manner.does_discard else "ignore",
        ),
        _source(top),
        type="file",
        device="disk",
    )
    if disk.storage_domain_id is not None:
        result.append(_backing(rest))
    bus, _ = drive.BUSES[disk.interface]
    result.append(element.make("target", dev=target(disk, position), bus=bus))
    if qos != DiskQos():
        result.append(_iotune(qos))
    if disk.is_read_only:
        result.append(element.make("readonly"))
    if disk.is_shared:
        result.append(element.make("shareable"))
    if boot_order is not None:
        result.append(element.make("boot", order=boot_order))
    result.append(element.make("serial", text=disk.disk_id[:_SERIAL_LENGTH]))
    result.append(element.make("alias", name=f"ua-{alias(disk.disk_id)}"))
    result.append(address)
    return result


def tuning(qos: DiskQos) -> dict[str, int]:
    """Return limits by libvirt's names; 0 is none."""
    return {tag: getattr(qos, name) for name, tag in _IOTUNE.items()}


def read_tuning(disk: etree._Element) -> DiskQos:
    """Return the limits that a disk in a domain's XML has."""
    said = {name: disk.findtext(f"iotune/{tag}") for name, tag in _IOTUNE.items()}
    return DiskQos(**{name: int(text) for name, text in said.items() if text})


def _source(layer: Layer) -> etree._Element:
    source = element.make("source", file=layer.path.as_posix())
    # The files are ours, made with the right owner: libvirt leaves them alone.
    source.append(element.make("seclabel", model="dac", relabel="no"))
    return source


def _backing(layers: list[Layer]) -> etree._Element:
    """Return what is beneath; an empty element says that nothing is."""
    if not layers:
        return element.make("backingStore")
    first, *rest = layers
    return element.make(
        "backingStore",
        element.make("format", type=first.disk_format),
        _source(first),
        _backing(rest),
        type="file",
    )


def _iotune(qos: DiskQos) -> etree._Element:
    limits = [
        element.make(tag, text=str(limit))
        for tag, limit in tuning(qos).items()
        if limit
    ]
    return element.make("iotune", *limits)
