"""Read and write the exact packages of an image."""

from datetime import date

import pytest
from imagebuild import lock
from imagebuild.lock import Lock, LockMalformed, Package

ACL = Package("acl", "2.3.2-2", "debian", "pool/a/acl.deb", 33600, "ab" * 32)
SUDO = Package("sudo", "1:9", "debian-security", "pool/s/sudo.deb", 1, "cd" * 32)
LOCK = Lock(date(2026, 11, 24), (ACL, SUDO))
TEXT = lock.dump(LOCK)


def test_parse_returns_what_was_dumped() -> None:
    assert lock.parse(TEXT) == LOCK
    assert LOCK.epoch_s == 1795478400


def test_dump_has_a_line_for_each_package_in_order() -> None:
    again = Lock(LOCK.day, (SUDO, ACL))
    assert lock.dump(again) == TEXT
    assert TEXT.splitlines()[2].startswith("debian acl 2.3.2-2 33600 abab")


def test_missing_tells_what_is_not_locked() -> None:
    assert LOCK.missing(["sudo", "nginx", "apt"]) == ["apt", "nginx"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("debian acl", "ubuntu acl", id="archive"),
        pytest.param("ab" * 32, "ab" * 31, id="short-digest"),
        pytest.param("ab" * 32, "zz" * 32, id="no-hexadecimal"),
        pytest.param("33600", "many", id="size"),
        pytest.param("pool/a/acl.deb", "/etc/passwd", id="absolute-path"),
        pytest.param("pool/a/acl.deb", "pool/../../acl.deb", id="path-that-leaves"),
        pytest.param("pool/a/acl.deb", "pool/a/acl.deb more", id="seven-words"),
        pytest.param("2026-11-24", "2026-13-24", id="date"),
        pytest.param("date 2026-11-24\n", "", id="no-date"),
    ],
)
def test_parse_refuses_what_it_cannot_read(old: str, new: str) -> None:
    assert old in TEXT
    with pytest.raises(LockMalformed):
        lock.parse(TEXT.replace(old, new, 1))


def test_parse_refuses_a_lock_of_nothing() -> None:
    with pytest.raises(LockMalformed):
        lock.parse("date 2026-11-24\n")
