"""Say who may import what. Pure. Source: DESIGN sections 1 and 2."""

import sys
from dataclasses import dataclass
from typing import Final

from tests.architecture import source
from tests.architecture.source import Source

# One door per library of the node: its one file there.
DOORS: Final = {
    "libvirt": "node/system/libvirt_hypervisor.py",
    "libvirt_qemu": "node/system/libvirt_hypervisor.py",
    "pyroute2": "node/system/netlink.py",
    "pyudev": "node/system/devices.py",
    "dbus": "node/system/bus.py",
    "gi": "node/system/bus.py",
    "psutil": "node/system/procfs.py",
    "sanlock": "node/system/leases.py",
    "subprocess": "node/system/command.py",
    "sqlite3": "node/store.py",
}

# The aggregator has no such thing to do, or does it in one file of its choice.
NEVER_IN_AGGREGATOR: Final = frozenset(
    {"libvirt", "libvirt_qemu", "pyroute2", "pyudev", "psutil", "sanlock"}
)
ONCE_IN_AGGREGATOR: Final = frozenset({"dbus", "gi", "subprocess"})

# Where each is looked for: the node has a door of its own for sqlite3.
DATABASE_LIBRARIES: Final = {
    "sqlalchemy": ("node", "aggregator"),
    "alembic": ("node", "aggregator"),
    "sqlite3": ("aggregator",),
}
DATABASE_FILES: Final = ("aggregator/db.py", "aggregator/migrations/")

# What the aggregator shares with the node; all else of it is the node's own.
SHARED: Final = (
    "node.model",
    "node.wire",
    "node.errors",
    "node.units",
    "node.clock",
    "node.log",
    "node.pki",
    "node.policy",
    "node.hook_bundle",
    "node.hooks.runner",
    # docs/decisions/0002-one-way-to-bind-verbs.md
    "node.http",
    "node.VERSION",
    "node.commands",
    "node.translate",
    "node.signals",
    "node.vault",
    # What the command line reads of images, and how it moves them.
    "node.storage.formats.qcow2",
    "node.transfer.moving",
    "node.transfer.remote",
)

SERVICES: Final = tuple(
    f"node.{name}"
    for name in ("vm", "storage", "network", "host", "hooks", "console", "guest")
)
FACES: Final = ("node.api", "node.tui", "node.cli", "node.app")


@dataclass(frozen=True, slots=True)
class Ban:
    who: str
    whom: tuple[str, ...]
    why: str
    but: tuple[str, ...] = ()


BANS: Final = (
    Ban("node", ("aggregator",), "a node is complete without an aggregator"),
    Ban("node", ("tests",), "the product does not know its tests"),
    Ban("aggregator", ("tests",), "the product does not know its tests"),
    Ban("aggregator", ("node",), "that is the node's own", but=SHARED),
    *(
        Ban(
            service,
            tuple(other for other in SERVICES if other != service),
            "siblings meet in node/app.py only",
        )
        for service in SERVICES
    ),
    *(
        Ban(service, FACES, "faces call services, not the other way")
        for service in SERVICES
    ),
    Ban(
        "node.system",
        (*SERVICES, *FACES, "node.store", "node.feed", "node.jobs", "node.policy"),
        "a door has no policy and no memory",
    ),
    *(
        Ban(
            module,
            (
                "node.transfer.__main__",
                "node.transfer.server",
                "node.transfer.images",
                "node.transfer.connection",
            ),
            "the agent does not load the transfer server: memory",
        )
        for module in ("node.app", *SERVICES, "node.transfer.client")
    ),
)

# They run, or are read, where nothing else is installed.
STANDARD_LIBRARY_ONLY: Final = {
    "node.model": ("node.model", "node.errors", "node.units"),
    "node.errors": (),
    "node.units": (),
    "hooks.hooking": (),
    "node.storage.process": (
        "node.storage.process",
        "node.storage.domains",
        "node.storage.formats.qcow2",
        "node.system.cgroups",
        "node.system.leases",
        "node.errors",
        "node.log",
        "node.units",
        "node.wire",
    ),
    "node.storage.process.kill": (),
    "node.transfer": (
        "node.transfer",
        "node.clock",
        "node.errors",
        "node.log",
        "node.signals",
        "node.units",
        "node.wire",
    ),
    "node.storage.process.file_operations": (
        "node.storage.domains",
        "node.storage.process.removing",
        "node.storage.process.syncing",
        "node.storage.formats.qcow2",
        "node.errors",
    ),
}

