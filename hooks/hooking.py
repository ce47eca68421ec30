"""Give a hook script what VDSM's `hooking` gave it: its payload and a way out.

A script is told by `_hook_domxml` or `_hook_json` which file it may edit; the
scripts of a point edit the same file one after the other, so it is written in
place: a file that was put there instead of it is not read. How a script ends:

    0  it did what it is for
    1  it failed; the scripts after it still run
    2  it failed; the scripts after it do not run

Standard library only: it runs in whatever Python the script names. Source:
VDSM lib/vdsm/hook/hooking.py, whose names and meanings these are.
"""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn
from xml.dom import minidom

# The variables that name the file with the payload.
_XML_FILE = "_hook_domxml"
_JSON_FILE = "_hook_json"

_RUN_FOLDER = "/run/vdsm"  # where VDSM keeps the launch flags
_NO_LAUNCH_FLAGS = 0  # VIR_DOMAIN_NONE


def read_domxml() -> minidom.Document:
    """Return the XML of the domain, or of the device, that the point is about."""
    text = Path(os.environ[_XML_FILE]).read_bytes().decode()
    return minidom.parseString(text)


def write_domxml(domxml: minidom.Node) -> None:
    """Replace the XML by this one; what cannot be written leaves it as it was."""
    content = domxml.toxml(encoding="utf-8")
    Path(os.environ[_XML_FILE]).write_bytes(content)


def read_json() -> Any:
    """Return the object that the point is about."""
    return json.loads(Path(os.environ[_JSON_FILE]).read_bytes())


def write_json(data: Any) -> None:
    """Replace the object by this one; what cannot be written leaves it as it was."""
    content = json.dumps(data)
    Path(os.environ[_JSON_FILE]).write_text(content)


def tobool(s: object) -> bool:
    """Return whether a property's value says yes: true in any case, or a number but 0.

    As VDSM has it, all else says no: "yes", and numbers that are not text.
    """
    if isinstance(s, bool):
        return s
    if not isinstance(s, str | bytes):
        return False
    if s.lower() == "true":
        return True
    try:
        return bool(int(s))
    except ValueError:
        return False


def log(message: str) -> None:
    """Tell the log of the VM something."""
    sys.stderr.write(message + "\n")


def exit_hook(message: str, return_code: int = 2) -> NoReturn:
    """End the script with a sentence that the user reads."""
    sys.stderr.write(message + "\n")
    sys.exit(return_code)


def execCmd(  # VDSM's name, and below its arguments in its order
    command: Iterable[str],
    sudo: bool = False,
    cwd: str | os.PathLike[str] | None = None,
    data: bytes | None = None,
    raw: bool = False,
    printable: Iterable[str] | None = None,
    env: Mapping[str, str] | None = None,
    nice: int | None = None,
    ioclass: int | None = None,
    ioclassdata: int | None = None,
    setsid: bool = False,
    execCmdLogger: logging.Logger = logging.root,
    resetCpuAffinity: bool = True,
) -> tuple[int, Any, Any]:
    """Run a command, through `sudo -n` if asked; return its code, output, errors.

    Output and errors are lists of lines in bytes, or, raw, bytes as they came.
    What is printable is logged instead of a command that holds a secret. A
    command that does not exist raises OSError. Nothing here is bound to some of
    the processors, so there is no affinity to reset.
    """
    words = [*_prefixes(sudo, setsid, nice, ioclass, ioclassdata), *command]
    execCmdLogger.debug("%s (cwd %s)", " ".join(printable or words), cwd)
    process = subprocess.run(
        words, input=data or b"", cwd=cwd, env=env, capture_output=True, check=False
    )
    code, out, err = process.returncode, process.stdout, process.stderr
    execCmdLogger.debug("ended with %d: %r", code, err)
    return (code, out, err) if raw else (code, out.splitlines(), err.splitlines())


def load_vm_launch_flags_from_file(vm_id: str) -> int:
    """Return the flags that libvirt will be given to start the VM with."""
    try:
        lines = _launch_flags(vm_id).read_text().splitlines()
    except FileNotFoundError:
        return _NO_LAUNCH_FLAGS
    return int(lines[0])


def dump_vm_launch_flags_to_file(vm_id: str, flags: int) -> None:
    """Set the flags that libvirt will be given to start the VM with."""
    path = _launch_flags(vm_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(str(flags))


def _prefixes(
    sudo: bool,
    setsid: bool,
    nice: int | None,
    ioclass: int | None,
    ioclassdata: int | None,
) -> list[str]:
    """Return what stands before a command, root's rights first."""
    words = ["sudo", "-n"] if sudo and os.geteuid() else []
    if setsid:
        words += ["setsid"]
    if nice is not None:
        words += ["nice", "-n", str(nice)]
    if ioclass is not None:
        words += ["ionice", "-c", str(ioclass)]
        words += [] if ioclassdata is None else ["-n", str(ioclassdata)]
    return words


def _launch_flags(vm_id: str) -> Path:
    run_folder = os.environ.get("SKERRY_HOOKS_RUN", _RUN_FOLDER)
    return Path(run_folder, vm_id, "launchflags")
