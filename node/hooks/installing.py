"""Keep bundles of hooks on this node: each is there whole, or not at all.

    <state>/hooks/<bundle>/<point>/<script>    0755 root
    <state>/hooks/<bundle>/bundle.json         name, version, who signed it
    <state>/hooks/.<something>                 on its way in or out

A bundle is written beside its place and renamed into it; one that was there before is
renamed away first, so a crash in between leaves none, and both are asked for again.
"""

import logging
import os
import secrets
import shutil
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Final

from node import hook_bundle, wire
from node.errors import Error, NotFound
from node.hook_bundle import BundleUnsigned
from node.model.hooks import HookBundle
from node.store import Store

log = logging.getLogger(__name__)

FACTS: Final = "bundle.json"
_ON_ITS_WAY: Final = "."


class NoSuchBundle(NotFound):
    code = "no_such_hook_bundle"
    remedy = "`skerry-node hooks bundles` lists them."


class Bundles:
    """The bundles of this node. Any thread may call."""

    def __init__(
        self,
        folder: Path,
        store: Store,
        keys: Callable[[], Iterable[str]],
        on_change: Callable[[], None],
    ) -> None:
        """`keys` returns the PEM of those who may sign, as the fleet has it."""
        self._folder = folder
        self._store = store
        self._keys = keys
        self._on_change = on_change
        self._changing = threading.Lock()

    def list(self) -> tuple[HookBundle, ...]:
        return tuple(_facts(each) for each in roots(self._folder))

    def install(
        self, text: str, more_keys: Iterable[str] = (), *, is_unsigned: bool = False
    ) -> HookBundle:
        """Put a bundle in place of one of that name; BadBundle, BundleUnsigned.

        `more_keys` may sign as well; `is_unsigned`: nobody known need have signed.
        """
        read, files = hook_bundle.read(text.encode())
        try:
            signer = hook_bundle.signer(read, [*self._keys(), *more_keys])
        except BundleUnsigned:
            if not is_unsigned:
                raise
            signer = ""
        facts = HookBundle(read.name, read.version, signer)
        with self._changing:
            self._clear()
            made = self._folder / f"{_ON_ITS_WAY}{secrets.token_hex(8)}"
            _lay_down(made, files, facts)
            self._take_away(read.name)
            made.rename(self._folder / read.name)
            _sync(self._folder)
            self._clear()
        self._note("hook_bundle_installed" if signer else "hook_bundle_unsigned", facts)
        return facts

    def remove(self, name: str) -> None:
        """Remove a bundle; NoSuchBundle."""
        with self._changing:
            found = {each.name: each for each in roots(self._folder)}
            if name not in found:
                text = f"there is no hook bundle {name:.80}"
                raise NoSuchBundle(text, name=name[:80])
            facts = _facts(found[name])
            self._take_away(name)
            _sync(self._folder)
            self._clear()
        self._note("hook_bundle_removed", facts)

    def _note(self, code: str, facts: HookBundle) -> None:
        log.info("%s: %s, version %s", code, facts.name, facts.version)
        with self._store.change() as change:
            change.event(
                code,
                name=facts.name,
                version=facts.version or "?",
                key=facts.signed_by[:16] or "?",
            )
        self._on_change()

    def _take_away(self, name: str) -> None:
        """Rename a bundle, so that no script of it begins any more."""
        place = self._folder / name
        if place.exists():
            place.rename(self._folder / f"{_ON_ITS_WAY}{secrets.token_hex(8)}")

    def _clear(self) -> None:
        """Remove what was on its way, also when an earlier agent stopped."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        for each in self._folder.glob(f"{_ON_ITS_WAY}*"):
            shutil.rmtree(each, ignore_errors=True)


def roots(folder: Path) -> tuple[Path, ...]:
    """Return the folders of hooks that bundles are, by name."""
    try:
        entries = sorted(folder.iterdir())
    except FileNotFoundError:
        return ()
    return tuple(each for each in entries if not each.name.startswith(_ON_ITS_WAY))


def _lay_down(
    folder: Path, files: Mapping[PurePosixPath, bytes], facts: HookBundle
) -> None:
    """Write the files of a bundle, and have them on the disk."""
    folder.mkdir(mode=0o755)
    whole = {**files, PurePosixPath(FACTS): wire.encode(facts)}
    for path, data in whole.items():
        file = folder / path
        file.parent.mkdir(exist_ok=True, mode=0o755)
        file.write_bytes(data)
        file.chmod(0o755 if hook_bundle.is_script(path) else 0o644)
        _sync(file)
    for each in {folder, *(folder / path.parent for path in whole)}:
        each.chmod(0o755)
        _sync(each)


def _facts(folder: Path) -> HookBundle:
    """Return what a bundle says of itself; nothing if somebody else laid it there."""
    try:
        return wire.decode(HookBundle, (folder / FACTS).read_bytes(), strict=False)
    except (OSError, Error):
        return HookBundle(folder.name, "", "")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
