"""Say of each hook point what it is handed, and what its scripts can do. One table.

A script that fails where it may abort ends what is about to be done; elsewhere it is
told and nothing else. Where edits count, what the scripts make of their payload takes
its place. Source: VDSM's contract, docs/hooks.md.
"""

from collections.abc import Mapping
from typing import Final

from node.model.hooks import HookPoint, Payload, Point

_MIGRATION: Final = "migration"
_NICS: Final = "hot plug of network cards"
_DEVICES: Final = "changes of devices of a running VM"
_CPUS: Final = "hot plug of processors"
_MEMORY: Final = "hot plug of memory"
_NETWORKS: Final = "host networking"
_TICKETS: Final = "tickets of consoles"
_HOST_DEVICES: Final = "host devices"
_ONE_VM: Final = "figures that are asked of one VM"
# Somebody waits for the answer, and asks again soon.
_ANSWER_S: Final = 10.0
# The service is held up at a start or stop of the whole node.
_SERVICE_S: Final = 30.0

_DEVICE: Final = Payload.DEVICE


def _asked(waits_for: str = "", **what: bool) -> Point:
    return Point(Payload.JSON, timeout_s=_ANSWER_S, waits_for=waits_for, **what)


POINTS: Final[Mapping[str, Point]] = {
    HookPoint.BEFORE_VDSM_START: Point(Payload.NONE, timeout_s=_SERVICE_S),
    HookPoint.AFTER_VDSM_STOP: Point(Payload.NONE, timeout_s=_SERVICE_S),
    HookPoint.BEFORE_DEVICE_CREATE: Point(_DEVICE, may_abort=True, counts=True),
    HookPoint.AFTER_DEVICE_CREATE: Point(_DEVICE),
    HookPoint.BEFORE_DEVICE_DESTROY: Point(_DEVICE, may_abort=True),
    HookPoint.AFTER_DEVICE_DESTROY: Point(_DEVICE),
    HookPoint.BEFORE_UPDATE_DEVICE: Point(
        _DEVICE, may_abort=True, counts=True, waits_for=_DEVICES
    ),
    HookPoint.AFTER_UPDATE_DEVICE: Point(_DEVICE, waits_for=_DEVICES),
    HookPoint.AFTER_UPDATE_DEVICE_FAIL: Point(_DEVICE, waits_for=_DEVICES),
    HookPoint.BEFORE_VM_START: Point(may_abort=True, counts=True),
    HookPoint.AFTER_VM_START: Point(),
    HookPoint.BEFORE_VM_CONT: Point(may_abort=True),
    HookPoint.AFTER_VM_CONT: Point(),
    HookPoint.BEFORE_VM_PAUSE: Point(may_abort=True),
    HookPoint.AFTER_VM_PAUSE: Point(),
    HookPoint.BEFORE_VM_HIBERNATE: Point(may_abort=True),
    HookPoint.AFTER_VM_HIBERNATE: Point(),
    HookPoint.BEFORE_VM_DEHIBERNATE: Point(may_abort=True),
    HookPoint.AFTER_VM_DEHIBERNATE: Point(),
    HookPoint.BEFORE_VM_MIGRATE_SOURCE: Point(may_abort=True, waits_for=_MIGRATION),
    HookPoint.AFTER_VM_MIGRATE_SOURCE: Point(waits_for=_MIGRATION),
    HookPoint.BEFORE_VM_MIGRATE_DESTINATION: Point(
        may_abort=True, waits_for=_MIGRATION
    ),
    HookPoint.AFTER_VM_MIGRATE_DESTINATION: Point(waits_for=_MIGRATION),
    HookPoint.BEFORE_DEVICE_MIGRATE_SOURCE: Point(
        _DEVICE, may_abort=True, waits_for=_MIGRATION
    ),
    HookPoint.AFTER_DEVICE_MIGRATE_SOURCE: Point(_DEVICE, waits_for=_MIGRATION),
    HookPoint.BEFORE_DEVICE_MIGRATE_DESTINATION: Point(
        _DEVICE, may_abort=True, waits_for=_MIGRATION
    ),
    HookPoint.AFTER_DEVICE_MIGRATE_DESTINATION: Point(_DEVICE, waits_for=_MIGRATION),
    HookPoint.BEFORE_VM_DESTROY: Point(Payload.NONE),
    HookPoint.AFTER_VM_DESTROY: Point(),
    HookPoint.BEFORE_VM_SET_TICKET: Point(waits_for=_TICKETS),
    HookPoint.AFTER_VM_SET_TICKET: Point(waits_for=_TICKETS),
    HookPoint.BEFORE_NIC_HOTPLUG: Point(
        _DEVICE, may_abort=True, counts=True, waits_for=_NICS
    ),
    HookPoint.AFTER_NIC_HOTPLUG: Point(_DEVICE, waits_for=_NICS),
    HookPoint.AFTER_NIC_HOTPLUG_FAIL: Point(_DEVICE, waits_for=_NICS),
    HookPoint.BEFORE_NIC_HOTUNPLUG: Point(_DEVICE, may_abort=True, waits_for=_NICS),
    HookPoint.AFTER_NIC_HOTUNPLUG: Point(_DEVICE, waits_for=_NICS),
    HookPoint.AFTER_NIC_HOTUNPLUG_FAIL: Point(_DEVICE, waits_for=_NICS),
    HookPoint.AFTER_DISK_PREPARE: Point(Payload.JSON, may_abort=True, counts=True),
    HookPoint.BEFORE_DISK_HOTPLUG: Point(_DEVICE, may_abort=True, counts=True),
    HookPoint.AFTER_DISK_HOTPLUG: Point(_DEVICE),
    HookPoint.BEFORE_DISK_HOTUNPLUG: Point(_DEVICE, may_abort=True),
    HookPoint.AFTER_DISK_HOTUNPLUG: Point(_DEVICE),
    HookPoint.BEFORE_SET_NUM_OF_CPUS: Point(
        Payload.NONE, may_abort=True, waits_for=_CPUS
    ),
    HookPoint.AFTER_SET_NUM_OF_CPUS: Point(Payload.NONE, waits_for=_CPUS),
    HookPoint.BEFORE_MEMORY_HOTPLUG: Point(
        _DEVICE, may_abort=True, counts=True, waits_for=_MEMORY
    ),
    HookPoint.AFTER_MEMORY_HOTPLUG: Point(_DEVICE, waits_for=_MEMORY),
    HookPoint.BEFORE_NETWORK_SETUP: Point(
        Payload.JSON, may_abort=True, counts=True, waits_for=_NETWORKS
    ),
    HookPoint.AFTER_NETWORK_SETUP: Point(Payload.JSON, waits_for=_NETWORKS),
    HookPoint.AFTER_NETWORK_SETUP_FAIL: Point(Payload.JSON, waits_for=_NETWORKS),
    HookPoint.BEFORE_GET_VM_STATS: _asked(_ONE_VM, may_abort=True),
    HookPoint.AFTER_GET_VM_STATS: _asked(_ONE_VM, counts=True),
    HookPoint.BEFORE_GET_ALL_VM_STATS: _asked(may_abort=True),
    HookPoint.AFTER_GET_ALL_VM_STATS: _asked(counts=True),
    HookPoint.BEFORE_GET_CAPS: _asked(may_abort=True),
    HookPoint.AFTER_GET_CAPS: _asked(counts=True),
    HookPoint.BEFORE_GET_STATS: _asked(may_abort=True),
    HookPoint.AFTER_GET_STATS: _asked(counts=True),
    HookPoint.AFTER_HOSTDEV_LIST_BY_CAPS: _asked(_HOST_DEVICES, counts=True),
}
