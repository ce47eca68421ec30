"""Be `vdsm.common.fileutils`."""

from pathlib import Path


def touch_file(file_path: str) -> None:
    """Create a file, or set its times to now."""
    Path(file_path).touch()


def rm_file(file_to_remove: str) -> None:
    """Remove a file that may be gone already."""
    Path(file_to_remove).unlink(missing_ok=True)
