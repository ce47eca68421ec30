"""Say what is in an image, and what takes the space."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from imagebuild import rootfs
from imagebuild.lock import Lock

_MODULES: Final = "/usr/lib/modules/"
_OTHERS: Final = "(of no package)"


def write(
    target: Path,
    root: Path,
    owned: Mapping[str, Sequence[str]],
    locked: Lock,
    files: Sequence[Path],
) -> None:
    """Write the manifest."""
    owner = {path: name for name, paths in owned.items() for path in paths}
    sizes: dict[str, int] = {}
    counts: dict[str, int] = {}
    for path in rootfs.walk(root):
        status = (root / path.lstrip("/")).lstat()
        name = owner.get(path) or owner.get(path.removesuffix("c")) or _OTHERS
        if path.startswith(_MODULES):
            name = "linux"
        sizes[name] = sizes.get(name, 0) + status.st_size
        counts[name] = counts.get(name, 0) + 1
    versions = {each.name: each.version for each in locked.packages}
    packages = [
        {
            "name": name,
            "version": versions.get(name, ""),
            "files": counts[name],
            "size_bytes": size,
        }
        for name, size in sorted(sizes.items(), key=lambda item: -item[1])
    ]
    told = {
        "day": locked.day.isoformat(),
        "files": {each.name: _fact(each) for each in files},
        "packages": packages,
    }
    target.write_text(json.dumps(told, indent=1) + "\n")


def _fact(file: Path) -> dict[str, Any]:
    with file.open("rb") as data:
        digest = hashlib.file_digest(data, "sha256").hexdigest()
    return {"size_bytes": file.stat().st_size, "sha256": digest}