# Modules that decide: they cannot wait, log or fail half-way.
PURE: Final = (
    "node.model",
    "node.errors",
    "node.units",
    "node.contract.memories",
    "node.contract.volumes",
    "node.contract.snapshots",
    "node.contract.definitions",
    "node.contract.templates",
    "node.wire",
    "node.policy",
    "node.vm.domxml",
    "node.vm.devices",
    "node.vm.states",
    "node.storage.formats",
    "node.storage.disks.chain",
    "node.storage.disks.chain_problems",
    "node.storage.spm.pool_rules",
    "node.storage.formats.qcow2",
    "node.storage.operations",
    "node.storage.transfers.rules",
    "node.storage.disks.problems",
    "node.storage.ovf.description",
    "node.storage.disks.sights",
    "node.storage.disks.startable",
    "node.storage.documents",
    "node.storage.thin",
    "node.storage.mailbox",
    "node.network.plan",
    "node.transfer.checksum",
    "node.transfer.extents",
    "node.transfer.http_head",
    "node.transfer.nbd_wire",
    "node.transfer.ranges",
    "node.jobs.states",
    "node.store_schema",
    "node.hooks.points",
    "aggregator.federation.view",
    "aggregator.federation.beliefs",
    "aggregator.federation.conflicts",
    "aggregator.federation.storage_reading",
    "aggregator.federation.tolerant",
    "aggregator.control.actions",
    "aggregator.control.order",
    "aggregator.control.plans",
    "aggregator.control.routes",
    "aggregator.hooks.deeds",
    "aggregator.hooks.points",
    "aggregator.policies",
    "aggregator.scheduling",
    "aggregator.rest.search",
)
EFFECTS: Final = (
    "asyncio",
    "ctypes",
    "fcntl",
    "http",
    "logging",
    "mmap",
    "multiprocessing",
    "os",
    "platform",
    "queue",
    "random",
    "secrets",
    "select",
    "selectors",
    "shutil",
    "signal",
    "socket",
    "socketserver",
    "sqlite3",
    "ssl",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "urllib.request",
)
PURE_LIBRARIES: Final = ("lxml", "immutables")


def check_doors(sources: list[Source]) -> list[str]:
    """Return where a library of the node is imported outside its door."""
    return [
        f"{where}: {library} belongs to {DOORS[library]}"
        for file in source.python(sources, "node")
        for where, library in _libraries(file)
        if library in DOORS and file.path != DOORS[library]
    ]


def check_aggregator_doors(sources: list[Source]) -> list[str]:
    """Return where the aggregator reaches for the machine that it runs on."""
    found: list[str] = []
    first: dict[str, str] = {}
    for file in source.python(sources, "aggregator"):
        for where, library in _libraries(file):
            if library in NEVER_IN_AGGREGATOR:
                found.append(f"{where}: {library} is the node's")
            elif library in ONCE_IN_AGGREGATOR:
                door = first.setdefault(library, file.path)
                if door != file.path:
                    found.append(f"{where}: {library} is imported in {door} already")
    return found


def check_database(sources: list[Source]) -> list[str]:
    """Return where the database is reached past the aggregator's one file."""
    return [
        f"{where}: {library} belongs to {DATABASE_FILES[0]}"
        for name, folders in DATABASE_LIBRARIES.items()
        for file in source.python(sources, *folders)
        if not file.path.startswith(DATABASE_FILES)
        for where, library in _libraries(file)
        if library == name
    ]


def check_bans(sources: list[Source]) -> list[str]:
    """Return where one part of the product imports another that it may not."""
    return [
        f"{file.path}:{found.line}: {found.name}: {ban.why}"
        for file in source.python(sources, "node", "aggregator")
        for ban in BANS
        if source.is_below(file.module, (ban.who,))
        for found in source.imports(file)
        if source.is_below(found.name, ban.whom)
        and not source.is_below(found.name, ban.but)
    ]


def check_standard_library(sources: list[Source]) -> list[str]:
    """Return where a module that must stand alone imports something else."""
    return [
        f"{file.path}:{found.line}: {found.name} is not in the standard library"
        for file in source.python(sources, "node", "hooks")
        for who, own in STANDARD_LIBRARY_ONLY.items()
        if source.is_below(file.module, (who,))
        for found in source.imports(file)
        if not is_standard(found.name) and not source.is_below(found.name, own)
    ]


def check_pure(sources: list[Source]) -> list[str]:
    """Return where a pure module imports something that has effects."""
    return [
        f"{file.path}:{found.line}: {found.name} in a pure module"
        for file in source.python(sources, "node", "aggregator")
        if source.is_below(file.module, PURE)
        for found in source.imports(file)
        if not _may_pure_import(found.name)
    ]


def is_standard(name: str) -> bool:
    """Tell whether a dotted name is in Python's standard library."""
    return name.partition(".")[0] in sys.stdlib_module_names


def _may_pure_import(name: str) -> bool:
    if is_standard(name):
        return not source.is_below(name, EFFECTS)
    return source.is_below(name, (*PURE, *PURE_LIBRARIES))


def _libraries(file: Source) -> list[tuple[str, str]]:
    """Return (path:line, top-level name) of each import of a file."""
    return [
        (f"{file.path}:{found.line}", found.name.partition(".")[0])
        for found in source.imports(file)
    ]
