"""Say what a journal tells to do with a definition when its operation is decided.

Pure. An action `define` of a plan carries a text: a change of a VM's snapshots, a
`Placing`, which puts a whole definition in place or takes it away, or what became of
a disk, which every definition can follow at any time. Applied again, all change
nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from node import wire
from node.contract import snapshots
from node.contract.snapshots import Change
from node.model.ids import DiskId, StorageDomainId, VmId
from node.model.vm import Disk, Vm, VmSpec


@dataclass(frozen=True, slots=True)
class Placing:
    """A definition as it shall be; of a VM, or of a template."""

    places: VmId  # which; no change of snapshots has this field
    home: StorageDomainId
    based_on: int  # the generation before; 0: there is none
    vm: Vm | None = None  # None: it goes, and leaves a tombstone


@dataclass(frozen=True, slots=True)
class DiskMoved:
    """A disk lies on another storage domain from now on."""

    moves: DiskId  # no other text has this field
    vm_id: VmId
    source: StorageDomainId
    target: StorageDomainId


@dataclass(frozen=True, slots=True)
class DiskGone:
    """A disk is removed, with all that snapshots keep of it."""

    loses: DiskId  # no other text has this field
    vm_id: VmId


Defined = Change | Placing | DiskMoved | DiskGone
_KINDS: Final[Mapping[str, type[Defined]]] = {
    "places": Placing,
    "moves": DiskMoved,
    "loses": DiskGone,
}


def write(defined: Defined) -> str:
    """Return the text of an action."""
    return wire.encode(defined).decode()


def read(text: str) -> Defined:
    """Return what a text tells to do; Invalid if it is none of ours."""
    body = wire.parse(text.encode(), strict=True)
    named = [key for key in _KINDS if isinstance(body, dict) and key in body]
    kind: type[Defined] = _KINDS[named[0]] if named else Change
    return wire.from_json(kind, body)


def subject(defined: Defined) -> VmId:
    """Return whose definition it is about."""
    return defined.places if isinstance(defined, Placing) else defined.vm_id


def names(vm: Vm, disk_id: str, storage_domain_id: str) -> bool:
    """Tell whether a VM has this disk there, or had it, as a snapshot keeps."""
    specs = [vm.spec] if vm.preview is None else [vm.spec, vm.preview.spec]
    places = {
        disk.storage_domain_id
        for spec in specs
        for disk in spec.disks
        if disk.disk_id == disk_id
    }
    is_kept = any(disk_id == each for each, _ in snapshots.taken(vm))
    return storage_domain_id in places or (is_kept and not places)


def follow(vm: Vm, defined: DiskMoved | DiskGone) -> Vm:
    """Return a definition after what became of a disk; the same if it knows."""
    if isinstance(defined, DiskMoved):
        return _renewed(vm, _moved(vm, defined))
    return _renewed(vm, _without(vm, defined.loses))


def home_of(vm: Vm, home: StorageDomainId) -> StorageDomainId:
    """Return where a definition belongs: it stays while one of the disks is there."""
    places = [d.storage_domain_id for d in vm.spec.disks if d.storage_domain_id]
    return home if home in places or not places else places[0]


def _moved(vm: Vm, moved: DiskMoved) -> Vm:
    def turn(disk: Disk) -> Disk:
        is_it = (disk.disk_id, disk.storage_domain_id) == (moved.moves, moved.source)
        return replace(disk, storage_domain_id=moved.target) if is_it else disk

    return _turned(vm, lambda disks: tuple(map(turn, disks)))


def _without(vm: Vm, disk_id: DiskId) -> Vm:
    after = _turned(vm, lambda disks: tuple(d for d in disks if d.disk_id != disk_id))
    return replace(
        after,
        # The slots of its devices, whose names end with its id.
        addresses=tuple(e for e in vm.addresses if not e[0].endswith(disk_id)),
        snapshots=tuple(
            replace(each, disks=tuple(d for d in each.disks if d.disk_id != disk_id))
            for each in after.snapshots
        ),
    )


def _turned(vm: Vm, turn: Callable[[tuple[Disk, ...]], tuple[Disk, ...]]) -> Vm:
    """Return a definition with other disks, wherever it tells of them."""

    def of(spec: VmSpec) -> VmSpec:
        return replace(spec, disks=turn(spec.disks))

    preview = vm.preview
    return replace(
        vm,
        spec=of(vm.spec),
        preview=preview and replace(preview, spec=of(preview.spec)),
        snapshots=tuple(
            replace(each, spec=each.spec and of(each.spec)) for each in vm.snapshots
        ),
    )


def _renewed(vm: Vm, after: Vm) -> Vm:
    return vm if after == vm else replace(after, generation=vm.generation + 1)
