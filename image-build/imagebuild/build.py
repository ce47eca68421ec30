"""Build the image: the stages in their order, each told with its size and its time.

CACHE/debs/<sha256>.deb        what was fetched, by the lock's checksums
     /roots/<key>/             packages installed, before anything of ours
build/image/root/              what becomes the image, pruned
           /initrd.img, root.img, vmlinuz, skerry-<version>.img
               /manifest.json, manifest.txt, sbom.json
"""

import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

from imagebuild import (
    archive,
    elf,
    hybrid,
    initrd,
    lock,
    manifest,
    modules,
    product,
    programs,
    pruning,
    recipe,
    rootfs,
    squash,
)
from node.errors import Failed
from node.units import MiB

CHECKOUT: Final = product.CHECKOUT
RECIPE: Final = CHECKOUT / "kickstart/node-image.ks"
LOCK: Final = CHECKOUT / "image-build/image.lock"
SIZE_MAX: Final = 100_000_000  # bytes of the whole file: what we promise
_ROOTS_KEPT: Final = 2


class ImageTooLarge(Failed):
    code = "image_too_large"
    remedy = "The manifest says what takes the space; drop something in minimize.ks."


class LockOutdated(Failed):
    code = "lock_outdated"
    remedy = "`make image-lock` resolves the recipe anew; commit its change."


class LibraryMissing(Failed):
    """A program in the root needs a library that was dropped."""

    code = "library_missing"
    remedy = "Keep the library in minimize.ks, or drop what needs it."


@dataclass(frozen=True, slots=True)
class Places:
    cache: Path
    out: Path


def make_lock(places: Places, today: date) -> None:
    """Resolve the recipe with what the mirror has today, and write the lock."""
    wanted = recipe.read(RECIPE)
    with _step("resolving packages"):
        mirror = archive.find_mirror(dict(os.environ))
        made = archive.resolve(wanted, mirror, places.cache / "apt", today)
        LOCK.write_text(lock.dump(made))
    print(f"{len(made.packages)} packages, {LOCK}")


def make(places: Places, version: str, *, is_fast: bool = False) -> Path:
    """Build the image and return its file."""
    wanted, locked = recipe.read(RECIPE), lock.parse(LOCK.read_text())
    unpacked = [each.package for each in wanted.unpacked]
    if absent := locked.missing([*wanted.packages, *unpacked]):
        raise LockOutdated(f"the lock lacks {', '.join(absent)}")
    out, root = places.out, places.out / "root"
    out.mkdir(parents=True, exist_ok=True)
    epoch_s = locked.epoch_s
    with _step("packages"):
        files = archive.fetch(
            locked, lambda: archive.find_mirror(dict(os.environ)), places.cache / "debs"
        )
    named = {package.name: file for package, file in files.items()}
    with _step("root file system"):
        _copy_base(wanted, locked, files, places, root)
    with _step("Skerry and its settings"):
        loaders = out / "loaders"
        shutil.rmtree(loaders, ignore_errors=True)
        _unpack(wanted, named, root, loaders)
        _run_scripts(wanted, root, epoch_s)
        product.put(wanted, root)
    with _step("kernel and initrd"):
        _choose_modules(wanted, root)
        kernel = out / "vmlinuz"
        version_of_kernel = initrd.kernel_version(root)
        shutil.copyfile(root / f"boot/vmlinuz-{version_of_kernel}", kernel)
        initrd.make(wanted, root, loaders, out / "initrd.img", epoch_s)
    with _step("dropping what a node does not need"):
        owned = rootfs.owners(root)
        terms = {
            **manifest.licences(loaders, unpacked),
            **manifest.licences(root, owned),
        }
        _prune(wanted, root, owned)
        product.compile_all(root)
        _check_libraries(root)
        product.check(root)
    with _step("compressing the root"):
        squash.make(root, out / "root.img", epoch_s, is_fast=is_fast)
    if not is_fast:
        _check_size(out / "root.img", wanted.root_size_max)
    with _step("the file"):
        image = out / f"skerry-{version}.img"
        parts = hybrid.Parts(kernel, out / "initrd.img", out / "root.img", loaders)
        hybrid.make(wanted, parts, out / "hybrid", image, version, epoch_s)
        built = {"kernel": kernel, "initrd": parts.initrd, "root": parts.root}
        built["image"] = image
        manifest.write(out, root, owned, terms, locked, built)
    print(f"{image}: {image.stat().st_size:,} bytes")
    if not is_fast:
        _check_size(image, SIZE_MAX)
    return image


