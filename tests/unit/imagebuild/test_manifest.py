"""Say what is in an image, and what takes the space."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from imagebuild import manifest
from imagebuild.lock import Lock, Package
from imagebuild.manifest import Entry, Found

DIGEST = "ab" * 32
ACL = Package("acl", "1:2.3+b1", "debian", "pool/acl.deb", 5, DIGEST)
LOCK = Lock(date(2026, 11, 24), (ACL,))
OWNED = {"acl": ["/usr/bin/acl", "/usr/lib/python3/acl.py"]}
TERMS = {"acl": ("GPL-2", "MIT")}


def entries(*found: Found, root_bytes: int = 100) -> list[Entry]:
    return manifest.tally(found, OWNED, TERMS, LOCK, root_bytes)


def told(*packages: dict[str, Any], root_bytes: int = 10) -> dict[str, Any]:
    return {"files": {"root": {"size_bytes": root_bytes}}, "packages": list(packages)}


def test_tally_shares_the_compressed_root_out() -> None:
    found = entries(
        Found("/usr/bin/acl", 400, 20),
        Found("/usr/lib/modules/6/a.ko", 900, 60),
        Found("/etc/own", 10, 20),
    )
    assert [(each.name, each.packed_bytes) for each in found] == [
        ("(kernel modules)", 60),
        ("(of no package)", 20),
        ("acl", 20),
    ]
    assert found[2] == Entry("acl", "1:2.3+b1", ("GPL-2", "MIT"), 1, 400, 20)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        pytest.param("/usr/lib/python3/acl.pyc", "acl", id="byte-code"),
        pytest.param("/usr/lib/skerry/node/app.py", "(Skerry)", id="ours"),
        pytest.param("/usr/lib/other", "(of no package)", id="nobody's"),
    ],
)
def test_tally_finds_the_package_of_a_file(path: str, name: str) -> None:
    (entry,) = entries(Found(path, 1, 1))
    assert entry.name == name


def test_tally_of_empty_files_is_no_division_by_zero() -> None:
    assert entries(Found("/usr/bin/acl", 0, 0))[0].packed_bytes == 0


def test_changes_tell_what_two_builds_differ_in() -> None:
    acl = {"name": "acl", "version": "1", "size_bytes": 10}
    tar = {"name": "tar", "version": "1", "size_bytes": 10}
    ours = {"name": "(Skerry)", "version": "", "size_bytes": 10}
    new = [{**acl, "version": "2"}, {**ours, "size_bytes": 15}, {**tar, "name": "xz"}]
    assert manifest.changes(told(acl, tar, ours), told(*new, root_bytes=1200)) == [
        "Since the build before:",
        "root: 1,200 bytes (+1,190)",
        "gone: tar",
        "new: xz",
        "(Skerry): +5 bytes",
        "acl: 1 → 2",
    ]


def test_changes_of_the_same_build_are_none() -> None:
    same = told({"name": "acl", "version": "1", "size_bytes": 10})
    assert manifest.changes(same, same) == ["Since the build before:", "nothing"]
    assert len(manifest.changes({}, same)) == 1


def test_sbom_names_each_package_and_is_always_the_same() -> None:
    bill = manifest.sbom(LOCK, TERMS)
    assert bill == manifest.sbom(LOCK, TERMS)
    assert bill["metadata"]["timestamp"] == "2026-11-24T00:00:00Z"
    (component,) = bill["components"]
    assert component["purl"] == "pkg:deb/debian/acl@1%3A2.3%2Bb1"
    assert component["hashes"] == [{"alg": "SHA-256", "content": DIGEST}]
    names = [each["license"]["name"] for each in component["licenses"]]
    assert names == ["GPL-2", "MIT"]


def test_licences_are_those_that_the_copyright_file_names(tmp_path: Path) -> None:
    folder = tmp_path / "usr/share/doc/acl"
    folder.mkdir(parents=True)
    paragraphs = ("Format: 1.0", "Files: *\nLicense: MIT", "License: GPL-2+\n text")
    text = "\n\n".join([*paragraphs, "License: MIT"])
    (folder / "copyright").write_text(text)
    assert manifest.licences(tmp_path, ["acl", "gone"]) == {"acl": ("GPL-2+", "MIT")}


def test_licences_in_prose_are_left_to_people() -> None:
    assert manifest.parse_licences("It is free.\nLicense: see below\n") == ()
    assert manifest.parse_licences("Format: 1.0\nLicense:\n") == ()


def test_write_leaves_three_files_that_agree(tmp_path: Path) -> None:
    root, out = tmp_path / "root", tmp_path / "out"
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/acl").write_bytes(bytes(1000))
    (root / "usr/bin/link").symlink_to("acl")
    out.mkdir()
    (out / "root.img").write_bytes(bytes(500))
    for _ in range(2):
        manifest.write(out, root, OWNED, TERMS, LOCK, {"root": out / "root.img"})
    written = json.loads((out / "manifest.json").read_text())
    assert written["files"]["root"]["size_bytes"] == 500
    assert {each["name"]: each["packed_bytes"] for each in written["packages"]} == {
        "acl": 500,
        "(of no package)": 0,
    }
    table = (out / "manifest.txt").read_text()
    assert "acl 1:2.3+b1 GPL-2, MIT" in table
    assert table.endswith("Since the build before:\nnothing\n")
    assert json.loads((out / "sbom.json").read_text())["bomFormat"] == "CycloneDX"
