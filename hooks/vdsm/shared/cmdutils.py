"""Be `vdsm.common.cmdutils`: where a program is, and that a command failed."""

import errno
import os
import shutil
from collections.abc import Sequence


class CommandPath:
    """A program at the first of some paths, or else where PATH has it."""

    def __init__(self, name: str, *paths: str, search_path: bool = True) -> None:
        self.name = name
        self.paths = paths
        self._search_path = search_path

    @property
    def cmd(self) -> str:
        for path in self.paths:
            if os.path.exists(path):
                return path
        found = shutil.which(self.name) if self._search_path else None
        if found is None:
            raise OSError(errno.ENOENT, f"{os.strerror(errno.ENOENT)}: {self.name}")
        return found

    def __str__(self) -> str:
        return self.cmd

    __repr__ = __str__


class Error(Exception):
    """A command ended with another code than 0."""

    def __init__(
        self, cmd: Sequence[str], rc: int, out: bytes | str, err: bytes | str
    ) -> None:
        super().__init__(cmd, rc, out, err)
        self.cmd = cmd
        self.rc = rc
        self.out = out
        self.err = err

    def __str__(self) -> str:
        return f"{self.cmd} ended with {self.rc}, said {self.out!r} and {self.err!r}"
