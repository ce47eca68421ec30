"""Do file operations on real files, in this process."""

import errno
import os
import resource
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from node import wire
from node.errors import Error
from node.storage.domains import DomainFiles, Done, FileKind
from node.storage.formats import qcow2
from node.storage.process import file_operations
from node.storage.process.file_operations import FileMissing, StorageDown
from node.units import GiB
from tests.fakes.guard import LocalFiles

AGAIN = Done(is_done_before=True)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "domain"


@pytest.fixture
def files(root: Path) -> DomainFiles:
    root.mkdir()
    return LocalFiles(str(root))


def test_write_whole_replaces_and_keeps_the_mode(
    files: DomainFiles, root: Path
) -> None:
    path = root / "metadata"
    for data in (b"one", b"two, and longer", b""):
        assert files.write_whole(str(path), data, 0o660) == Done()
        assert files.read(str(path), 100) == data
    assert path.stat().st_mode & 0o7777 == 0o660
    assert os.listdir(root) == ["metadata"]


def test_write_whole_passes_over_what_a_crash_left(
    files: DomainFiles, root: Path
) -> None:
    outside = root.parent / "outside"
    outside.write_text("mine")
    (root / "metadata.new").symlink_to(outside)
    files.write_whole(str(root / "metadata"), b"x", 0o660)
    assert outside.read_text() == "mine"
    assert os.listdir(root) == ["metadata"]


def test_list_tells_a_name_that_is_not_utf8_and_remove_tree_removes_it(
    files: DomainFiles, root: Path
) -> None:
    folder = root / "_remove_me_image"
    folder.mkdir()
    (folder / "plain").touch()
    os.mkdir(bytes(folder) + b"/caf\xe9")
    Path(os.fsdecode(bytes(folder) + b"/caf\xe9/\xff")).touch()
    told = files.list(str(folder))
    assert [(each.name, each.kind) for each in told] == [
        ("caf\\xe9", FileKind.OTHER),
        ("plain", FileKind.FILE),
    ]
    assert wire.parse(wire.encode([wire.to_json(each) for each in told]))
    assert refusal(files.stat, str(folder / "caf\udce9")) == "path_refused"
    assert refusal(files.remove, str(folder / "caf\udce9")) == "path_refused"
    files.remove_tree(str(folder))
    assert os.listdir(root) == []


def test_write_whole_leaves_the_old_file_when_there_is_no_space(
    files: DomainFiles, root: Path
) -> None:
    path = str(root / "metadata")
    files.write_whole(path, b"old", 0o660)
    before = os.listdir(root)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        code = refusal(files.write_whole, path, bytes(5000), 0o660)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == "storage_full"
    assert files.read(path, 100) == b"old"
    assert os.listdir(root) == before


def test_read_refuses_more_than_was_expected(files: DomainFiles, root: Path) -> None:
    (root / "a").write_bytes(b"12345")
    assert files.read(str(root / "a"), 5) == b"12345"
    assert refusal(files.read, str(root / "a"), 4) == "file_too_large"
    assert refusal(files.read, str(root / "b"), 4) == "file_missing"


def test_make_folder_sets_the_mode_and_may_be_repeated(
    files: DomainFiles, root: Path
) -> None:
    path = str(root / "images")
    assert files.make_folder(path, 0o775) == Done()
    assert files.make_folder(path, 0o775) == AGAIN
    assert os.stat(path).st_mode & 0o7777 == 0o775
    (root / "file").touch()
    assert refusal(files.make_folder, str(root / "file"), 0o775) == "file_exists"


@pytest.mark.parametrize("is_preallocated", [True, False], ids=["full", "sparse"])
def test_make_file_makes_zeros(
    files: DomainFiles, root: Path, is_preallocated: bool
) -> None:
    path, size = str(root / "volume"), 1 << 20
    assert files.make_file(path, size, 0o660, is_preallocated) == Done()
    assert files.make_file(path, size, 0o660, is_preallocated) == AGAIN
    assert refusal(files.make_file, path, 5, 0o660, is_preallocated) == "file_exists"
    entry = files.stat(path)
    assert (entry.kind, entry.size_bytes) == (FileKind.FILE, size)
    assert (entry.allocated_bytes >= size) is is_preallocated
    assert files.read(path, size) == bytes(size)


