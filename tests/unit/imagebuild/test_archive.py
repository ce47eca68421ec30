"""Keep what is fetched from a mirror; here it is a server on the loopback."""

import hashlib
import threading
from collections.abc import Iterator
from datetime import date
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from imagebuild import archive
from imagebuild.archive import Mirror, PackageDiffers, PackageGone
from imagebuild.lock import Lock, Package

from node.errors import Unavailable

DATA = b"what the package holds"
PATH = "pool/a/acl_2.3%2bb1_amd64.deb"
BASE = "http://mirror.example/debian"
MIRROR = Mirror({"debian": BASE, "debian-security": f"{BASE}-security"})


def package(data: bytes = DATA) -> Package:
    digest = hashlib.sha256(data).hexdigest()
    return Package("acl", "2.3+b1", "debian", "pool/acl.deb", len(data), digest)


def lock(*packages: Package) -> Lock:
    return Lock(date(2026, 11, 24), packages)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Mirror, Path, list[str]]]:
    """Serve a folder; yield the mirror, the folder and what was asked for."""
    folder = tmp_path / "served"
    (folder / "pool").mkdir(parents=True)
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            asked.append(self.path)

    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Handler, directory=str(folder))
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    yield Mirror({"debian": url, "debian-security": url}), folder, asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_fetch_keeps_a_package_and_asks_once(
    served: tuple[Mirror, Path, list[str]], tmp_path: Path
) -> None:
    mirror, folder, asked = served
    (folder / "pool/acl.deb").write_bytes(DATA)
    for _ in range(2):
        files = archive.fetch(lock(package()), lambda: mirror, tmp_path / "cache")
    assert [file.read_bytes() for file in files.values()] == [DATA]
    assert len(asked) == 1


def test_fetch_names_what_the_mirror_no_longer_has(
    served: tuple[Mirror, Path, list[str]], tmp_path: Path
) -> None:
    with pytest.raises(PackageGone, match=r"acl 2\.3\+b1") as caught:
        archive.fetch(lock(package()), lambda: served[0], tmp_path / "cache")
    assert "make image-lock" in caught.value.remedy


def test_fetch_refuses_and_forgets_other_bytes(
    served: tuple[Mirror, Path, list[str]], tmp_path: Path
) -> None:
    mirror, folder, _ = served
    (folder / "pool/acl.deb").write_bytes(b"somebody else's")
    with pytest.raises(PackageDiffers):
        archive.fetch(lock(package()), lambda: mirror, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_fetch_notices_what_was_changed_in_the_cache(
    served: tuple[Mirror, Path, list[str]], tmp_path: Path
) -> None:
    mirror, folder, _ = served
    (folder / "pool/acl.deb").write_bytes(DATA)
    (file,) = archive.fetch(lock(package()), lambda: mirror, tmp_path / "c").values()
    file.write_bytes(b"changed")
    with pytest.raises(PackageDiffers):
        archive.fetch(lock(package()), lambda: mirror, tmp_path / "c")
    (again,) = archive.fetch(lock(package()), lambda: mirror, tmp_path / "c").values()
    assert again.read_bytes() == DATA


def test_fetch_tells_that_the_mirror_does_not_answer(tmp_path: Path) -> None:
    nobody = Mirror({"debian": "http://127.0.0.1:9", "debian-security": ""})
    with pytest.raises(Unavailable, match="acl cannot be fetched"):
        archive.fetch(lock(package()), lambda: nobody, tmp_path / "cache")


def test_repository_holds_these_packages_and_a_name(tmp_path: Path) -> None:
    archive.repository({}, tmp_path / "repository", "trixie")
    assert (tmp_path / "repository/Packages").read_text() == ""
    release = (tmp_path / "repository/Release").read_text()
    assert "Suite: trixie" in release
    assert hashlib.sha256(b"").hexdigest() in release


@pytest.mark.parametrize(
    ("url", "name"),
    [
        pytest.param(f"{BASE}/{PATH}", "debian", id="main"),
        pytest.param(f"{BASE}-security/{PATH}", "debian-security", id="security"),
    ],
)
def test_packages_are_read_as_apt_prints_them(url: str, name: str) -> None:
    told = f"'{url}' acl_2.3+b1_amd64.deb 22 SHA256:{'ab' * 32}\n"
    (found,) = archive.parse_uris(told, MIRROR)
    assert found == Package(
        "acl", "2.3+b1", name, "pool/a/acl_2.3+b1_amd64.deb", 22, "ab" * 32
    )


def test_mirror_that_is_named_is_taken() -> None:
    named = archive.find_mirror({"SKERRY_MIRROR": f"{BASE}/"})
    assert named == MIRROR
