"""Do what a file domain needs done with files: run by workers, which may hang.

Each operation walks from the domain's root by descriptors and follows no symbolic
link, so that nothing in a domain can lead out of it. What it made is on disk when it
returns (see syncing.py), also where it was done before: nobody knows whether that came
to its end. The standard library, and what is pure of ours. Sizes are bytes.
Source: openat(2), rename(2), open(2) on O_DIRECT and NFS.
"""

import base64
import contextlib
import errno
import mmap
import os
import stat as modes
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from node.errors import Conflict, Denied, Error, Failed, Invalid, NotFound, Unavailable
from node.storage.domains import Done, Entry, FileKind, Space
from node.storage.formats import qcow2
from node.storage.process import removing, syncing

# oVirt's: an image that is being deleted is renamed to this and its name.
REMOVE_PREFIX: Final = "_remove_me_"
NEW_SUFFIX: Final = ".new"
# What `read` and `read_at` return at once, and a folder's names: see protocol.LINE_MAX.
DATA_MAX: Final = 4 * 1024 * 1024
ENTRIES_MAX: Final = 20_000
# What a survey reads: of some hundred volumes, 8 KiB each, all of it in one answer.
SURVEYED_MAX: Final = 300
START_MAX: Final = 8 * 1024
PROBE_BYTES: Final = 4096  # one sector of any kind
SECTOR_BYTES: Final = 512  # the smallest; the kernel refuses what is not whole
_BLOCK: Final = 512  # unit of st_blocks
_FOLDER: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class FileMissing(NotFound):
    code = "file_missing"
    remedy = "Check the path, and whether the domain is the one meant."


class FileExists(Conflict):
    """Something else bears the name, or is in the folder."""

    code = "file_exists"
    remedy = "Look at what is there; remove or rename it first."


class FileTooLarge(Failed):
    code = "file_too_large"
    remedy = "It is not the file that was meant, or it is damaged."


class PathRefused(Denied):
    """The path leaves the domain, or leads over a symbolic link."""

    code = "path_refused"
    remedy = "Name a path below the domain's root that no link leads to."


class StorageFull(Unavailable):
    code = "storage_full"
    remedy = "Free space in the domain, or raise its quota, then try again."


class StorageDown(Unavailable):
    """The storage answers with errors."""

    code = "storage_down"
    remedy = "Check the storage's server and the connection to it."


class FileFailed(Failed):
    code = "file_failed"
    remedy = "Check the owner (36:36), the mode and the mount's options."


class FileMalformed(Invalid):
    code = "file_request_malformed"
    remedy = "Correct what the message names, and ask again."


def read(root: str, path: str, size_max: int) -> bytes:
    """Return a whole file."""
    if not 0 <= size_max <= DATA_MAX:
        raise FileMalformed(f"size_max must be 0 to {DATA_MAX}")
    with _opened(root, path, os.O_RDONLY) as file:
        data = _read_all(file, size_max + 1)
    if len(data) > size_max:
        raise FileTooLarge(f"{path} has more than {size_max} bytes", path=path)
    return data


def write_whole(root: str, path: str, data: bytes, mode: int) -> Done:
    """Write a new file beside the old one, then put it in its place."""
    with _parent(root, path) as (folder, name), _no_remains(folder, name) as new:
        with _created(folder, new, mode) as file:
            _write_all(file, data)
            syncing.sync_file(file, folder)
        os.rename(new, name, src_dir_fd=folder, dst_dir_fd=folder)
        syncing.sync_folder(folder)
    return Done()


def make_folder(root: str, path: str, mode: int) -> Done:
    """Make a folder with exactly this mode."""
    with _parent(root, path) as (folder, name):
        try:
            os.mkdir(name, mode, dir_fd=folder)
        except FileExistsError:
            if not modes.S_ISDIR(_status(folder, name).st_mode):
                raise
            syncing.sync_folder(folder)
            return Done(is_done_before=True)
        made = os.open(
            name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder
        )
        try:
            os.fchmod(made, mode)  # whatever the umask
            syncing.note_made(made)
        finally:
            os.close(made)
        syncing.sync_folder(folder)
    return Done()