def test_make_file_may_be_empty(files: DomainFiles, root: Path) -> None:
    assert files.make_file(str(root / "empty"), 0, 0o660, True) == Done()


def test_rename_never_replaces_and_may_be_repeated(
    files: DomainFiles, root: Path
) -> None:
    old, new = root / "old", root / "new"
    old.write_text("old")
    new.write_text("new")
    assert refusal(files.rename, str(old), str(new)) == "file_exists"
    new.unlink()
    assert files.rename(str(old), str(new)) == Done()
    assert files.rename(str(old), str(new)) == AGAIN
    assert new.read_text() == "old"
    new.unlink()
    assert refusal(files.rename, str(old), str(new)) == "file_missing"


def test_remove_removes_what_is_empty_and_may_be_repeated(
    files: DomainFiles, root: Path
) -> None:
    (root / "file").touch()
    (root / "folder").mkdir()
    (root / "link").symlink_to("/etc/hostname")
    for name in ("file", "folder", "link"):
        assert files.remove(str(root / name)) == Done()
        assert files.remove(str(root / name)) == AGAIN
    (root / "full" / "inner").mkdir(parents=True)
    assert refusal(files.remove, str(root / "full")) == "file_exists"
    assert os.listdir(root) == ["full"]


def test_remove_tree_removes_only_what_was_marked(
    files: DomainFiles, root: Path
) -> None:
    marked, inner = root / "_remove_me_a", root / "_remove_me_a" / "b" / "c"
    inner.mkdir(parents=True)
    (inner / "link").symlink_to(root)
    (root / "kept").mkdir()
    assert refusal(files.remove_tree, str(root / "kept")) == "path_refused"
    assert files.remove_tree(str(inner)) == Done()
    assert files.remove_tree(str(marked)) == Done()
    assert files.remove_tree(str(marked)) == AGAIN
    assert os.listdir(root) == ["kept"]


def test_link_gives_a_second_name_and_may_be_repeated(
    files: DomainFiles, root: Path
) -> None:
    old, new = root / "old", root / "new"
    old.write_text("x")
    assert files.link(str(old), str(new)) == Done()
    assert files.link(str(old), str(new)) == AGAIN
    assert files.stat(str(new)).links == 2
    (root / "other").touch()
    assert refusal(files.link, str(old), str(root / "other")) == "file_exists"


def test_list_tells_every_kind(files: DomainFiles, root: Path) -> None:
    (root / "b").write_bytes(bytes(5000))
    (root / "a").mkdir()
    (root / "c").symlink_to("/nowhere")
    os.mkfifo(root / "d")
    found = files.list(str(root))
    kinds = [FileKind.FOLDER, FileKind.FILE, FileKind.LINK, FileKind.OTHER]
    assert [entry.name for entry in found] == ["a", "b", "c", "d"]
    assert [entry.kind for entry in found] == kinds
    assert (found[1].size_bytes, found[1].links) == (5000, 1)
    assert abs(found[1].modified_at - time.time()) < 60


def test_probe_refuses_what_is_not_open_to_writing(
    files: DomainFiles, root: Path
) -> None:
    program = root / "running"
    shutil.copy("/bin/sleep", program)
    with subprocess.Popen([program, "60"]) as running:
        try:
            assert files.probe(str(program)) > 0
            with pytest.raises(Error, match="busy"):
                files.probe_written(str(program))
        finally:
            running.kill()
    before = program.stat()
    assert files.probe_written(str(program)) > 0
    assert program.stat().st_mtime_ns == before.st_mtime_ns


def test_space_and_probe_tell_of_the_storage(files: DomainFiles, root: Path) -> None:
    (root / "metadata").write_bytes(bytes(4096))
    space = files.space(str(root))
    assert 0 < space.free_bytes <= space.total_bytes
    assert 0 < files.probe(str(root / "metadata")) < 10


def test_sectors_are_read_and_written_whole(files: DomainFiles, root: Path) -> None:
    path = str(root / "xleases")
    files.make_file(path, 8192, 0o660, False)
    data = os.urandom(4096)
    assert files.write_at(path, 4096, data) == Done()
    assert files.read_at(path, 4096, 4096) == data
    assert files.read_at(path, 0, 4096) == bytes(4096)
    assert len(files.read_at(path, 4096, 8192)) == 4096


