"""Say what is in an image, under which licences, and what takes the space.

    manifest.json    the files that were built; every package with its share of them
    manifest.txt     the same as a table, and what has changed since the last build
    sbom.json        a bill of materials for programs that compare it with advisories

Pure but for `write` and `licences`. Sizes are bytes.
Source: CycloneDX 1.5, JSON; Debian's machine-readable copyright files (DEP 5).
"""

import hashlib
import json
import re
import uuid
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from imagebuild import rootfs
from imagebuild.lock import Lock

_MODULES: Final = "/usr/lib/modules/"
_KERNEL: Final = "(kernel modules)"
_OURS: Final = "(Skerry)"
_OTHERS: Final = "(of no package)"
_LICENCE: Final = re.compile(r"^License:\s*(\S.*?)\s*$", re.MULTILINE)
_NAMESPACE: Final = uuid.UUID("6d0f9a0e-53b5-4ac0-9a0c-2f7f3c4f1d55")  # ours alone


@dataclass(frozen=True, slots=True)
class Entry:
    """What one package has in the root."""

    name: str
    version: str
    licences: tuple[str, ...]
    files: int
    size_bytes: int
    packed_bytes: int  # its share of the compressed root, estimated


@dataclass(frozen=True, slots=True)
class Found:
    """One file of the root."""

    path: str
    size_bytes: int
    packed_bytes: int  # by a fast method: only the proportions count


def write(
    folder: Path,
    root: Path,
    owned: Mapping[str, Sequence[str]],
    terms: Mapping[str, tuple[str, ...]],
    locked: Lock,
    built: Mapping[str, Path],
) -> None:
    """Write all three beside the image; `built` names its parts, `root` among them."""
    facts = {name: _fact(path) for name, path in built.items()}
    found = [_look(root, path) for path in rootfs.walk(root)]
    entries = tally(found, owned, terms, locked, facts["root"]["size_bytes"])
    target = folder / "manifest.json"
    before = json.loads(target.read_text()) if target.exists() else {}
    told = {
        "day": locked.day.isoformat(),
        "files": facts,
        "packages": [asdict(each) for each in entries],
    }
    lines = [*table(entries), "", *changes(before, json.loads(json.dumps(told)))]
    (folder / "manifest.txt").write_text("\n".join(lines) + "\n")
    (folder / "sbom.json").write_text(json.dumps(sbom(locked, terms), indent=1) + "\n")
    target.write_text(json.dumps(told, indent=1) + "\n")


def tally(
    found: Iterable[Found],
    owned: Mapping[str, Sequence[str]],
    terms: Mapping[str, tuple[str, ...]],
    locked: Lock,
    root_bytes: int,
) -> list[Entry]:
    """Return what each package takes, the largest first."""
    owner = {path: name for name, paths in owned.items() for path in paths}
    groups: dict[str, list[Found]] = {}
    for each in found:
        groups.setdefault(_group(each.path, owner), []).append(each)
    packed = sum(each.packed_bytes for files in groups.values() for each in files)
    versions = {each.name: each.version for each in locked.packages}
    entries = [
        Entry(
            name,
            versions.get(name, ""),
            terms.get(name, ()),
            len(files),
            sum(each.size_bytes for each in files),
            sum(each.packed_bytes for each in files) * root_bytes // max(packed, 1),
        )
        for name, files in groups.items()
    ]
    return sorted(entries, key=lambda each: (-each.packed_bytes, each.name))


def table(entries: Sequence[Entry]) -> list[str]:
    """Return the lines of a table, for people."""
    lines = ["  packed      size  files  package, version, licences"]
    lines += [
        f"{each.packed_bytes / 1e6:8.2f} {each.size_bytes / 1e6:9.2f} {each.files:6} "
        f" {each.name} {each.version} {', '.join(each.licences)}".rstrip()
        for each in entries
    ]
    return lines


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return what two manifests differ in, a line each."""
    if not before:
        return ["There is no earlier build to compare with."]
    lines = []
    for name, fact in now["files"].items():
        old = before["files"].get(name, {}).get("size_bytes", 0)
        if fact["size_bytes"] != old:
            lines.append(
                f"{name}: {fact['size_bytes']:,} bytes ({fact['size_bytes'] - old:+,})"
            )
    olds, news = ({p["name"]: p for p in each["packages"]} for each in (before, now))
    lines += [f"gone: {name}" for name in sorted(olds.keys() - news.keys())]
    lines += [f"new: {name}" for name in sorted(news.keys() - olds.keys())]
    for name in sorted(olds.keys() & news.keys()):
        old, new = olds[name], news[name]
        if old["version"] != new["version"]:
            lines.append(f"{name}: {old['version']} → {new['version']}")
        elif old["size_bytes"] != new["size_bytes"]:
            lines.append(f"{name}: {new['size_bytes'] - old['size_bytes']:+,} bytes")
    return ["Since the build before:", *(lines or ["nothing"])]


def sbom(locked: Lock, terms: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """Return the bill of materials: every package that something was taken of."""
    digest = hashlib.sha256(repr(locked.packages).encode()).hexdigest()
    at = datetime.fromtimestamp(locked.epoch_s, UTC)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, digest)}",
        "version": 1,
        "metadata": {
            "timestamp": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {"type": "operating-system", "name": "skerry-node"},
        },
        "components": [
            {
                "type": "library",
                "name": each.name,
                "version": each.version,
                "purl": f"pkg:deb/debian/{each.name}@{_quoted(each.version)}",
                "hashes": [{"alg": "SHA-256", "content": each.sha256}],
                "licenses": [
                    {"license": {"name": name}} for name in terms.get(each.name, ())
                ],
            }
            for each in locked.packages
        ],
    }


def licences(root: Path, packages: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the licences that each package names, from its copyright file."""
    found = {}
    for name in packages:
        file = root / "usr/share/doc" / name / "copyright"
        if file.is_file():
            found[name] = parse_licences(file.read_text(errors="replace"))
    return found


def parse_licences(text: str) -> tuple[str, ...]:
    """Return the licences that a copyright file names; none if people must read it."""
    is_for_machines = text.lstrip().startswith("Format:")
    return tuple(sorted(set(_LICENCE.findall(text)))) if is_for_machines else ()


def _group(path: str, owner: Mapping[str, str]) -> str:
    if path.startswith(_MODULES):
        return _KERNEL
    if path.startswith("/usr/lib/skerry/"):
        return _OURS
    # Byte code lies where its source was.
    return owner.get(path) or owner.get(path.removesuffix("c")) or _OTHERS


def _quoted(version: str) -> str:
    return version.replace("+", "%2B").replace(":", "%3A")


def _look(root: Path, path: str) -> Found:
    file = root / path.lstrip("/")
    if file.is_symlink() or not file.is_file():
        return Found(path, 0, 0)
    data = file.read_bytes()
    return Found(path, len(data), len(zlib.compress(data, 1)))


def _fact(file: Path) -> dict[str, Any]:
    with file.open("rb") as data:
        digest = hashlib.file_digest(data, "sha256").hexdigest()
    return {"size_bytes": file.stat().st_size, "sha256": digest}