def make_file(
    root: str, path: str, size_bytes: int, mode: int, is_preallocated: bool
) -> Done:
    """Make a file of zeros; it has its name only when it is complete."""
    if size_bytes < 0:
        raise FileMalformed("size_bytes is below zero")
    with _parent(root, path) as (folder, name):
        with contextlib.suppress(FileNotFoundError):
            before = _status(folder, name)
            if modes.S_ISREG(before.st_mode) and before.st_size == size_bytes:
                _sync_again(folder, name)
                return Done(is_done_before=True)
            raise FileExists(f"{path} exists with another size", path=path)
        with _no_remains(folder, name) as new:
            with _created(folder, new, mode) as file:
                os.ftruncate(file, size_bytes)
                if is_preallocated and size_bytes:
                    os.posix_fallocate(file, 0, size_bytes)
                syncing.sync_file(file, folder)
            os.rename(new, name, src_dir_fd=folder, dst_dir_fd=folder)
            syncing.sync_folder(folder)
    return Done()


def make_qcow2(
    root: str, path: str, size_bytes: int, mode: int, backing: str, backing_format: str
) -> Done:
    """Make a qcow2 file that holds no data; it has its name only when it is complete.

    `backing`: the bare name of what it is built on, which is not opened; empty:
    nothing.
    """
    if not 0 < size_bytes <= qcow2.SIZE_MAX or bool(backing) != bool(backing_format):
        raise FileMalformed("a size above zero, and a backing with its format")
    image = qcow2.empty(size_bytes, backing, backing_format)
    with _parent(root, path) as (folder, name), _no_remains(folder, name) as new:
        with _created(folder, new, mode) as file:
            os.ftruncate(file, image.size_bytes)
            for offset, data in image.pieces:
                _write_all(file, data, offset)
            syncing.sync_file(file, folder)
        os.rename(new, name, src_dir_fd=folder, dst_dir_fd=folder)
        syncing.sync_folder(folder)
    return Done()


def rename(root: str, old: str, new: str) -> Done:
    """Rename without replacing; the caller's lease makes the check hold."""
    with _parent(root, old) as (source, name), _parent(root, new) as (target, name_new):
        is_there = _is_there(target, name_new)
        is_done_before = is_there and not _is_there(source, name)
        if is_there and not is_done_before:
            raise FileExists(f"{new} exists", path=new)
        if not is_done_before:
            os.rename(name, name_new, src_dir_fd=source, dst_dir_fd=target)
        syncing.sync_folder(source)
        syncing.sync_folder(target)
    return Done(is_done_before)


def remove(root: str, path: str) -> Done:
    """Remove a file, a link or an empty folder; nothing is where no folder is."""
    try:
        with _parent(root, path) as (folder, name):
            is_done_before = not _is_there(folder, name)
            if is_done_before:
                pass
            elif modes.S_ISDIR(_status(folder, name).st_mode):
                removing.remove_folder(folder, name)
            else:
                os.unlink(name, dir_fd=folder)
            syncing.sync_folder(folder)
    except FileNotFoundError:
        os.stat(root)  # without the domain nobody can tell
        return Done(is_done_before=True)
    return Done(is_done_before)


def remove_tree(root: str, path: str) -> Done:
    """Remove a folder that was renamed to be removed, and all in it."""
    if not any(part.startswith(REMOVE_PREFIX) for part in _parts(root, path)):
        raise PathRefused(f"{path} is not marked by {REMOVE_PREFIX}", path=path)
    with _parent(root, path) as (folder, name):
        is_done_before = not _is_there(folder, name)
        if not is_done_before:
            removing.remove_tree(folder, name)
        syncing.sync_folder(folder)
    return Done(is_done_before)


def settle(root: str) -> Done:
    """Wait until what was done before is on disk."""
    return Done()


def sync(root: str, path: str) -> Done:
    """Wait until what another program wrote to a file is on disk."""
    with _parent(root, path) as (folder, name):
        _sync_again(folder, name)
    return Done()


def link(root: str, old: str, new: str) -> Done:
    """Give a file a second name."""
    with _parent(root, old) as (source, name), _parent(root, new) as (target, name_new):
        try:
            os.link(
                name,
                name_new,
                src_dir_fd=source,
                dst_dir_fd=target,
                follow_symlinks=False,
            )
        except FileExistsError:
            first, second = _status(source, name), _status(target, name_new)
            if (first.st_dev, first.st_ino) != (second.st_dev, second.st_ino):
                raise
            syncing.sync_folder(target)
            return Done(is_done_before=True)
        syncing.sync_folder(target)
    return Done()


def list(root: str, path: str) -> tuple[Entry, ...]:
    r"""Return what is in a folder, by name.

    A name that is not UTF-8 is told with its odd bytes written as \xNN, and as OTHER:
    it is there for people to see, and no operation takes it.
    """
    entries = []
    with _opened(root, path, os.O_RDONLY | os.O_DIRECTORY) as folder:
        for name in sorted(os.listdir(folder)):
            # One that goes while we look is not there.
            with contextlib.suppress(FileNotFoundError):
                entries.append(_entry(name, _status(folder, name)))
    if len(entries) > ENTRIES_MAX:
        raise FileTooLarge(f"{path} has more than {ENTRIES_MAX} names", path=path)
    return tuple(entries)


