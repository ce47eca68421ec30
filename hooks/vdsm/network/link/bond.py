"""Be `vdsm.network.link.bond`: which cards a bond consists of."""

import os
from pathlib import Path

# A test puts another folder here.
_DEVICES = Path(os.environ.get("SKERRY_HOOKS_SYS", "/sys"), "class", "net")


class Bond:
    """A bond of the host; one that is not there has no cards."""

    def __init__(self, name: str) -> None:
        self.master = name

    def exists(self) -> bool:
        return self._file.exists()

    @property
    def slaves(self) -> set[str]:
        return set(self._file.read_text().split()) if self.exists() else set()

    @property
    def _file(self) -> Path:
        return _DEVICES / self.master / "bonding" / "slaves"