def _check_size(file: Path, size_max: int) -> None:
    """Refuse a file that is larger than it may be."""
    size = file.stat().st_size
    if size > size_max:
        raise ImageTooLarge(
            f"{file.name}: {size:,} bytes, {size - size_max:,} too many", size=size
        )


def _copy_base(
    wanted: recipe.Recipe,
    locked: lock.Lock,
    files: dict[lock.Package, Path],
    places: Places,
    root: Path,
) -> None:
    """Have the packages installed, unless that was done before; copy the result."""
    text = lock.dump(locked) + " ".join(wanted.packages) + rootfs.RECIPE_OF_INSTALL
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    base = places.cache / "roots" / key
    if not base.exists():
        fresh = base.with_suffix(".new")
        base.parent.mkdir(parents=True, exist_ok=True)
        outside = {each.package for each in wanted.unpacked}
        inside = {p: f for p, f in files.items() if p.name not in outside}
        repository = places.cache / "repository"
        archive.repository(inside, repository, wanted.suites[0])
        rootfs.install(wanted, locked, repository, fresh)
        fresh.rename(base)
        for old in sorted(base.parent.iterdir(), key=os.path.getmtime)[:-_ROOTS_KEPT]:
            shutil.rmtree(old)
    shutil.rmtree(root, ignore_errors=True)
    programs.run(["cp", "--archive", "--reflink=auto", base, root])


def _unpack(
    wanted: recipe.Recipe, named: dict[str, Path], root: Path, loaders: Path
) -> None:
    for each in wanted.unpacked:
        if not each.target:
            rootfs.unpack(named[each.package], loaders)
            continue
        aside = loaders.with_name("unpacked")
        shutil.rmtree(aside, ignore_errors=True)
        rootfs.unpack(named[each.package], aside)
        target = root / each.target.lstrip("/")
        shutil.copytree(aside / each.source.lstrip("/"), target, symlinks=True)
        shutil.rmtree(aside)


def _run_scripts(wanted: recipe.Recipe, root: Path, epoch_s: int) -> None:
    for script in wanted.scripts:
        shell, text = (script.interpreter, "-s"), script.text
        if script.is_in_root:
            rootfs.in_root(root, *shell, stdin=text, epoch_s=epoch_s)
        else:
            programs.run([*shell, root], stdin=text.encode())


def _choose_modules(wanted: recipe.Recipe, root: Path) -> None:
    version = initrd.kernel_version(root)
    folder = root / "usr/lib/modules" / version
    needs = modules.parse_dependencies((folder / "modules.dep").read_text())
    kept = modules.choose(wanted.module_rules, needs)
    for rule in modules.idle(wanted.module_rules, needs):
        print(f"  idle: {rule.pattern} (kernel modules)")
    for module in needs:
        if module not in kept:
            (folder / module).unlink()
    packed = sorted(folder.rglob("*.ko.xz"))
    # Compressed with all else they take less, and the initrd is smaller, too.
    for start in range(0, len(packed), 200):
        programs.run(["xz", "--decompress", *packed[start : start + 200]])
    rootfs.in_root(root, "depmod", "--all", version)
    print(f"  {len(kept)} of {len(needs)} kernel modules")


def _prune(wanted: recipe.Recipe, root: Path, owned: dict[str, list[str]]) -> None:
    verdict = pruning.judge(wanted.rules, rootfs.walk(root), owned)
    for rule in verdict.idle:
        print(f"  idle: {rule.verb} {rule.pattern}")
    size = 0
    for path in verdict.dropped:
        file = root / path.lstrip("/")
        size += file.lstat().st_size
        file.unlink()
    folders = [Path(folder) for folder, *_ in os.walk(root, topdown=False)]
    emptied = {
        parent
        for path in verdict.dropped
        for parent in (root / path.lstrip("/")).parents
    }
    # Services need theirs in /var, though nothing is in them yet.
    kept = (root / "var", root / "etc")
    for folder in folders:
        is_ours = any(folder.is_relative_to(each) for each in kept)
        if folder in emptied and not is_ours and not any(folder.iterdir()):
            folder.rmdir()
    print(f"  {len(verdict.dropped)} files of {size / MiB:.0f} MiB")


def _check_libraries(root: Path) -> None:
    """Refuse a root in which a program's libraries are not all there."""
    absent = elf.missing(root, rootfs.walk(root))
    if absent:
        told = "; ".join(f"{file}: {', '.join(names)}" for file, names in absent)
        raise LibraryMissing(f"libraries are missing: {told}")


@contextmanager
def _step(title: str) -> Iterator[None]:
    began = time.monotonic()
    print(f"{title} …", flush=True)
    yield
    print(f"{title}: {time.monotonic() - began:.0f} s", flush=True)
