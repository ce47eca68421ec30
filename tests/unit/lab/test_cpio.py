"""Test the archive by reading it as the kernel does."""

import stat
from collections import abc

from hypothesis import given
from hypothesis import strategies as st

from tests.lab import cpio

NAMES = st.from_regex(r"\A[a-z]{1,5}(/[a-z]{1,5}){0,3}\Z")


def read(data: bytes) -> abc.Iterator[cpio.Entry]:
    """Parse an archive field by field, as initramfs's unpacker does."""
    offset = 0
    while True:
        header = data[offset : offset + 110]
        assert header[:6] == b"070701"
        fields = [int(header[i : i + 8], 16) for i in range(6, 110, 8)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = data[offset + 110 : offset + 110 + name_size].rstrip(b"\0").decode()
        offset = -(-(offset + 110 + name_size) // 4) * 4
        if name == "TRAILER!!!":
            assert offset == len(data)
            return
        yield cpio.Entry(name, mode, data[offset : offset + size])
        offset = -(-(offset + size) // 4) * 4


@given(st.dictionaries(NAMES, st.binary(max_size=9), max_size=6))
def test_archive_keeps_every_file(contents: dict[str, bytes]) -> None:
    names = [n for n in contents if not any(m.startswith(n + "/") for m in contents)]
    found = list(read(cpio.archive(cpio.file(n, contents[n]) for n in names)))
    files = {e.path: e.data for e in found if stat.S_ISREG(e.mode)}
    assert files == {name: contents[name] for name in names}


@given(st.sets(NAMES, min_size=1, max_size=6))
def test_archive_has_each_directory_before_what_is_in_it(names: set[str]) -> None:
    seen = set()
    for entry in read(cpio.archive(cpio.file(f"{name}/f", b"") for name in names)):
        parent = entry.path.rpartition("/")[0]
        assert not parent or parent in seen
        seen.add(entry.path)


def test_archive_is_the_same_for_the_same_entries() -> None:
    entries = [cpio.file("init", b"x", 0o755), cpio.link("bin/sh", "busybox")]
    assert cpio.archive(entries) == cpio.archive(reversed(entries))


def test_archive_records_types_and_permissions() -> None:
    entries = [cpio.file("init", b"x", 0o755), cpio.link("bin/sh", "busybox")]
    modes = {entry.path: entry.mode for entry in read(cpio.archive(entries))}
    assert modes == {"init": 0o100755, "bin": 0o40755, "bin/sh": 0o120777}
