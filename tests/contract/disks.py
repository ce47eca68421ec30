"""Two storage domains in a folder, qemu-img, and managers that stop at any point.

A point is a moment before, in or after one action that an operation does, as the
executor does it: nobody lists them by hand. Leases are a fake sanlock's.
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Final

import pytest

from node import wire
from node.contract import definitions, snapshots
from node.contract.definitions import DiskGone, DiskMoved, Placing
from node.errors import Error
from node.model.vm import Vm
from node.storage import allocate, wipe
from node.storage.disks import chain, startable
from node.storage.disks.actions import Home
from node.storage.disks.chain_problems import Problem
from node.storage.disks.executor import (
    Executor,
    Mandate,
    NobodyWatches,
    Order,
    Outcome,
)
from node.storage.domains.file import FileDomain
from node.storage.formats import layout
from node.storage.formats.layout import Layout
from node.storage.formats.volume_meta import Allocation, Format, VolumeMeta
from node.storage.guard import FILE_DEADLINE_S, GuardFiles
from node.storage.operations import create
from node.storage.operations.facts import Place, Site
from node.storage.operations.plan import Plan
from node.storage.operations.volumes import NewVolume
from node.storage.process import file_operations
from node.storage.process.file_operations import StorageFull
from node.storage.process.protocol import LockspaceAt, Need, ResourceAt, Step
from node.units import MiB
from tests.fakes.guard import FakeGuard, LocalFiles, Program
from tests.fakes.guard import Outcome as Ended
from tests.fakes.leases import FakeLeaseStorage
from tests.unit.node.storage.examples import OTHER_SD, SD

SIZE: Final = 4 * MiB
JOB: Final = "5cc55a2c-0000-4000-8000-000000000001"
READS: Final = frozenset(file_operations.READING)
FREES: Final = frozenset({"rename", "remove", "remove_tree"})
TIMEOUT_S: Final = 60.0
TORN: Final = "torn"  # half of it is there, as after a power cut
OURS: Final = (wipe, allocate)  # the programs that are Python's
MOMENTS: Final = ("before", TORN, "after")


# Marks of tests with the real qemu-img; they look at what guests would by qemu-io.
NEED_QEMU_UTILS: Final = [
    pytest.mark.real,
    pytest.mark.skipif(
        shutil.which("qemu-img") is None or shutil.which("qemu-io") is None,
        reason="needs qemu-utils",
    ),
]


class Crash(BaseException):
    """The manager is gone: no handler of errors sees it."""


@dataclass(slots=True)
class StoppingGuard(FakeGuard):
    """Counts the moments of what changes storage, and stops or fails at one of them."""

    stop_at: int | None = None  # the number of a moment
    refuse_at: int | None = None  # of an action: there is no space for it
    stays_full: bool = False  # nor for what else takes space, later
    moments: int = 0
    actions: int = 0
    told: list[str] = field(default_factory=list)

    def file(
        self,
        domain: str,
        root: str,
        operations: Sequence[Mapping[str, Any]],
        deadline_s: float = FILE_DEADLINE_S,
        needs: Sequence[Need] = (),
    ) -> tuple[Any, ...]:
        replies: list[Any] = []

        def act(operation: Mapping[str, Any]) -> None:
            # Zero arguments' super does not work in classes with slots.
            done = FakeGuard.file(self, domain, root, [operation], deadline_s, needs)
            replies.extend(done)

        for each in operations:
            if each["name"] in READS:
                act(each)
            else:
                name = str(each["name"])
                self._pass(name, partial(act, each), partial(_tear, each))
        return tuple(replies)

    def write_resource(self, resource: ResourceAt, needs: Sequence[Need] = ()) -> None:
        self._pass(
            "write_resource",
            lambda: FakeGuard.write_resource(self, resource, needs),
            lambda: None,
        )

    def run(
        self,
        step_id: str,
        argv: Sequence[str],
        needs: Sequence[Need] = (),
        folder: str = "/",
    ) -> Step:
        started: list[Step] = []
        known = {step.step_id for step in self.steps()}
        if step_id in known:
            return FakeGuard.run(self, step_id, argv, needs, folder)
        self._pass(
            name_of(argv),
            lambda: started.append(FakeGuard.run(self, step_id, argv, needs, folder)),
            lambda: _tear_program(argv, folder),
        )
        return started[0]

    def _pass(
        self, name: str, act: Callable[[], None], tear: Callable[[], None]
    ) -> None:
        self.told.append(name)
        number = self.actions
        self.actions += 1
        if number == self.refuse_at or self._is_full_for(number, name):
            raise StorageFull(f"no space for {name}")
        for moment in MOMENTS:
            if self.moments == self.stop_at:
                if moment is TORN:
                    tear()
                raise Crash(f"{moment} {name}")
            self.moments += 1
            if moment is TORN:
                act()

    def _is_full_for(self, number: int, name: str) -> bool:
        is_later = self.refuse_at is not None and number > self.refuse_at
        return self.stays_full and is_later and name not in FREES


@dataclass(frozen=True, slots=True)
class House:
    """Two storage domains; the first is the master."""

    folder: Path

    @property
    def sites(self) -> tuple[Site, Site]:
        return Site(SD), Site(OTHER_SD)

    @property
    def images(self) -> Path:
        """Where the base images of its nodes lie."""
        return self.folder / "images"

    def root(self, storage_domain_id: str) -> PurePosixPath:
        return PurePosixPath(self.folder, storage_domain_id)

    def make(self) -> None:
        for site in self.sites:
            for path in Layout(self.root(site.storage_domain_id)).folders():
                Path(path).mkdir(parents=True, exist_ok=True)

    def domain(self, storage_domain_id: str = SD) -> FileDomain:
        root = self.root(storage_domain_id)
        return FileDomain(LocalFiles(str(root)), root, Site(storage_domain_id))

    def look(
        self, image_id: str, storage_domain_id: str = SD, wanted: Sequence[str] = ()
    ) -> Place:
        return self.domain(storage_domain_id).look(image_id, wanted)

    def volume(
        self, image_id: str, volume_id: str, storage_domain_id: str = SD
    ) -> Path:
        root = self.root(storage_domain_id)
        return Path(Layout(root).volume(image_id, volume_id))

    def definition_path(self, vm_id: str) -> Path:
        return Path(Layout(self.root(SD)).vm(vm_id), "definition")

    def definition(self, vm_id: str) -> Vm:
        return wire.decode(Vm, self.definition_path(vm_id).read_bytes())

    def copy(self, folder: Path) -> "House":
        """Return a copy with the same holes and hard links, but written zeros."""
        seen: dict[int, Path] = {}
        for source in sorted(self.folder.rglob("*")):
            target = folder / source.relative_to(self.folder)
            inode = source.stat().st_ino
            if source.is_dir():
                target.mkdir(parents=True)
            elif inode in seen:
                target.hardlink_to(seen[inode])
            else:
                seen[inode] = target
                copy_file(source, target)
        return House(folder)

    def run(self, plan: Plan) -> None:
        """Carry out a plan that nothing disturbs."""
        manager = Manager.of(self)
        manager.execute(plan)

    def leftovers(self) -> list[str]:
        """Return what lies in the storage domains and belongs to no usable disk."""
        found = []
        for site in self.sites:
            paths = Layout(self.root(site.storage_domain_id))
            found += [str(path) for path in Path(paths.journals).iterdir()]
            found += [str(path) for path in self._options_left(paths)]
            for folder in Path(paths.images).iterdir():
                is_image = layout.is_id(folder.name)
                names = sorted(os.listdir(folder))
                ids = {name.partition(".")[0] for name in names}
                whole = sorted(
                    f"{each}{part}" for each in ids for part in ("", ".lease", ".meta")
                )
                if not is_image or names != whole:
                    found.append(f"{folder.name}: {names}")
        return found

    def _options_left(self, paths: Layout) -> list[Path]:
        """Return the options of disks that are not there, and halves of some."""
        folder = Path(paths.disks)
        names = list(folder.iterdir()) if folder.exists() else []
        return [each for each in names if not Path(paths.images, each.name).exists()]

    def startable(self) -> list[tuple[str, str, tuple[str, ...]]]:
        """Return the chains with which a guest may be started, leaf to base.

        Each with its storage domain and image.
        """
        found = []
        for site in self.sites:
            for image_id in self.domain(site.storage_domain_id).images():
                disk = self.look(image_id, site.storage_domain_id).disk
                assert disk is not None
                for volume_id in disk.image.volumes:
                    with contextlib.suppress(Error):
                        volumes = startable.startable(disk, volume_id)
                        found.append((site.storage_domain_id, image_id, volumes))
        return found

    def problems(self, wanted: Mapping[str, Sequence[str]]) -> list[str]:
        """Return what is wrong with any image; `wanted`: leaves, by image."""
        return [
            f"{problem.kind} {problem.volume_id}"
            for site in self.sites
            for image_id in self.domain(site.storage_domain_id).images()
            for problem in self.examine(site, image_id, wanted.get(image_id, ()))
        ]

    def examine(
        self, site: Site, image_id: str, wanted: Sequence[str]
    ) -> tuple[Problem, ...]:
        disk = self.look(image_id, site.storage_domain_id, wanted).disk
        assert disk is not None
        known = wanted if set(wanted) <= set(disk.image.volumes) else ()
        return chain.examine(replace(disk.image, wanted=frozenset(known)))

    def state(self) -> "State":
        """Return what guests and metadata say of each volume, and the space it takes.

        What only the leaves' guests can see counts, and what can still be previewed.
        """
        volumes: dict[tuple[str, str, str], tuple[VolumeMeta, str, int]] = {}
        for site in self.sites:
            domain = self.domain(site.storage_domain_id)
            for image_id in domain.images():
                disk = domain.look(image_id).disk
                assert disk is not None
                for volume_id, volume in disk.image.volumes.items():
                    assert volume.meta is not None
                    path = self.volume(image_id, volume_id, site.storage_domain_id)
                    key = (site.storage_domain_id, image_id, volume_id)
                    volumes[key] = (
                        replace(volume.meta, generation=0),
                        digest(path, chain.walk(disk.image, volume_id), volume.meta)
                        + f" {domain.options(image_id)}",
                        path.stat().st_blocks * 512,
                    )
        return volumes


State = Mapping[tuple[str, str, str], tuple[VolumeMeta, str, int]]


@dataclass(frozen=True, slots=True)
class Manager:
    """A node that manages the pool, until it stops."""

    guard: StoppingGuard
    executor: Executor
    version: int

    @classmethod
    def of(
        cls,
        house: House,
        leases: FakeLeaseStorage | None = None,
        host_id: int = 1,
    ) -> "Manager":
        guard = StoppingGuard(storage=leases or FakeLeaseStorage())
        guard.machine = str(host_id)
        guard.__post_init__()
        guard.programs = programs(guard)
        for site in house.sites:
            space = LockspaceAt(site.storage_domain_id, f"/{site.storage_domain_id}")
            if site.storage_domain_id not in guard.storage.lockspaces:
                guard.write_lockspace(space)
                FakeGuard.write_resource(guard, spm(site))
            guard.join(space, host_id)
        version = guard.acquire(spm(house.sites[0]))
        manager = cls(guard, executor(house, guard, version), version)
        guard.moments = guard.actions = 0
        guard.told.clear()
        return manager

    def execute(self, plan: Plan) -> None:
        order = Order(JOB, "test", JOB)
        self.executor.execute(order, plan, NobodyWatches())

    def again(self, house: House) -> "Manager":
        """Return the same node after its agent was started again."""
        self.guard.stop_at = self.guard.refuse_at = None
        return Manager(
            self.guard, executor(house, self.guard, self.version), self.version
        )

    def next(self, house: House) -> "Manager":
        """Return another node, which took the lease of this one after its death."""
        for site in house.sites:
            self.guard.storage.die(site.storage_domain_id, 1)
        return Manager.of(house, self.guard.storage, 2)

    def recover(self) -> "tuple[Recovered, ...]":
        return recover(self.executor)


@dataclass(frozen=True, slots=True)
class Recovered:
    """What became of one journal."""

    job_id: str
    outcome: Outcome | None = None  # None: it is left
    error: Error | None = None


def recover(executor: Executor) -> tuple[Recovered, ...]:
    """End all journals, one after the other, as jobs of the manager do."""
    found, others = executor.claim()
    done = []
    for each in found:
        try:
            outcome = executor.resume(each.job_id, NobodyWatches())
        except Error as error:
            done.append(Recovered(each.job_id, None, error))
        else:
            done.append(Recovered(each.job_id, outcome))
    return (*(Recovered(each.job_id, None, each.error) for each in others), *done)


def executor(
    house: House,
    guard: StoppingGuard,
    version: int,
    active: Iterable[str] = (SD, OTHER_SD),
) -> Executor:
    homes = {each: Home(str(house.root(each))) for each in active}
    need = Need(SD, layout.SPM_RESOURCE, version)
    needs = dict.fromkeys(homes, (need,))
    mandate = Mandate("node", version, needs)
    define = partial(_define, house, guard)
    return Executor(guard, homes, SD, mandate, define, images=house.images)


def _define(house: House, guard: StoppingGuard, text: str) -> None:
    """Apply a change to a definition, as its store does."""
    wanted = definitions.read(text)
    files = GuardFiles(guard, SD, str(house.root(SD)))
    if isinstance(wanted, Placing):
        _place(house, files, wanted)
        return
    before = house.definition(wanted.vm_id)
    if isinstance(wanted, DiskMoved | DiskGone):
        after = definitions.follow(before, wanted)
    else:
        after = snapshots.apply(before, wanted)
    if after is not before:
        path = str(house.definition_path(wanted.vm_id))
        files.write_whole(path, wire.encode(after), layout.FILE_MODE)


def _place(house: House, files: GuardFiles, wanted: Placing) -> None:
    path = house.definition_path(wanted.places)
    before = house.definition(wanted.places) if path.exists() else None
    if before == wanted.vm:
        return
    if (before.generation if before is not None else 0) != wanted.based_on:
        raise snapshots.DefinitionChanged(f"{wanted.places} is another one")
    if wanted.vm is None:
        files.remove(str(path))
        return
    files.make_folder(str(path.parent), layout.FOLDER_MODE)
    files.write_whole(str(path), wire.encode(wanted.vm), layout.FILE_MODE)


def spm(site: Site) -> ResourceAt:
    return ResourceAt(
        site.storage_domain_id, layout.SPM_RESOURCE, "/leases", MiB, 512, MiB
    )


def programs(guard: FakeGuard) -> dict[str, Program]:
    """Return the real qemu-img and the real wiping, run here and now."""

    def start(argv: tuple[str, ...]) -> Ended:
        done = subprocess.run(
            argv,
            cwd=guard.runs[-1].folder,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def python(argv: tuple[str, ...]) -> Ended:
        if name_of(argv) == "wipe":
            wipe.wipe(argv[5])
        else:
            allocate.allocate(argv[5], int(argv[6]))
        return Ended()

    name = PurePosixPath(os.path.realpath(sys.executable)).name
    return {"qemu-img": start, "python3": python, name: python}


def name_of(argv: Sequence[str]) -> str:
    """Return what a program is called in the stories of these tests."""
    if argv[0] == "qemu-img":
        return f"qemu-img {argv[1]}"
    names = {Path(str(each.__file__)).read_text(): each.__name__ for each in OURS}
    return names[argv[4]].rpartition(".")[2]


def run(*words: str) -> str:
    done = subprocess.run(
        words, check=True, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    return done.stdout


def identity(path: Path) -> tuple[int, int, int] | None:
    """Return what changes when a file is written or replaced; None: it is gone."""
    if not path.exists():
        return None
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def commit_live(base: str, top: str) -> None:
    """Copy what QEMU would, and let what is above name the lower one."""
    run("qemu-img", "commit", "-q", "-d", "-b", base, top)
    for path in Path(top).parent.iterdir():
        if "." in path.name or path.read_bytes()[:4] != b"QFI\xfb":
            continue
        name = Path(top).name.encode()
        if path.name != Path(top).name and name in path.read_bytes()[:4096]:
            words = ("-u", "-f", "qcow2", "-F", "qcow2", "-b", Path(base).name)
            run("qemu-img", "rebase", "-q", *words, str(path))


def qemu_io(path: Path, volume_format: Format, *commands: str) -> None:
    """Do what a guest would, or check what it reads."""
    kind = "qcow2" if volume_format is Format.COW else "raw"
    words = [word for command in commands for word in ("-c", command)]
    said = run("qemu-io", "-f", kind, *words, str(path))
    assert "verification failed" not in said, said


_digests: dict[tuple[str, ...], str] = {}


def digest(path: Path, volumes: Sequence[str], meta: VolumeMeta) -> str:
    """Return what a guest would read, in short; asked once for the same files."""
    key = tuple(sha(path.with_name(each)) for each in volumes)
    if key not in _digests:
        kind = "qcow2" if meta.volume_format is Format.COW else "raw"
        raw = path.with_name("as-raw")
        run("qemu-img", "convert", "-f", kind, "-O", "raw", str(path), str(raw))
        _digests[key] = f"{raw.stat().st_size} {sha(raw)}"
        raw.unlink()
    return _digests[key]


def copy_file(source: Path, target: Path) -> None:
    with source.open("rb") as old, target.open("wb") as new:
        size = os.fstat(old.fileno()).st_size
        new.truncate(size)
        place = 0
        while place < size:
            try:
                place = os.lseek(old.fileno(), place, os.SEEK_DATA)
            except OSError:  # there are only holes left
                return
            end = os.lseek(old.fileno(), place, os.SEEK_HOLE)
            os.pwrite(new.fileno(), os.pread(old.fileno(), end - place, place), place)
            place = end


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def new(image_id: str, volume_id: str, **fields: Any) -> NewVolume:
    """Return a thin qcow2 volume, unless said otherwise."""
    wanted = NewVolume(image_id, volume_id, SIZE, Format.COW, Allocation.SPARSE, 1)
    return replace(wanted, **fields)


def make_disk(
    house: House, image_id: str, volume_id: str, *writes: str, **fields: Any
) -> None:
    """Make a disk on the master and write to it."""
    request = new(image_id, volume_id, **fields)
    house.run(create.make(house.look(image_id), request))
    if writes:
        path = house.volume(image_id, volume_id)
        qemu_io(path, request.volume_format, *writes)


def _tear(operation: Mapping[str, Any]) -> None:
    """Leave what a worker leaves that is killed in the middle."""
    path = Path(str(operation.get("path")))
    if operation["name"] in ("write_whole", "make_file", "make_qcow2"):
        path.with_name(f"{path.name}.new").write_bytes(b"half")
    elif operation["name"] == "remove_tree" and path.is_dir():
        for each in sorted(path.iterdir())[:2]:
            each.unlink()


def _tear_program(argv: Sequence[str], folder: str) -> None:
    """Leave what a killed program leaves in the file that it makes."""
    if argv[0] == "qemu-img" and argv[1] in ("create", "convert"):
        target = argv[-2] if argv[1] == "create" else argv[-1]
        Path(folder, target).write_bytes(b"half" * 4096)


def code_of(act: Callable[[], object]) -> str:
    """Return the code of the error that a call ends with; empty: none."""
    try:
        act()
    except Error as error:
        return error.code
    return ""