def survey(
    root: str, path: str, suffix: str, size_max: int, start_bytes: int
) -> tuple[Any, ...]:
    """Return what is in a folder, and what its first files hold, in base64.

    Those of that suffix whole, unless they are larger; of those without any the
    first sectors, from the storage itself.
    """
    _check_sectors(0, start_bytes)
    if not 0 <= size_max <= START_MAX or start_bytes > START_MAX:
        raise FileMalformed(f"of each file up to {START_MAX} bytes")
    told: Any = []
    for entry in list(root, path):
        inside, held = f"{path}/{entry.name}", {}
        # Whoever needs what cannot be read asks for it alone, and hears why not.
        with contextlib.suppress(OSError, FileTooLarge):
            if entry.kind is not FileKind.FILE or len(told) >= SURVEYED_MAX:
                pass
            elif entry.name.endswith(suffix) and entry.size_bytes <= size_max:
                held = {"whole": _text(read(root, inside, size_max))}
            elif "." not in entry.name:
                held = {"start": _text(read_at(root, inside, 0, start_bytes))}
        told.append({"entry": entry, **held})
    return tuple(told)


def stat(root: str, path: str) -> Entry:
    """Return what a name is; a link is itself."""
    with _parent(root, path) as (folder, name):
        return _entry(name, _status(folder, name))


def space(root: str, path: str) -> Space:
    """Return the size and the free space of the file system there."""
    with _opened(root, path, os.O_PATH) as file:
        found = os.fstatvfs(file)
    unit = found.f_frsize
    return Space(found.f_blocks * unit, found.f_bavail * unit)


def probe(root: str, path: str) -> float:
    """Return how many seconds it took to read the first sector from the storage."""
    return _probe(root, path, os.O_RDONLY)


def probe_written(root: str, path: str) -> float:
    """As `probe`, of what is open to writing; nothing is written."""
    return _probe(root, path, os.O_RDWR)


def read_at(root: str, path: str, offset: int, size_bytes: int) -> bytes:
    """Read whole sectors from the storage itself."""
    _check_sectors(offset, size_bytes)
    with (
        _opened(root, path, os.O_RDONLY | os.O_DIRECT) as file,
        mmap.mmap(-1, size_bytes) as buffer,
    ):
        return buffer[: os.preadv(file, [buffer], offset)]


def write_at(root: str, path: str, offset: int, data: bytes) -> Done:
    """Write whole sectors to the storage itself."""
    _check_sectors(offset, len(data))
    flags = os.O_WRONLY | os.O_DIRECT | os.O_DSYNC
    with _opened(root, path, flags) as file, mmap.mmap(-1, len(data)) as buffer:
        buffer[:] = data
        written = os.pwritev(file, [buffer], offset)
    if written != len(data):
        raise FileFailed(f"{path}: {written} of {len(data)} bytes written", path=path)
    return Done()


OPERATIONS: Final[Mapping[str, Callable[..., Any]]] = {
    operation.__name__: operation
    for operation in (
        read,
        write_whole,
        make_folder,
        make_file,
        make_qcow2,
        rename,
        remove,
        remove_tree,
        settle,
        sync,
        link,
        list,
        survey,
        stat,
        space,
        probe,
        probe_written,
        read_at,
        write_at,
    )
}

READING: Final = (
    *("read", "list", "survey", "stat", "space", "probe", "probe_written"),
    "read_at",
)


def perform(name: str, root: str, arguments: Mapping[str, Any]) -> Any:
    """Do one operation by its name; an error of the system becomes one of ours."""
    try:
        syncing.turn(name, READING)
        return OPERATIONS[name](root, **arguments)
    except OSError as error:
        path = str(arguments.get("path", arguments.get("old", "")))
        raise ours(error, path) from error


@contextlib.contextmanager
def together(sync: Callable[[int], None] = os.fsync) -> Iterator[None]:
    """Let the operations within be on disk at the end, not one by one."""
    try:
        with syncing.together(sync):
            yield
    except OSError as error:
        raise ours(error, "what was made") from error


def ours(error: OSError, path: str) -> Error:
    """Return an error of the system as ours."""
    kind = _ERRORS.get(error.errno or 0, FileFailed)
    number = errno.errorcode.get(error.errno or 0, "?")
    return kind(f"{path}: {os.strerror(error.errno or 0)}", path=path, errno=number)


