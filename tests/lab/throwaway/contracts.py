"""Run contract suites on kernel NFS and on 4 KiB sectors: a program for the VM.

    python -m tests.lab.throwaway.contracts PYTEST...

The suites lay their files where they always do, in temporary folders; these lie on
the file systems that are meant. Its status is 0 if all have passed.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.lab.throwaway import server as servers
from tests.lab.throwaway.server import ADDRESS, run

FILES: Final = "tests/unit/node/storage/process/test_file_operations.py"
DISKS: Final = "tests/contract/test_disks_in_process.py"
LEASES: Final = "tests/contract/test_leases.py"
VERSIONS: Final = ("3", "4.2")


def main() -> None:
    failed = [name for name, words in _rounds() if not _passes(name, words)]
    sys.exit(f"failed: {failed}" if failed else 0)


def _rounds() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Mount one file system after the other; yield where, and what runs there."""
    server = servers.started()
    path = server.export_for_tests()
    for version in VERSIONS:
        source = path if version == "3" else f"/{Path(path).name}"
        target = f"/run/nfs-{version}"
        Path(target).mkdir()
        options = f"vers={version},soft"
        run("mount", "-t", "nfs", "-o", options, f"{ADDRESS}:{source}", target)
        yield target, (FILES, DISKS)
    target = "/run/large-sectors"
    Path(target).mkdir()
    run("mount", servers.disk_of_large_sectors(), target)
    yield target, (DISKS, f"{LEASES}::test_leases_work_on_4_kib_sectors[sanlock]")


def _passes(folder: str, words: tuple[str, ...]) -> bool:
    print(f"== {folder}", flush=True)
    argv = [*sys.argv[1:], f"--basetemp={folder}/pytest", *words]
    return subprocess.run(argv, env={**os.environ, "TMPDIR": folder}).returncode == 0


if __name__ == "__main__":
    main()
