"""Let hooks say in which manner a guest uses a disk that was opened for it.

Scripts find what VDSM tells of a drive, as JSON. What counts of their edits is how the
guest uses the disk; where its data lies does not: a path that only a script knows
has no lease, no snapshots, and is not there where the VM starts next.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from node.contract.hooks import HookEditRefused, Hooks
from node.contract.volumes import Manner, OpenVolume
from node.model.hooks import HookPoint
from node.model.ids import DiskId
from node.model.storage import DiskFormat
from node.model.vm import Disk, Vm
from node.vm.devices import drive

# VDSM's words for what happens to a guest whose write fails, and libvirt's.
_ON_ERROR: Final = {"off": "stop", "on": "enospace", "report": "report"}
_CACHES: Final = ("none", "writethrough", "writeback", "directsync")
_FORMATS: Final = {DiskFormat.RAW: "raw", DiskFormat.QCOW2: "cow"}
_COUNT: Final = frozenset({"cache", "propagateErrors", "discard"})


def prepare_all(
    hooks: Hooks, vm: Vm, opened: Mapping[DiskId, OpenVolume]
) -> Mapping[DiskId, OpenVolume]:
    """Return the disks of a VM as scripts want them used; see `prepare`."""
    return {
        each.disk_id: prepare(hooks, vm, each, opened[each.disk_id])
        for each in vm.spec.disks
    }


def prepare(hooks: Hooks, vm: Vm, disk: Disk, opened: OpenVolume) -> OpenVolume:
    """Return a disk as scripts want it used; HookFailed, HookEditRefused."""
    given = describe(vm, disk, opened)
    point = HookPoint.AFTER_DISK_PREPARE
    edited = hooks.edit(point, vm, json.dumps(given), disk.custom_properties)
    for script, text in edited.edits:
        manner = _read(script, given, json.loads(text))
        opened = replace(opened, manner=manner)
    return opened


def describe(vm: Vm, disk: Disk, opened: OpenVolume) -> dict[str, Any]:
    """Return what VDSM tells of a drive, as far as it is known here."""
    top = opened.layers[0]
    return {
        "device": "disk",
        "diskType": "file",
        "iface": drive.BUSES[disk.interface][0],
        "poolID": vm.spec.pool_id or "",
        "domainID": disk.storage_domain_id or "",
        "imageID": disk.disk_id,
        "volumeID": top.path.name,
        "path": top.path.as_posix(),
        "format": _FORMATS[top.disk_format],
        "readonly": disk.is_read_only,
        "shared": "shared" if disk.is_shared else "none",
        "serial": disk.disk_id,
        "cache": opened.manner.cache,
        "propagateErrors": "off",
        "discard": opened.manner.does_discard,
    }


def _read(script: str, given: Mapping[str, Any], left: Any) -> Manner:
    """Return the manner that a script has left; HookEditRefused."""
    if not isinstance(left, dict):
        raise _refused(script, "it left something else than a disk")
    for name, value in given.items():
        if name not in _COUNT and left.get(name) != value:
            raise _refused(script, f"{name} of a disk is not for scripts to change")
    cache = left.get("cache")
    on_error = _ON_ERROR.get(str(left.get("propagateErrors")))
    discard = str(left.get("discard")).lower()
    if cache not in _CACHES:
        raise _refused(script, f"cache is one of {', '.join(_CACHES)}")
    if on_error is None:
        raise _refused(script, f"propagateErrors is one of {', '.join(_ON_ERROR)}")
    if discard not in ("true", "false"):
        raise _refused(script, "discard is true or false")
    return Manner(str(cache), on_error, discard == "true")


def _refused(script: str, why: str) -> HookEditRefused:
    return HookEditRefused(f"the edit of {script} does not count: {why}", script=script)