@pytest.mark.parametrize(
    ("offset", "size"),
    [
        pytest.param(1, 512, id="offset"),
        pytest.param(0, 511, id="size"),
        pytest.param(-512, 512, id="below-zero"),
        pytest.param(0, 0, id="nothing"),
        pytest.param(0, 1 << 30, id="too-much"),
    ],
)
def test_read_at_refuses_what_is_no_sector(
    files: DomainFiles, root: Path, offset: int, size: int
) -> None:
    (root / "a").write_bytes(bytes(8192))
    code = refusal(files.read_at, str(root / "a"), offset, size)
    assert code == "file_request_malformed"


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("{outside}", id="outside"),
        pytest.param("{root}/../outside", id="dots"),
        pytest.param("{root}x/outside", id="prefix-of-a-name"),
        pytest.param("relative", id="relative"),
        pytest.param("{root}/link", id="last-is-a-link"),
        pytest.param("{root}/out/outside", id="link-on-the-way"),
        pytest.param("{root}/in/inside", id="link-that-stays-inside"),
        pytest.param("{root}/a\0b", id="nul"),
    ],
)
def test_read_stays_below_the_root(files: DomainFiles, root: Path, path: str) -> None:
    outside = root.parent / "outside"
    outside.write_text("secret")
    (root / "inner").mkdir()
    (root / "inner" / "inside").touch()
    (root / "link").symlink_to(outside)
    (root / "out").symlink_to(root.parent)
    (root / "in").symlink_to(root / "inner")
    path = path.format(outside=outside, root=root)
    assert refusal(files.read, path, 100) == "path_refused"
    assert refusal(files.write_whole, path, b"x", 0o660) in ("path_refused", "")
    assert outside.read_text() == "secret"


def test_every_operation_is_refused_in_a_domain_that_is_gone(root: Path) -> None:
    gone = LocalFiles(str(root))
    assert refusal(gone.list, str(root)) == "file_missing"
    assert refusal(gone.remove, str(root / "a")) == "file_missing"


def refusal(ask: object, *arguments: object) -> str:
    """Return the code of the error that a call ends with; empty: none."""
    assert callable(ask)
    try:
        ask(*arguments)
    except Error as error:
        return error.code
    return ""


