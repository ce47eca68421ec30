"""Storage domains on the kernel's NFS, where root is nobody, and on 4 KiB sectors."""

import statistics
import time
from dataclasses import replace
from pathlib import Path

import pytest

from node.model.ids import PoolId, StorageDomainId
from node.model.storage import Allocation, DiskFormat, DomainState
from node.model.storage_requests import (
    ActOnDisk,
    ActOnStorageDomain,
    AttachStorageDomain,
    BecomeSpm,
    RemoveStorageDomain,
)
from node.storage.process import removing
from tests.lab.throwaway import scene
from tests.lab.throwaway.node import WAIT_S, Node, wait_until
from tests.lab.throwaway.server import Server

# Of the agent's own threads; what waits for the server takes 10 s at least. It is the
# middle one of many answers: a busy machine lets any of them stand still for a while.
ANSWER_S = 2.0
# Shorter and longer than a removal waits.
READ_BRIEFLY_S, READ_LONG_S = removing.HELD_S / 3, 2 * removing.HELD_S


def mount_options(target: Path) -> set[str]:
    """Return what the kernel says of a mount."""
    lines = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    (found,) = (words for words in lines if words[1] == str(target))
    return set(found[3].split(","))


@pytest.mark.parametrize("version", ["3", "4.0", "4.1", "4.2"])
def test_mount_has_the_options_that_were_asked_for(
    server: Server, node: Node, version: str
) -> None:
    connection = scene.nfs(server, version)
    folder = Path(node.reach.enter(connection))
    try:
        options = mount_options(folder)
        assert {f"vers={version}", "soft", "timeo=100", "retrans=3"} <= options
        assert {"rw", "nosuid", "nodev"} <= options
        with pytest.raises(PermissionError):  # so nobody below relies on root
            list(folder.iterdir())
    finally:
        node.reach.close(connection)


def test_mount_prefers_the_options_of_the_user(server: Server, node: Node) -> None:
    wanted = "timeo=50,retrans=2,noatime,suid"
    connection = scene.nfs(server, "4.1", wanted)
    folder = Path(node.reach.enter(connection))
    try:
        options = mount_options(folder)
        assert {"vers=4.1", "timeo=50", "retrans=2", "noatime"} <= options
        assert {"nosuid", "nodev"} <= options
    finally:
        node.reach.close(connection)


@pytest.mark.parametrize("version", ["3", "4.2"])
def test_mount_is_known_again_whatever_the_slashes(
    server: Server, node: Node, version: str
) -> None:
    plain = scene.nfs(server, version)
    connection = replace(plain, path=f"/{plain.path}/")
    try:
        assert node.reach.enter(connection) == node.reach.enter(connection)
    finally:
        node.reach.close(connection)


def test_disks_lie_on_sectors_of_4_kib(node: Node, pool: PoolId) -> None:
    master = node.storage.pool_show(pool).master
    assert master is not None
    assert scene.shown(node, master).storage_domain.sector_bytes == 4096
    scene.check_disks(node, master)


@pytest.mark.parametrize("version", ["3", "4.0", "4.2"])
def test_disks_are_made_and_removed_where_root_is_nobody(
    server: Server, node: Node, pool: PoolId, version: str
) -> None:
    storage, connection = node.storage, scene.nfs(server, version)
    key = scene.make_domain(node, connection)
    assert scene.shown(node, key).storage_domain.sector_bytes == 512
    node.done(storage.storage_domain_attach(key, AttachStorageDomain(pool)))
    node.done(storage.storage_domain_activate(key, ActOnStorageDomain()))
    scene.check_disks(node, key)
    take_away(node, key)
    assert list((server.folder / Path(connection.path).name).iterdir()) == []
    assert not Path(node.reach.place(connection)).is_mount()


def test_disk_is_removed_when_who_looked_into_it_has_ended(
    server: Server, node: Node, pool: PoolId
) -> None:
    storage = node.storage
    connection = scene.nfs(server, "4.2")
    key = scene.make_domain(node, connection)
    node.done(storage.storage_domain_attach(key, AttachStorageDomain(pool)))
    node.done(storage.storage_domain_activate(key, ActOnStorageDomain()))
    brief, long = (scene.make_disk(node, key) for _ in range(2))
    images = server.folder / Path(connection.path).name / key / "images"
    assert len(list(images.iterdir())) == 2
    with scene.reader(scene.leaf(node, key, brief), READ_BRIEFLY_S):
        node.done(storage.disk_delete(brief, ActOnDisk()))
    with scene.reader(scene.leaf(node, key, long), READ_LONG_S):
        job = node.jobs.get(storage.disk_delete(long, ActOnDisk()).job_id, WAIT_S)
        assert job.error is not None
        assert job.error.code == "file_held"
        assert ".nfs" in job.error.message
    wait_until(lambda: list(images.iterdir()) == [], "what was left is removed")
    take_away(node, key)


@pytest.mark.parametrize("manner", ["silent", "stopped"])
def test_dead_server_disturbs_nothing_else_and_heals(
    server: Server, node: Node, pool: PoolId, manner: str
) -> None:
    storage, well = node.storage, node.storage.pool_show(pool).master
    key = scene.make_domain(node, scene.nfs(server, "4.2"))
    ill = scene.make_pool(node, key)
    raw = scene.make_disk(node, key, DiskFormat.RAW, Allocation.PREALLOCATED)
    assert well is not None
    answers_s: list[float] = []

    def is_told() -> bool:
        answers_s.append(answer_s(node))
        return scene.is_in(node, key, DomainState.UNREACHABLE)

    def is_lost() -> bool:
        answers_s.append(answer_s(node))
        return not storage.roster.seat(ill).is_serving

    with server.dead(manner):
        began = time.monotonic()
        wait_until(is_told, "somebody tells")
        told_s = time.monotonic() - began
        reason = scene.shown(node, key).reason
        assert reason is not None
        assert reason.code == "storage_domain_unreachable"
        disk = scene.make_disk(node, well)
        node.done(storage.disk_delete(disk, ActOnDisk()))
        assert scene.is_in(node, well, DomainState.ACTIVE)
        wait_until(is_lost, "the lease is lost")
        lost_s = time.monotonic() - began
    assert statistics.median(answers_s) < ANSWER_S
    healed_s = wait_until(lambda: scene.is_in(node, key, DomainState.ACTIVE), "healed")
    # As an aggregator asks: again, until sanlock is back in the lockspace.
    wait_until(lambda: node.is_done(storage.spm_become(ill, BecomeSpm())), "SPM")
    node.done(storage.disk_delete(raw, ActOnDisk()))
    print(f"{len(answers_s)} answers, the slowest after {max(answers_s):.1f} s")
    print(f"{manner}: told {told_s:.1f}, lost {lost_s:.1f}, healed {healed_s:.1f} s")
    print(reason.fields["detail"])


def take_away(node: Node, key: StorageDomainId) -> None:
    """Destroy a storage domain of the pool, so that no other test is disturbed."""
    storage = node.storage
    node.done(storage.storage_domain_maintain(key, ActOnStorageDomain()))
    node.done(storage.storage_domain_detach(key, ActOnStorageDomain()))
    request = RemoveStorageDomain(is_formatted=True)
    node.done(storage.storage_domain_remove(key, request))


def answer_s(node: Node) -> float:
    """Ask what faces ask; return how long that took."""
    began = time.monotonic()
    node.storage.storage_domain_list()
    node.storage.pool_list()
    node.storage.disk_list()
    node.storage.problems()
    return time.monotonic() - began