_ERRORS: Final[Mapping[int, type[Error]]] = {
    errno.ENOENT: FileMissing,
    **dict.fromkeys((errno.EEXIST, errno.ENOTEMPTY), FileExists),
    **dict.fromkeys((errno.ELOOP, errno.ENOTDIR), PathRefused),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), StorageFull),
    **dict.fromkeys(
        (errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT), StorageDown
    ),
    errno.ENAMETOOLONG: FileMalformed,
    errno.EINVAL: FileMalformed,
}


def _parts(root: str, path: str) -> tuple[str, ...]:
    """Return the names that lead from the root to a path; PathRefused."""
    inside = path.removeprefix(root.rstrip("/"))
    parts = tuple(part for part in inside.split("/") if part)
    if not path.isascii() and not _is_text(path):
        raise PathRefused(f"{path!a} is not UTF-8")
    if not path.startswith(root.rstrip("/")) or inside[:1] not in ("", "/"):
        raise PathRefused(f"{path} is not below {root}", path=path)
    if "\0" in path or any(part in (".", "..") for part in parts):
        raise PathRefused(f"{path!r} is not a plain path", path=path)
    return parts


@contextlib.contextmanager
def _parent(root: str, path: str) -> Iterator[tuple[int, str]]:
    """Yield the folder that a path's last name is in, and that name."""
    *above, name = _parts(root, path) or (".",)
    folder = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in above:
            inner = os.open(part, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
        yield folder, name
    finally:
        os.close(folder)


def _probe(root: str, path: str, way: int) -> float:
    with (
        _opened(root, path, way | os.O_DIRECT) as file,
        mmap.mmap(-1, PROBE_BYTES) as buffer,
    ):
        started = time.monotonic()
        os.preadv(file, [buffer], 0)
        return time.monotonic() - started


@contextlib.contextmanager
def _opened(root: str, path: str, flags: int) -> Iterator[int]:
    with _parent(root, path) as (folder, name):
        file = os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        yield file
    finally:
        os.close(file)


@contextlib.contextmanager
def _no_remains(folder: int, name: str) -> Iterator[str]:
    """Yield the name of a new file; remove an older one, and ours if we fail."""
    new = name + NEW_SUFFIX
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new, dir_fd=folder)
    try:
        yield new
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(new, dir_fd=folder)
        raise


@contextlib.contextmanager
def _created(folder: int, name: str, mode: int) -> Iterator[int]:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(name, flags, mode, dir_fd=folder)
    try:
        os.fchmod(file, mode)  # whatever the umask
        yield file
    finally:
        os.close(file)


def _sync_again(folder: int, name: str) -> None:
    """Make sure that a file that was made before is on disk, and its name."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    file = os.open(name, flags, dir_fd=folder)
    try:
        syncing.sync_file(file, folder)
    finally:
        os.close(file)
    syncing.sync_folder(folder)


def _read_all(file: int, size_max: int) -> bytes:
    pieces = []
    while size_max > 0 and (piece := os.read(file, size_max)):
        pieces.append(piece)
        size_max -= len(piece)
    return b"".join(pieces)


def _write_all(file: int, data: bytes, offset: int = 0) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(file, memoryview(data)[done:], offset + done)


def _status(folder: int, name: str) -> os.stat_result:
    return os.stat(name, dir_fd=folder, follow_symlinks=False)


def _is_there(folder: int, name: str) -> bool:
    try:
        _status(folder, name)
    except FileNotFoundError:
        return False
    return True


def _entry(name: str, status: os.stat_result) -> Entry:
    kinds = {
        modes.S_IFREG: FileKind.FILE,
        modes.S_IFDIR: FileKind.FOLDER,
        modes.S_IFLNK: FileKind.LINK,
    }
    kind = kinds.get(modes.S_IFMT(status.st_mode), FileKind.OTHER)
    if not _is_text(name):
        kind = FileKind.OTHER
        name = os.fsencode(name).decode(errors="backslashreplace")
    return Entry(
        name,
        kind,
        status.st_size,
        status.st_blocks * _BLOCK,
        status.st_mtime,
        status.st_nlink,
    )


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _is_text(name: str) -> bool:
    """Tell whether a name is UTF-8; Python carries other bytes as half surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_sectors(offset: int, size_bytes: int) -> None:
    if offset < 0 or offset % SECTOR_BYTES or size_bytes % SECTOR_BYTES:
        raise FileMalformed(f"only whole sectors of {SECTOR_BYTES} bytes")
    if not 0 < size_bytes <= DATA_MAX:
        raise FileMalformed(f"1 to {DATA_MAX} bytes at once")
