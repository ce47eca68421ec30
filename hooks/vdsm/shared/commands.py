"""Be `vdsm.common.commands`: run a command."""

import os
from collections.abc import Mapping, Sequence

from hooking import execCmd

from vdsm.shared import cmdutils

__all__ = ["execCmd", "run"]


def run(
    args: Sequence[str],
    input: bytes | None = None,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    sudo: bool = False,
) -> bytes:
    """Return the output of a command; raise if its code is not 0."""
    code, out, err = execCmd(args, sudo=sudo, cwd=cwd, data=input, env=env, raw=True)
    if code:
        raise cmdutils.Error(args, code, out, err)
    output: bytes = out
    return output