def test_together_syncs_before_each_name_that_changes_and_at_the_end(
    files: DomainFiles, root: Path
) -> None:
    """Power may fail at any moment: what was told is on disk, in this order."""
    synced: list[str] = []

    def sync(handle: int) -> None:
        name = Path(os.readlink(f"/proc/self/fd/{handle}")).relative_to(root)
        synced.append(str(name))

    def do(name: str, **arguments: object) -> None:
        file_operations.perform(name, str(root), arguments)
        synced.append(f"({name})")

    image, old = str(root / "image"), str(root / "old")
    files.write_whole(old, b"x", 0o660)
    with file_operations.together(sync):
        do("make_folder", path=f"{image}.made", mode=0o770)
        do("write_whole", path=f"{image}.made/meta", data=b"x", mode=0o660)
        do("write_whole", path=f"{image}.made/lease", data=b"x", mode=0o660)
        do("write_whole", path=old, data=b"y", mode=0o660)
        do("rename", old=f"{image}.made", new=image)
        do("remove", path=old)
        do("remove", path=f"{image}/lease")
        assert synced.pop() == "(remove)", "removals are on disk at the end"
    text = " ".join(synced)
    assert text == (
        "(make_folder) (write_whole) (write_whole) "
        "old.new (write_whole) "  # what takes another's place is whole before
        "image.made/meta image.made/lease . image.made "
        "(rename) . (remove) . image"
    )


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        pytest.param("make_folder", {"path": "a/x", "mode": 0o770}, {"a"}, id="folder"),
        pytest.param(
            "make_file",
            {"path": "a/x", "size_bytes": 5, "mode": 0o660, "is_preallocated": False},
            {"a", "a/x"},
            id="file",
        ),
        pytest.param("rename", {"old": "a/f", "new": "b/x"}, {"a", "b"}, id="rename"),
        pytest.param("link", {"old": "a/f", "new": "b/x"}, {"b"}, id="link"),
        pytest.param("remove", {"path": "a/f"}, {"a"}, id="remove"),
        pytest.param("remove_tree", {"path": "_remove_me_t"}, {"."}, id="remove-tree"),
    ],
)
def test_what_was_done_before_is_on_disk_all_the_same(
    files: DomainFiles,
    root: Path,
    name: str,
    arguments: dict[str, object],
    expected: set[str],
) -> None:
    """The disk refused to keep it the first time, or the worker was killed."""
    for folder in ("a", "b", "_remove_me_t"):
        (root / folder).mkdir()
    (root / "a/f").touch()
    inside = {
        key: str(root / value) if isinstance(value, str) else value
        for key, value in arguments.items()
    }
    synced: set[str] = set()

    def refuse(_handle: int) -> None:
        raise OSError(errno.EIO, "broken")

    def sync(handle: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        synced.add(str(path.relative_to(root)))

    def act(sync: Callable[[int], None]) -> object:
        with file_operations.together(sync):
            return file_operations.perform(name, str(root), inside)

    file_operations.perform(name, str(root), inside)
    with pytest.raises(StorageDown):
        act(refuse)
    assert act(sync) == AGAIN
    assert synced == expected


def test_settle_has_a_tree_gone_before_the_next_file_is(
    files: DomainFiles, root: Path
) -> None:
    (root / "_remove_me_image").mkdir()
    (root / "journal").touch()
    seen: list[list[str]] = []
    with file_operations.together(lambda _handle: seen.append(os.listdir(root))):
        for name, arguments in (
            ("remove_tree", {"path": str(root / "_remove_me_image")}),
            ("settle", {}),
            ("remove", {"path": str(root / "journal")}),
        ):
            file_operations.perform(name, str(root), arguments)
    assert seen == [["journal"], []]


def test_survey_reads_what_a_look_needs(files: DomainFiles, root: Path) -> None:
    (root / "image").mkdir()
    held = {"a.meta": b"what it is", "b.meta": bytes(513), "a": b"QFI", "a.lease": b"x"}
    for name, data in held.items():
        (root / "image" / name).write_bytes(data)
    (root / "image" / "c").mkdir()
    told = files.survey(str(root / "image"), ".meta", 512, 4096)
    assert [(each.entry.name, each.whole, each.start) for each in told] == [
        ("a", None, b"QFI"),
        ("a.lease", None, None),
        ("a.meta", b"what it is", None),
        ("b.meta", None, None),
        ("c", None, None),
    ]
    assert refusal(files.survey, str(root / "none"), ".meta", 512, 4096) == (
        "file_missing"
    )
    assert refusal(files.survey, str(root), ".meta", 512, 1 << 20) == (
        "file_request_malformed"
    )


def test_make_qcow2_makes_a_thin_file_that_names_what_it_is_built_on(
    files: DomainFiles, root: Path
) -> None:
    def make(size_bytes: int, backing: str, kind: str) -> Done:
        arguments = {"path": str(root / "a"), "size_bytes": size_bytes, "mode": 0o660}
        backed = {"backing": backing, "backing_format": kind}
        done: Done = file_operations.perform(
            "make_qcow2", str(root), arguments | backed
        )
        return done

    assert make(GiB, "base", "raw") == Done()
    data = (root / "a").read_bytes()
    assert qcow2.read(data) == qcow2.Header(GiB, "base", "raw")
    assert len(data) == qcow2.empty(GiB).size_bytes
    assert (root / "a").stat().st_blocks * 512 < len(data)
    assert refusal(make, 0, "", "") == "file_request_malformed"
    assert refusal(make, qcow2.SIZE_MAX + 1, "", "") == "file_request_malformed"
    assert refusal(make, GiB, "base", "") == "file_request_malformed"
    assert os.listdir(root) == ["a"]


def test_together_tells_that_the_disk_refused(files: DomainFiles, root: Path) -> None:
    def refuse(_handle: int) -> None:
        raise OSError(errno.EIO, "broken")

    def act() -> None:
        with file_operations.together(refuse):
            files_of = {"path": str(root / "x"), "mode": 0o770}
            file_operations.perform("make_folder", str(root), files_of)

    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(StorageDown):
        act()
    assert len(os.listdir("/proc/self/fd")) == before


def test_remove_finds_nothing_where_no_folder_is_but_needs_the_domain(
    files: DomainFiles, root: Path
) -> None:
    assert files.remove(str(root / "skerry/disks/x")) == AGAIN
    gone = LocalFiles(str(root / "gone"))
    with pytest.raises(FileMissing):
        gone.remove(str(root / "gone/skerry/x"))
