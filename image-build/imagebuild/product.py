"""Put Skerry itself into a root: the agent, the samples of hooks, the units.

/usr/lib/skerry          node/, hooks/ and a Python environment that finds them
/usr/lib/skerry/bin      python, skerry-node, skerry-storage; the first two also
                         where people look for commands
image-build/files        what lies over the root as it is there
"""

import os
import shutil
from pathlib import Path
from typing import Final

from imagebuild import rootfs
from imagebuild.recipe import Recipe

CHECKOUT: Final = Path(__file__).resolve().parents[2]
HOME: Final = "/usr/lib/skerry"
_COMMANDS: Final = {
    "skerry-node": "node.cli",
    "skerry-storage": "node.storage.process.__main__",
    "skerry-transfer": "node.transfer.__main__",
}
_COMMAND: Final = """\
#!{home}/bin/python
import sys
from {module} import main
sys.exit(main())
"""
_IN_CHECKOUT: Final = "/opt/skerry/.venv"


def put(recipe: Recipe, root: Path) -> None:
    """Put all of it into a root."""
    home = root / HOME.lstrip("/")
    for name in ("node", "hooks"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(CHECKOUT / name, home / name, ignore=ignored)
    _make_environment(root, home)
    shutil.copytree(
        CHECKOUT / "image-build/files", root, symlinks=True, dirs_exist_ok=True
    )
    units = root / "usr/lib/systemd/system"
    for unit in sorted((CHECKOUT / "docs/systemd").glob("skerry-[nst]*.service")):
        (units / unit.name).write_text(unit.read_text().replace(_IN_CHECKOUT, HOME))
    _choose_services(recipe, root)
    for folder, folders, files in os.walk(root / "usr/lib/skerry"):
        for name in (*folders, *files):
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(path.stat().st_mode & ~0o022)


def _make_environment(root: Path, home: Path) -> None:
    """Make a Python environment as `venv` does, that sees Debian's packages."""
    folder = home / "bin"
    folder.mkdir()
    (folder / "python").symlink_to("/usr/bin/python3")
    version = (root / "usr/bin/python3").readlink().name
    packages = home / "lib" / version / "site-packages"
    packages.mkdir(parents=True)
    (packages / "skerry.pth").write_text(f"{HOME}\n")
    (home / "pyvenv.cfg").write_text(
        "home = /usr/bin\ninclude-system-site-packages = true\n"
    )
    for name, module in _COMMANDS.items():
        command = folder / name
        command.write_text(_COMMAND.format(home=HOME, module=module))
        command.chmod(0o755)
    (root / "usr/bin/skerry-node").symlink_to(f"{HOME}/bin/skerry-node")


def _choose_services(recipe: Recipe, root: Path) -> None:
    """Let the recipe's services start at boot, and no others."""
    presets = root / "usr/lib/systemd/system-preset"
    lines = [*(f"enable {unit}" for unit in map(_unit, recipe.enabled)), "disable *"]
    (presets / "00-skerry.preset").write_text("\n".join(lines) + "\n")
    for unit in map(_unit, recipe.masked):
        link = root / "etc/systemd/system" / unit
        link.unlink(missing_ok=True)
        link.symlink_to("/dev/null")
    rootfs.in_root(root, "systemctl", "preset-all")


def _unit(name: str) -> str:
    return name if "." in name else f"{name}.service"


def check(root: Path) -> None:
    """Refuse a root in which what runs on a node cannot even be loaded."""
    named = ("node.app", *_COMMANDS.values())
    text = f"import {', '.join(named)}"
    rootfs.in_root(root, f"{HOME}/bin/python", "-I", "-B", "-c", text)


def compile_all(root: Path) -> None:
    """Keep only the byte code of libraries; of ours both, for whoever reads a trace."""
    libraries = ["/usr/lib/python3/dist-packages", "/usr/lib/python3.13"]
    ours = [f"{HOME}/node", f"{HOME}/hooks"]
    # By one process, with no chance in it: else the same source is not the same code.
    python = ("/usr/bin/env", "PYTHONHASHSEED=0", "/usr/bin/python3")
    compiler = (*python, "-m", "compileall", "-q")
    hashed = ("--invalidation-mode", "unchecked-hash")
    rootfs.in_root(root, *compiler, *hashed, *ours)
    rootfs.in_root(root, *compiler, *hashed, "-b", *libraries)
    for folder in libraries:
        for source in (root / folder.lstrip("/")).rglob("*.py"):
            if source.with_suffix(".pyc").exists():
                source.unlink()
