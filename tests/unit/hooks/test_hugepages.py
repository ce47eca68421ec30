"""hugepages: a VM's memory in huge pages, which may have to be added."""

import os
from pathlib import Path

import pytest

from tests.unit.hooks import scene

_STARTS = ("before_vm_start", "before_vm_migrate_destination")
_NEEDED = 256  # pages of 2 MiB of the VM of the scene, which has 512 MiB


def _pool(folder: Path) -> Path:
    return folder / "kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the pages of a host that has ten."""
    _make_pool(tmp_path)
    return tmp_path


def _make_pool(folder: Path) -> None:
    _pool(folder).parent.mkdir(parents=True)
    _pool(folder).write_text("10\n")


def _run(
    folder: Path,
    payload: str | None = None,
    *,
    point: str = "before_vm_start",
    **properties: str,
) -> scene.Outcome:
    properties["SKERRY_HOOKS_SYS"] = os.fspath(folder)
    return scene.run("hugepages", point, properties, payload, folder=folder)


def _count(folder: Path) -> int:
    return int(_pool(folder).read_text())


@pytest.mark.parametrize("properties", [{}, {"hugepages": "0"}], ids=str)
@pytest.mark.parametrize("point", [*_STARTS, "after_vm_destroy"])
def test_hugepages_does_nothing_unless_it_is_wanted(
    folder: Path, point: str, properties: dict[str, str]
) -> None:
    outcome = _run(folder, point=point, **properties)
    assert outcome.returncode == 0
    assert outcome.is_untouched
    assert _count(folder) == 10


@pytest.mark.parametrize("size", ["2048", "1048576"])
def test_hugepages_takes_pages_of_a_size_from_the_host(folder: Path, size: str) -> None:
    outcome = _run(folder, hugepages=size)
    scene.assert_valid(outcome)
    (page,) = outcome.tree.findall("memoryBacking/hugepages/page")
    assert scene.attributes(page) == {"size": size, "unit": "KiB"}
    assert _count(folder) == 10
    assert scene.may_be_set("hugepages", "hugepages", size)


_COUNTS = pytest.mark.parametrize(
    ("wanted", "added"),
    [("100", 100), ("256", _NEEDED), ("512", _NEEDED), ("9999999", _NEEDED)],
)


@_COUNTS
def test_hugepages_adds_pages_that_the_vm_can_use(
    folder: Path, wanted: str, added: int
) -> None:
    outcome = _run(folder, hugepages=wanted)
    scene.assert_valid(outcome)
    (page,) = outcome.tree.findall("memoryBacking/hugepages/page")
    assert scene.attributes(page) == {"size": "2048", "unit": "KiB"}
    assert _count(folder) == 10 + added
    assert scene.may_be_set("hugepages", "hugepages", wanted)


@_COUNTS
def test_hugepages_adds_pages_where_the_vm_arrives(
    tmp_path_factory: pytest.TempPathFactory, folder: Path, wanted: str, added: int
) -> None:
    source = tmp_path_factory.mktemp("source")
    _make_pool(source)
    at_source = _run(source, hugepages=wanted).after
    outcome = _run(
        folder, at_source, point="before_vm_migrate_destination", hugepages=wanted
    )
    assert outcome.returncode == 0
    assert outcome.is_untouched
    assert _count(folder) == 10 + added


def test_hugepages_adds_pages_once(folder: Path) -> None:
    first = _run(folder, hugepages="100")
    again = _run(folder, hugepages="100")
    assert again.after == first.after
    assert _count(folder) == 110


def test_hugepages_leaves_what_is_backed_already(folder: Path) -> None:
    backed = _run(folder, hugepages="2048").after
    outcome = _run(folder, backed, hugepages="100")
    assert outcome.returncode == 0
    assert outcome.is_untouched
    assert _count(folder) == 10


def test_hugepages_keeps_other_backing(folder: Path) -> None:
    payload = scene.domain_xml().replace(
        "<os>", "<memoryBacking><locked/></memoryBacking><os>"
    )
    outcome = _run(folder, payload, hugepages="2048")
    scene.assert_valid(outcome)
    backing = outcome.tree.findall("memoryBacking/*")
    assert [each.tag for each in backing] == ["locked", "hugepages"]


@pytest.mark.parametrize("properties", [{}, {"hugepages": "100"}], ids=str)
def test_hugepages_takes_away_what_it_added(
    folder: Path, properties: dict[str, str]
) -> None:
    _run(folder, hugepages="100")
    _pool(folder).write_text("150\n")  # others added some, too
    for _ in range(2):
        assert _run(folder, point="after_vm_destroy", **properties).returncode == 0
        assert _count(folder) == 50


def test_hugepages_gives_back_when_the_host_has_too_few(folder: Path) -> None:
    programs = folder / "programs"
    programs.mkdir()
    # A kernel that makes no more than 42 of them.
    _replace_kernel(folder, programs, 42)
    outcome = scene.run(
        "hugepages",
        "before_vm_start",
        {"SKERRY_HOOKS_SYS": os.fspath(folder), "hugepages": "100"},
        folder=folder,
        programs=programs,
    )
    scene.assert_refused(outcome, "hugepages")
    assert "could make 32" in outcome.stderr
    assert _count(folder) == 10
    assert not list((folder / "hooks").glob("hugepages-*"))


def _replace_kernel(folder: Path, programs: Path, most: int) -> None:
    """Have a tee that writes at most this number."""
    program = programs / "tee"
    program.write_text(
        f'#!/bin/sh\nread n\n[ "$n" -le {most} ] || n={most}\necho $n > "$1"\n'
    )
    program.chmod(0o755)


def test_hugepages_says_why_the_count_cannot_be_changed(folder: Path) -> None:
    programs = folder / "programs"
    programs.mkdir()
    program = programs / "tee"
    program.write_text("#!/bin/sh\necho 'sudo: a password\nis required' >&2; exit 1\n")
    program.chmod(0o755)
    outcome = scene.run(
        "hugepages",
        "before_vm_start",
        {"SKERRY_HOOKS_SYS": os.fspath(folder), "hugepages": "100"},
        folder=folder,
        programs=programs,
    )
    scene.assert_refused(outcome, "hugepages")
    assert "a password is required" in outcome.stderr


@scene.hostile
@pytest.mark.parametrize("point", _STARTS)
def test_hugepages_refuses_what_is_no_number(
    folder: Path, point: str, value: str
) -> None:
    scene.assert_refused(_run(folder, point=point, hugepages=value), "hugepages")
    assert _count(folder) == 10
    assert not scene.may_be_set("hugepages", "hugepages", value)


def test_hugepages_ships_the_rule_for_its_command() -> None:
    pool = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
    rules = (scene.HOOKS / "hugepages" / "sudoers").read_text()
    assert f"NOPASSWD: /usr/bin/tee {pool}\n" in rules
