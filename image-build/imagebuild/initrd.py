"""Make the initrd, which finds the root and mounts it: busybox, drivers, one script.

It shares nothing with the root: no udev, no C library, no crypto. That makes it a third
of what dracut makes (docs/decisions/0015-the-images-initrd.md).
"""

import lzma
import os
import shutil
from pathlib import Path
from typing import Final

from imagebuild import modules, programs
from imagebuild.recipe import Recipe

SCRIPT: Final = Path(__file__).resolve().parents[1] / "initrd/init"
_FOLDERS: Final = ("bin", "dev", "proc", "sys", "run", "tmp", "medium", "root")
# What modprobe reads besides the modules themselves.
_TABLES: Final = ("modules.builtin", "modules.order")


def kernel_version(root: Path) -> str:
    """Return the version of a root's only kernel."""
    (folder,) = (root / "usr/lib/modules").iterdir()
    return folder.name


def make(recipe: Recipe, root: Path, loaders: Path, target: Path, epoch_s: int) -> None:
    """Make the initrd for a root's kernel, compressed as the kernel reads it."""
    tree = target.with_suffix(".tree")
    shutil.rmtree(tree, ignore_errors=True)
    for name in _FOLDERS:
        (tree / name).mkdir(parents=True)
    shutil.copyfile(loaders / "usr/bin/busybox", tree / "bin/busybox")
    (tree / "bin/busybox").chmod(0o755)
    shutil.copyfile(SCRIPT, tree / "init")
    (tree / "init").chmod(0o755)
    _copy_modules(recipe, root, tree)
    packed = _pack(tree, epoch_s)
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}]
    # The kernel's decoder knows no other check.
    with lzma.open(target, "wb", check=lzma.CHECK_CRC32, filters=filters) as file:
        file.write(packed)
    shutil.rmtree(tree)


def _copy_modules(recipe: Recipe, root: Path, tree: Path) -> None:
    """Copy the drivers that the recipe names, and what they need."""
    version = kernel_version(root)
    source = root / "usr/lib/modules" / version
    target = tree / "lib/modules" / version
    needs = modules.parse_dependencies((source / "modules.dep").read_text())
    names = {modules.name(each): each for each in needs}
    built_in = {
        modules.name(line)
        for line in (source / "modules.builtin").read_text().splitlines()
    }
    wanted = {each.replace("-", "_") for each in recipe.drivers} - built_in
    if absent := sorted(wanted - names.keys()):
        raise modules.ModuleMissing(f"no kernel module is {', '.join(absent)}")
    for module in modules.closure((names[each] for each in wanted), needs):
        (target / module).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / module, target / module)
    for name in _TABLES:
        shutil.copyfile(source / name, target / name)
    programs.run(["depmod", "--all", "--basedir", tree, version])
    for table in target.glob("modules.*"):
        if table.name not in ("modules.dep", "modules.alias", "modules.builtin"):
            table.unlink()


def _pack(tree: Path, epoch_s: int) -> bytes:
    """Return the archive that a kernel unpacks: the same for the same tree."""
    names = []
    for folder, folders, files in os.walk(tree):
        for name in (*folders, *files):
            path = Path(folder, name)
            os.utime(path, (epoch_s, epoch_s))
            names.append(os.fspath(path.relative_to(tree)))
    archive = tree.with_suffix(".cpio")
    words = ["cpio", "--quiet", "--create", "--format=newc", "--reproducible"]
    listed = "\n".join(sorted(names)).encode() + b"\n"
    owned = ["--owner=+0:+0", f"--file={archive}"]
    programs.run([*words, *owned], folder=tree, stdin=listed)
    packed = archive.read_bytes()
    archive.unlink()
    return packed
