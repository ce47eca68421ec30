"""Describe which custom properties there are, and decide what they may hold.

A fleet declares properties of VMs, cards, disks and networks, each with a pattern that
its values match from end to end. What comes with every fleet is what oVirt predefines
(its cluster level 4.7). Nodes do not know declarations: they check what any property
must be (`node.policy.properties`), so that a VM whose property is not declared any more
still starts. Pure.

A pattern is as dear as its author makes it: on some, matching takes time that doubles
with each character. So only who may configure the fleet declares, and texts are short.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from aggregator.federation.view import View
from node import wire
from node.errors import Invalid
from node.model.hooks import HookPoint
from node.model.properties import CustomProperty
from node.model.vm import VmSpec
from node.policy import properties

PATTERN_MAX: Final = 1024  # characters; oVirt's longest has seventy
HELP_MAX: Final = 1024  # characters: a paragraph
_SCRIPT: Final = re.compile(r"[^/\s\x00]{1,255}")  # what a folder can hold, bar blanks


class Level(StrEnum):
    """What has the property."""

    VM = "vm"
    NIC = "nic"
    DISK = "disk"
    NETWORK = "network"

    @property
    def label(self) -> str:
        return _LABELS[self]


_LABELS: Final = {
    Level.VM: "VM",
    Level.NIC: "network card",
    Level.DISK: "disk",
    Level.NETWORK: "network",
}


@dataclass(frozen=True, slots=True)
class Declaration:
    level: Level
    name: str
    pattern: str  # Python's, which a whole value matches
    help: str = ""
    is_predefined: bool = False
    needs_hook: str = ""  # POINT/SCRIPT that a node must have; empty: none


Declarations = Mapping[tuple[Level, str], Declaration]


class BadPattern(Invalid):
    code = "bad_property_pattern"
    remedy = "Give a regular expression such as ^[0-9]+$ that is not long."


class BadHelp(Invalid):
    code = "bad_property_help"
    remedy = f"Give a text of at most {HELP_MAX} characters."


class BadNeededHook(Invalid):
    code = "bad_needed_hook"
    remedy = "Give a point and a script, such as before_vm_start/50_pincpu."


class UndeclaredProperty(Invalid):
    code = "undeclared_property"
    remedy = "Declare it first (`skerry property declare`), or leave it out."


class BadPropertyValue(Invalid):
    code = "bad_property_value"
    remedy = "Give a value that matches the pattern; see `skerry property list`."


def _predefined(name: str, pattern: str, text: str) -> Declaration:
    return Declaration(Level.VM, name, pattern, text, is_predefined=True)


PREDEFINED: Final = tuple(
    _predefined(*row)
    for row in (
        (
            "sap_agent",
            "^(true|false)$",
            "Whether the guest reads figures of its host, as SAP wants them (vhostmd).",
        ),
        ("sndbuf", "^[0-9]+$", "Bytes that a card's back end buffers; 0: no limit."),
        (
            "vhost",
            "^(([a-zA-Z0-9_-]*):(true|false))(,(([a-zA-Z0-9_-]*):(true|false)))*$",
            "Networks whose cards use vhost or not, such as ovirtmgmt:false.",
        ),
        (
            "viodiskcache",
            "^(none|writeback|writethrough)$",
            "How the host caches disks on virtio.",
        ),
        ("hugepages", "^[0-9]+$", "Size in KiB of the pages that back the memory."),
        (
            "scsi_hostdev",
            "^(scsi_generic|scsi_block|scsi_hd|virtio_blk_pci)$",
            "How SCSI devices of the host are passed to the guest.",
        ),
        (
            "nvram_template",
            "^.*$",
            "File whose copy the firmware's variables start as.",
        ),
        (
            "extra_cpu_flags",
            "^([+-]?[a-zA-Z0-9_-]+)(,[+-]?[a-zA-Z0-9_-]+)*$",
            "Flags of the processor to add or take away, such as +vmx,-mpx.",
        ),
    )
)


@dataclass(frozen=True, slots=True)
class Holder:
    """A VM or a device of it, with what it holds."""

    level: Level
    device_id: str | None  # None: the VM itself
    name: str
    properties: tuple[CustomProperty, ...]


@dataclass(frozen=True, slots=True)
class _Held:
    custom_properties: tuple[CustomProperty, ...] = ()


@dataclass(frozen=True, slots=True)
class _SpecBrief:
    custom_properties: tuple[CustomProperty, ...] = ()
    nics: tuple[_Held, ...] = ()
    disks: tuple[_Held, ...] = ()


@dataclass(frozen=True, slots=True)
class _Brief:
    """What is looked at in a VM's or template's document."""

    spec: _SpecBrief = field(default_factory=_SpecBrief)


def all_of(declared: Iterable[Declaration]) -> dict[tuple[Level, str], Declaration]:
    """Return what was declared, with what comes with every fleet, by level and name."""
    found = {(each.level, each.name): each for each in (*declared, *PREDEFINED)}
    places = {level: place for place, level in enumerate(Level)}
    return {key: found[key] for key in sorted(found, key=lambda k: (places[k[0]], k))}


def check_declaration(wanted: Declaration) -> None:
    """Refuse what cannot be declared.

    BadProperty, BadPattern, BadHelp, BadNeededHook.
    """
    properties.check_name(wanted.name)
    if not wanted.pattern or len(wanted.pattern) > PATTERN_MAX:
        text = f"the pattern of {wanted.name} needs 1 to {PATTERN_MAX} characters"
        raise BadPattern(text, field="pattern")
    try:
        re.compile(wanted.pattern)
    except (re.error, OverflowError, RecursionError) as error:
        text = f"the pattern of {wanted.name} is no regular expression: {error}"
        raise BadPattern(text, field="pattern") from error
    if len(wanted.help) > HELP_MAX:
        raise BadHelp(f"the help of {wanted.name} is too long", field="help")
    _check_needed_hook(wanted)


def holders(spec: VmSpec) -> Iterator[Holder]:
    """Yield a VM, its cards and its disks with their properties."""
    yield Holder(Level.VM, None, spec.name, spec.custom_properties)
    for nic in spec.nics:
        yield Holder(Level.NIC, nic.nic_id, nic.name, nic.custom_properties)
    for disk in spec.disks:
        yield Holder(Level.DISK, disk.disk_id, disk.name, disk.custom_properties)


def needed_hooks(declared: Declarations, spec: VmSpec) -> tuple[str, ...]:
    """Return what a VM's properties, and its devices', need of a node; sorted."""
    known = (
        declared.get((holder.level, each.name))
        for holder in holders(spec)
        for each in holder.properties
    )
    needed = {each.needs_hook for each in known if each is not None}
    return tuple(sorted(needed - {""}))


def complaints(
    declared: Declarations,
    level: Level,
    wanted: Iterable[CustomProperty],
    known: Iterable[CustomProperty] = (),
) -> dict[str, Invalid]:
    """Return by name what is wrong with each; what was known already is not asked.

    So a VM can be changed that came with a property which nobody has declared here.
    """
    old = frozenset(known)
    found: dict[str, Invalid] = {}
    for each in wanted:
        if each not in old:
            complaint = _complaint(declared, level, each)
            if complaint is not None:
                found[each.name] = complaint
    return found


def check(
    declared: Declarations,
    level: Level,
    wanted: Iterable[CustomProperty],
    known: Iterable[CustomProperty] = (),
) -> None:
    """Refuse the first that is wrong.

    BadProperty, UndeclaredProperty, BadPropertyValue.
    """
    asked = tuple(wanted)
    properties.check(asked)
    for complaint in complaints(declared, level, asked, known).values():
        raise complaint


def check_all(
    declared: Declarations, spec: VmSpec, known: VmSpec | None = None
) -> None:
    """Check a new VM and its devices; `known`: the template that it is made of."""
    old = frozenset(each for holder in _held(known) for each in holder.properties)
    for holder in holders(spec):
        check(declared, holder.level, holder.properties, old)


def check_change(
    declared: Declarations,
    spec: VmSpec,
    device_id: str | None,
    wanted: Iterable[CustomProperty],
) -> None:
    """Check what a VM or a device of it is to have; NoSuchDevice, and as `check`."""
    known = properties.of(spec, device_id)
    level = next(e.level for e in holders(spec) if e.device_id == device_id)
    check(declared, level, wanted, known)


def users(view: View, level: Level, name: str) -> list[str]:
    """Return the names of VMs and templates with the property, sorted."""
    documents = [(each.name, each.vm_document) for each in view.vms.values()]
    documents += [(each.name, each.document) for each in view.templates.values()]
    sign = wire.encode(name)
    # Most have none: only those are read that have the name in them.
    return sorted(
        each
        for each, document in documents
        if sign in document and _uses(document, level, name)
    )


def _uses(document: bytes, level: Level, name: str) -> bool:
    spec = wire.decode(_Brief, document, strict=False).spec
    held = {
        Level.VM: spec.custom_properties,
        Level.NIC: [one for nic in spec.nics for one in nic.custom_properties],
        Level.DISK: [one for disk in spec.disks for one in disk.custom_properties],
    }
    return any(each.name == name for each in held.get(level, ()))


def _check_needed_hook(wanted: Declaration) -> None:
    if not wanted.needs_hook:
        return
    point, _, script = wanted.needs_hook.partition("/")
    if point not in list(HookPoint) or not _SCRIPT.fullmatch(script):
        text = f"there can be no hook {wanted.needs_hook:.100}"
        raise BadNeededHook(text, field="needs_hook")
    if wanted.level is Level.NETWORK:
        text = f"{wanted.name} is of networks, which are not placed"
        raise BadNeededHook(text, field="needs_hook")


def _held(spec: VmSpec | None) -> Iterable[Holder]:
    return () if spec is None else holders(spec)


def _complaint(
    declared: Declarations, level: Level, wanted: CustomProperty
) -> Invalid | None:
    try:
        properties.check([wanted])
    except Invalid as error:
        return error
    declaration = declared.get((level, wanted.name))
    if declaration is None:
        return UndeclaredProperty(
            f"there is no custom property {wanted.name} of a {level.label}",
            field="custom_properties",
            name=wanted.name,
        )
    if re.fullmatch(declaration.pattern, wanted.value):
        return None
    return BadPropertyValue(
        f"custom property {wanted.name} cannot be {wanted.value!r:.200}: it must match"
        f" {declaration.pattern}",
        field="custom_properties",
        name=wanted.name,
        value=wanted.value,
        pattern=declaration.pattern,
    )
