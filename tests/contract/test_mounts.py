"""The contract of the mounts' door: a fake, and mount(8) in a namespace of its own."""

import contextlib
import ctypes
import multiprocessing
import os
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from node.errors import Error
from node.system import command
from node.system.mounts import (
    Mount,
    MountBusy,
    MountFailed,
    MountOther,
    Mounts,
    SystemMounts,
)
from tests.fakes.mounts import FakeMounts

_NEW_NAMESPACE = 0x0002_0000  # CLONE_NEWNS
_DEADLINE_S = 30.0


def serve(connection: Connection) -> None:
    """Mount in a namespace that ends with this process."""
    if ctypes.CDLL(None, use_errno=True).unshare(_NEW_NAMESPACE) != 0:
        connection.send(os.strerror(ctypes.get_errno()))
        return
    command.run(["mount", "--make-rprivate", "/"], timeout_s=_DEADLINE_S)
    connection.send("")
    door = SystemMounts(command.run)
    with contextlib.suppress(EOFError):
        while True:
            name, arguments = connection.recv()
            try:
                if name == "use":
                    os.chdir(arguments[0])
                    connection.send(None)
                else:
                    connection.send(getattr(door, name)(*arguments))
            except Error as error:
                connection.send(error)


class RemoteMounts:
    """The real door, in another process."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def mount(
        self, source: str, target: Path, file_system: str, options: tuple[str, ...]
    ) -> None:
        self.ask("mount", source, target, file_system, options)

    def unmount(self, target: Path) -> None:
        self.ask("unmount", target)

    def find(self, path: Path) -> Mount:
        found = self.ask("find", path)
        assert isinstance(found, Mount)
        return found

    def ask(self, name: str, *arguments: object) -> object:
        self._connection.send((name, arguments))
        assert self._connection.poll(_DEADLINE_S), f"{name} hangs"
        answer = self._connection.recv()
        if isinstance(answer, Error):
            raise answer
        return answer


@contextlib.contextmanager
def real() -> Iterator[RemoteMounts]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs,))
    process.start()
    theirs.close()
    try:
        assert ours.poll(_DEADLINE_S)
        if problem := ours.recv():
            pytest.skip(f"no mount namespace: {problem}")
        yield RemoteMounts(ours)
    finally:
        ours.close()
        process.join(_DEADLINE_S)
        process.close()


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.real)])
def door(request: pytest.FixtureRequest) -> Iterator[Mounts]:
    if request.param == "fake":
        yield FakeMounts()
        return
    with real() as remote:
        yield remote


@contextlib.contextmanager
def used(door: Mounts, target: Path) -> Iterator[None]:
    if isinstance(door, FakeMounts):
        door.busy.add(str(target))
        yield
        door.busy.clear()
        return
    assert isinstance(door, RemoteMounts)
    door.ask("use", target)
    yield
    door.ask("use", Path("/"))


def test_mount_is_found_and_may_be_asked_twice(door: Mounts, tmp_path: Path) -> None:
    target = tmp_path / "a" / "b"
    for _ in range(2):
        door.mount("source-a", target, "tmpfs", ("size=1m",))
    found = door.find(target / "below")
    assert (found.source, found.target, found.file_system) == (
        *("source-a", str(target), "tmpfs"),
    )
    assert door.find(tmp_path).target != str(target)


def test_mount_is_known_again_by_another_spelling(door: Mounts, tmp_path: Path) -> None:
    for source in ("nas:/a", "nas:/a/", "nas://a"):
        door.mount(source, tmp_path, "tmpfs", ())
    assert door.find(tmp_path).source == "nas:/a"


def test_find_follows_links(door: Mounts, tmp_path: Path) -> None:
    target, link = tmp_path / "mounted", tmp_path / "link"
    door.mount("source-a", target, "tmpfs", ())
    link.symlink_to(target)
    assert door.find(link / "below").target == str(target)


def test_mount_refuses_a_place_that_is_taken(door: Mounts, tmp_path: Path) -> None:
    door.mount("source-a", tmp_path, "tmpfs", ())
    with pytest.raises(MountOther):
        door.mount("source-b", tmp_path, "tmpfs", ())


def test_mount_tells_that_it_failed(door: Mounts, tmp_path: Path) -> None:
    with pytest.raises(MountFailed):
        door.mount("source-a", tmp_path, "nonsense", ())


def test_unmount_is_idempotent_and_refused_while_used(
    door: Mounts, tmp_path: Path
) -> None:
    door.unmount(tmp_path)
    door.mount("source-a", tmp_path, "tmpfs", ())
    with used(door, tmp_path), pytest.raises(MountBusy):
        door.unmount(tmp_path)
    door.unmount(tmp_path)
    assert door.find(tmp_path).target != str(tmp_path)
