"""Measure operations on disks beside the bare qemu-img sequence, in one run.

    python -m tests.scale.storage_bench [--rounds N] [--folder FOLDER]

Needs root: the real storage process does the work, as its user, on a fake sanlock. So
the time that sanlock takes to write a lease's 1 MiB is on neither side. The bare
sequence is what a careful script does: qemu-img, and what it made is on disk. What
checks cost is the processor's time of the monitor's own check, of the storage process
and of its workers.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Final

from node.errors import Unsupported
from node.storage.disks.actions import Home
from node.storage.disks.executor import Executor, Mandate, NobodyWatches, Order
from node.storage.domains import monitor
from node.storage.domains.access import Access
from node.storage.domains.file import FileDomain
from node.storage.formats import domain_meta, layout
from node.storage.formats.domain_meta import DomainClass, DomainMeta, DomainType
from node.storage.formats.layout import Layout
from node.storage.formats.volume_meta import Allocation, Format
from node.storage.guard import GuardFiles, SocketGuard
from node.storage.operations import add_volume, change, create, delete
from node.storage.operations.facts import Place, Site
from node.storage.operations.plan import Plan
from node.storage.operations.volumes import NewVolume
from node.storage.process import kill
from node.storage.process.launch import STORAGE_ID
from node.storage.process.protocol import LockspaceAt, Need, ResourceAt
from node.units import GiB, MiB
from tests.fakes import storage_process
from tests.scale import figures, processes
from tests.scale.figures import Figure, Section

SIZE: Final = 20 * GiB
RATIO_MAX: Final = 1.3
CLONE_MAX_MS: Final = 1000.0
ROUNDS: Final = 15
CHECKED: Final = 10
CHECKS_EACH: Final = 50
TIMEOUT_S: Final = 60.0


class NotMeasurable(Unsupported):
    code = "storage_not_measurable"
    remedy = "Run it as root, where cgroups can be made."


@dataclass(frozen=True, slots=True)
class Bench:
    """A storage domain, whoever writes there, and a folder for the bare files."""

    guard: SocketGuard
    domain: FileDomain
    executor: Executor
    bare: Path
    folder: Path
    instances: storage_process.Instances
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def run(self, plan: Plan) -> None:
        order = Order(str(uuid.uuid4()), "bench", str(uuid.uuid4()))
        self.executor.execute(order, plan, NobodyWatches())

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.seconds.setdefault(name, []).append(time.perf_counter() - begin)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--folder", type=Path, default=None)
    arguments = parser.parse_args()
    print(figures.render([measure(arguments.folder, arguments.rounds)]))
    return 0


def measure(folder: Path | None = None, rounds: int = ROUNDS) -> Section:
    """Measure everything; NotMeasurable."""
    if why_not := storage_process.why_not():
        raise NotMeasurable(why_not)
    with started(folder) as bench:
        for _ in range(rounds):
            _measure_disks(bench)
        share = _share_of_checks(bench, CHECKS_EACH)
    checks = Figure(f"checks of {CHECKED} storage domains, of a core", share, "%", 1.0)
    return Section("disks", (*_figures(bench.seconds), checks))


@contextmanager
def started(folder: Path | None) -> Iterator[Bench]:
    """Yield a storage domain with a template, and end everything."""
    with (
        tempfile.TemporaryDirectory(dir=folder) as name,
        storage_process.instances(Path(name)) as instances,
    ):
        Path(name).chmod(0o755)
        place = Path(name, "domain")
        place.mkdir()
        storage_process.give(place, STORAGE_ID)
        bare = Path(name, "bare")
        bare.mkdir()
        yield _bench(instances, place, bare)


def _bench(instances: storage_process.Instances, place: Path, bare: Path) -> Bench:
    guard = instances.start()
    storage_domain_id = str(uuid.uuid4())
    root = PurePosixPath(place, storage_domain_id)
    files = GuardFiles(guard, "bench", str(place))
    for path in Layout(root).folders():
        files.make_folder(str(path), layout.FOLDER_MODE)
    space = LockspaceAt(storage_domain_id, f"/nowhere/{storage_domain_id}")
    spm = ResourceAt(storage_domain_id, layout.SPM_RESOURCE, "/nowhere/spm", MiB)
    guard.write_lockspace(space)
    guard.join(space, 1)
    guard.write_resource(spm)
    version = guard.acquire(spm)
    need = Need(storage_domain_id, layout.SPM_RESOURCE, version)
    homes = {storage_domain_id: Home(str(root))}
    mandate = Mandate("bench", version, {storage_domain_id: (need,)})
    executor = Executor(guard, homes, storage_domain_id, mandate)
    reader = GuardFiles(guard, storage_domain_id, str(root), [need])
    domain = FileDomain(reader, root, Site(storage_domain_id))
    return Bench(guard, domain, executor, bare, place, instances)


def _measure_disks(bench: Bench) -> None:
    """Do each operation once, ours and the bare one, one after the other."""
    request = _new()
    with bench.timed("create"):
        bench.run(create.make(bench.domain.look(request.image_id), request))
    with bench.timed("create, bare"):
        old = _bare_create(bench.bare / request.image_id)
    leaf = _new()
    with bench.timed("snapshot"):
        place = bench.domain.look(request.image_id)
        bench.run(add_volume.make(place, leaf, request.volume_id))
    with bench.timed("snapshot, bare"):
        _bare_overlay(old)
    with bench.timed("delete"):
        bench.run(delete.make(bench.domain.look(request.image_id)))
    with bench.timed("delete, bare"):
        _bare_delete(old.parent)
    _measure_clone(bench)


def _measure_clone(bench: Bench) -> None:
    base = _new()
    bench.run(create.make(bench.domain.look(base.image_id), base))
    bench.run(change.make_template(bench.domain.look(base.image_id), base.volume_id))
    clone = _new()
    with bench.timed("thin clone"):
        template = bench.domain.look(base.image_id).require()
        place: Place = bench.domain.look(clone.image_id)
        bench.run(create.make(place, clone, template))
    old = _bare_create(bench.bare / base.image_id)
    with bench.timed("thin clone, bare"):
        _bare_overlay(old)
    shutil.rmtree(old.parent)
    for each in (clone, base):
        bench.run(delete.make(bench.domain.look(each.image_id)))


def _new() -> NewVolume:
    wanted = NewVolume("", "", SIZE, Format.COW, Allocation.SPARSE, 0)
    return replace(wanted, image_id=str(uuid.uuid4()), volume_id=str(uuid.uuid4()))


def _bare_create(folder: Path) -> Path:
    path = folder / str(uuid.uuid4())
    _synced(folder.parent, folder.mkdir)
    _synced(folder, lambda: _qemu_img("create", "-f", "qcow2", path, SIZE))
    return path


def _bare_overlay(base: Path) -> None:
    path = base.with_name(str(uuid.uuid4()))
    words = ("create", "-f", "qcow2", "-F", "qcow2", "-b", base.name, path)
    _synced(base.parent, lambda: _qemu_img(*words))


def _bare_delete(folder: Path) -> None:
    removed = folder.with_name(f"removed-{folder.name}")
    _synced(folder.parent, lambda: _program("mv", folder, removed))
    _synced(folder.parent, lambda: _program("rm", "-r", removed))


def _qemu_img(*words: object) -> None:
    _program("qemu-img", *words)


def _program(*words: object) -> None:
    argv = list(map(str, words))
    subprocess.run(
        argv, check=True, stdout=subprocess.DEVNULL, timeout=TIMEOUT_S, cwd="/"
    )


def _synced(folder: Path, act: Callable[[], object]) -> None:
    """Do something, and wait until the names it made or removed are on disk."""
    act()
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _share_of_checks(bench: Bench, each: int) -> float:
    """Return what checks cost, in percent of a core: each is done every 10 s."""
    checked = [_checked(bench) for _ in range(CHECKED)]
    now = "2026-01-01T00:00:00.000Z"
    for access in checked:  # each gets its worker
        assert monitor.take(bench.guard, access, now).error is None
    before = _processor_s(bench)
    for _ in range(each):
        for access in checked:
            monitor.take(bench.guard, access, now)
    spent_s = (_processor_s(bench) - before) / (each * CHECKED)
    return 100 * spent_s * CHECKED / monitor.CHECK_S


def _checked(bench: Bench) -> Access:
    """Return a storage domain that can be checked."""
    storage_domain_id = str(uuid.uuid4())
    paths = Layout(PurePosixPath(bench.folder, storage_domain_id))
    files = GuardFiles(bench.guard, "bench", str(bench.folder))
    for path in (paths.root, paths.dom_md):
        files.make_folder(str(path), layout.FOLDER_MODE)
    meta = DomainMeta(
        storage_domain_id, DomainType.NFS, DomainClass.DATA, "checked", "nas:/export"
    )
    metadata = str(paths.special(layout.Special.METADATA))
    files.write_whole(metadata, domain_meta.write(meta), layout.FILE_MODE)
    return Access(paths, "nas:/export")


def _processor_s(bench: Bench) -> float:
    """Return what we, the storage process and its workers have used."""
    pids = {bench.instances.pid, *kill.members(str(bench.instances.group))}
    return time.process_time() + sum(processes.usage(pid).cpu_s for pid in pids)


def _figures(seconds: dict[str, list[float]]) -> Iterator[Figure]:
    for name in ("create", "snapshot", "delete", "thin clone"):
        ours, bare = (figures.spread(seconds[each]) for each in (name, f"{name}, bare"))
        limit = CLONE_MAX_MS if name == "thin clone" else None
        yield Figure(f"{name}, p50", ours.p50 * 1000, "ms", limit)
        yield Figure(f"{name}, bare, p50", bare.p50 * 1000, "ms")
        ratio_max = None if name == "thin clone" else RATIO_MAX
        yield Figure(f"{name}, times the bare one", ours.p50 / bare.p50, "×", ratio_max)


if __name__ == "__main__":
    sys.exit(main())
