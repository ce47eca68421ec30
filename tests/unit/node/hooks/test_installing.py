"""Bundles on a node: whole or not at all, whenever the agent stops."""

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from node import hook_bundle
from node.clock import SystemClock
from node.hook_bundle import BadBundle, BadKey, BundleUnsigned
from node.hooks import folders, installing
from node.hooks.installing import Bundles, NoSuchBundle
from node.model.hooks import HookBundle, HookPoint
from node.model.ids import NodeId
from node.store import Store
from tests.unit.node.vm import examples

KEY = Ed25519PrivateKey.generate()
PEM = (
    KEY.public_key()
    .public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    .decode()
)
START = HookPoint.BEFORE_VM_START


def made(version: str, *names: str, is_signed: bool = True) -> str:
    files = {PurePosixPath(START, name): b"#!/bin/sh\n" for name in names}
    files[PurePosixPath("README.md")] = b"# site\n"
    return hook_bundle.write(
        "site", version, files, [KEY] if is_signed else []
    ).decode()


class Place:
    def __init__(self, folder: Path) -> None:
        self.folder = folder / "hooks"
        node_id = NodeId(examples.NODE_ID)
        self.store = Store(folder / "node.db", SystemClock(), node_id, "boot-1")
        self.pokes: list[str] = []
        self.bundles = self.again()

    def again(self) -> Bundles:
        """Return what a new agent has."""
        poke = self.pokes.append
        return Bundles(self.folder, self.store, lambda: [PEM], lambda: poke("changed"))

    def scripts(self) -> list[str]:
        found = folders.find(installing.roots(self.folder), START)
        assert not [each for each in found if each.refused]
        return [each.name for each in found]

    def codes(self) -> list[str]:
        return [each.code for each in self.store.events(0).events]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    found = Place(tmp_path)
    yield found
    found.store.close()


def test_bundle_is_installed(place: Place) -> None:
    facts = place.bundles.install(made("1", "50_a", "60_b"))
    assert facts == HookBundle("site", "1", hook_bundle.key_id(KEY.public_key()))
    assert place.again().list() == (facts,)
    assert place.scripts() == ["50_a", "60_b"]
    script = place.folder / "site" / START / "50_a"
    assert stat.S_IMODE(script.stat().st_mode) == 0o755
    assert stat.S_IMODE((place.folder / "site/README.md").stat().st_mode) == 0o644
    assert (place.codes(), place.pokes) == (["hook_bundle_installed"], ["changed"])


def test_newer_one_takes_its_place(place: Place) -> None:
    place.bundles.install(made("1", "50_a", "60_b"))
    place.bundles.install(made("2", "70_c"))
    assert [each.version for each in place.bundles.list()] == ["2"]
    assert place.scripts() == ["70_c"]
    assert [each.name for each in place.folder.iterdir()] == ["site"]


def test_unsigned_one_is_refused_unless_wanted(place: Place) -> None:
    text = made("1", "50_a", is_signed=False)
    with pytest.raises(BundleUnsigned):
        place.bundles.install(text)
    assert place.bundles.list() == ()
    facts = place.bundles.install(text, is_unsigned=True)
    assert facts.signed_by == ""
    assert place.codes() == ["hook_bundle_unsigned"]


def test_changed_one_is_refused_even_if_it_may_be_unsigned(place: Place) -> None:
    text = made("1", "50_a").replace('"1"', '"2"')
    with pytest.raises(BadBundle):
        place.bundles.install(text, is_unsigned=True)
    assert place.bundles.list() == ()


def test_more_keys_are_enough(place: Place) -> None:
    other = Bundles(place.folder, place.store, tuple, lambda: None)
    with pytest.raises(BundleUnsigned):
        other.install(made("1", "50_a"))
    other.install(made("1", "50_a"), [PEM])
    with pytest.raises(BadKey):
        other.install(made("1", "50_a"), ["no key"])


def test_bundle_is_removed_once(place: Place) -> None:
    place.bundles.install(made("1", "50_a"))
    place.bundles.remove("site")
    assert (place.bundles.list(), place.scripts()) == ((), [])
    assert list(place.folder.iterdir()) == []
    for name in ("site", "..", ".", "", "a/b"):
        with pytest.raises(NoSuchBundle):
            place.bundles.remove(name)


def test_folder_that_somebody_laid_there_is_listed(place: Place) -> None:
    (place.folder / "own" / START).mkdir(parents=True)
    assert place.bundles.list() == (HookBundle("own", "", ""),)


class Stopped(BaseException):
    """The agent stops here: nothing catches it."""


def _stop_at(monkeypatch: pytest.MonkeyPatch, step: int, steps: list[str]) -> None:
    """Let the agent stop before the `step`th call that changes something."""

    def counted(name: str, real: object) -> object:
        def call(*args: object, **kwargs: object) -> object:
            steps.append(name)
            if len(steps) > step:
                raise Stopped(name)
            return real(*args, **kwargs)  # type: ignore[operator]

        return call

    for name in ("mkdir", "chmod", "rename", "write_bytes"):
        monkeypatch.setattr(Path, name, counted(name, getattr(Path, name)))
    monkeypatch.setattr(os, "fsync", counted("fsync", os.fsync))
    monkeypatch.setattr(shutil, "rmtree", counted("rmtree", shutil.rmtree))


@pytest.mark.parametrize("is_removal", [False, True])
def test_agent_that_stops_leaves_one_of_them_whole(
    tmp_path: Path, *, is_removal: bool
) -> None:
    """Old scripts, new ones or none are there; never some of both, nor half."""
    steps: list[str] = []
    for step in range(100):
        folder = tmp_path / str(step)
        folder.mkdir()
        place = Place(folder)
        place.bundles.install(made("1", "50_a", "60_b"))
        is_through = False
        steps.clear()
        with pytest.MonkeyPatch.context() as monkeypatch:
            _stop_at(monkeypatch, step, steps)
            try:
                if is_removal:
                    place.bundles.remove("site")
                else:
                    place.bundles.install(made("2", "50_a", "70_c"))
                is_through = True
            except Stopped:
                pass
        assert place.scripts() in (["50_a", "60_b"], ["50_a", "70_c"], [])
        again = place.again()
        again.install(made("3", "80_d"))
        assert (place.scripts(), len(again.list())) == (["80_d"], 1)
        assert [each.name for each in place.folder.iterdir()] == ["site"]
        place.store.close()
        if is_through:
            assert step > 1
            return
    raise AssertionError("it never ends")
