"""fileinject: what libguestfs is asked for; a script stands for its shell."""

from pathlib import Path

import pytest

from tests.unit.hooks import scene


@pytest.fixture
def guestfish(tmp_path: Path) -> Path:
    """Return a program that keeps its arguments, and the file that it is to upload."""
    path = tmp_path / "guestfish"
    path.write_text(
        "#!/bin/sh\n"
        f'for each in "$@"; do echo "$each"; done >{tmp_path}/said\n'
        f"cat fileinject-content >{tmp_path}/content\n"
        f'echo "$LIBGUESTFS_BACKEND $LIBGUESTFS_MEMSIZE" >{tmp_path}/env\n'
    )
    path.chmod(0o755)
    return path


def _run(
    folder: Path, guestfish: Path, payload: str | None = None, **properties: str
) -> scene.Outcome:
    given = {"SKERRY_HOOKS_GUESTFISH": str(guestfish), **properties}
    return scene.run("fileinject", "before_vm_start", given, payload, folder=folder)


def _said(folder: Path) -> list[str]:
    said = folder / "said"
    return said.read_text().splitlines() if said.exists() else []


def test_nothing_is_written_unless_it_is_wanted(
    tmp_path: Path, guestfish: Path
) -> None:
    assert _run(tmp_path, guestfish).is_untouched
    assert _said(tmp_path) == []


@pytest.mark.parametrize(
    ("value", "there", "content"),
    [
        ("/etc/motd:Welcome", "/etc/motd", "Welcome"),
        ("/etc/a b:x: $(id) `id` ;\té", "/etc/a b", "x: $(id) `id` ;\té"),
        ("/empty:", "/empty", ""),
        ("/c/motd.txt:Hi", "win:c:/motd.txt", "Hi"),
    ],
)
def test_file_is_written_to_the_first_disk(
    tmp_path: Path, guestfish: Path, value: str, there: str, content: str
) -> None:
    outcome = _run(tmp_path, guestfish, fileinject=value)
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.is_untouched
    mode, form, _, image, inspect, verb, local, path = _said(tmp_path)
    assert (mode, form, inspect) == ("--rw", "--format=qcow2", "-i")
    assert image in scene.domain_xml()
    assert (verb, local, path) == ("upload", "fileinject-content", there)
    assert (tmp_path / "content").read_text() == content
    assert (tmp_path / "env").read_text() == "direct 256\n"
    assert scene.may_be_set("fileinject", "fileinject", value)


def test_what_fails_keeps_the_vm_down(tmp_path: Path) -> None:
    failing = tmp_path / "guestfish"
    failing.write_text("#!/bin/sh\necho 'no operating system' >&2\nexit 1\n")
    failing.chmod(0o755)
    outcome = _run(tmp_path, failing, fileinject="/etc/motd:x")
    scene.assert_refused(outcome, "fileinject")
    assert "no operating system" in outcome.stderr


def test_host_without_libguestfs_says_so(tmp_path: Path) -> None:
    outcome = _run(tmp_path, tmp_path / "missing", fileinject="/etc/motd:x")
    scene.assert_refused(outcome, "fileinject")
    assert "libguestfs-tools" in outcome.stderr


def test_vm_without_a_disk_is_refused(tmp_path: Path, guestfish: Path) -> None:
    payload = "<domain><devices/></domain>"
    outcome = _run(tmp_path, guestfish, payload, fileinject="/etc/motd:x")
    scene.assert_refused(outcome, "fileinject")


@pytest.mark.parametrize(
    "value",
    ["/etc/motd", "etc/motd:x", "/etc/:x", "/etc/../motd:x", ":x", f"/{'a' * 1024}:x"],
)
def test_other_values_are_refused(tmp_path: Path, guestfish: Path, value: str) -> None:
    scene.assert_refused(_run(tmp_path, guestfish, fileinject=value), "fileinject")


@scene.hostile
def test_hostile_values_are_refused(
    tmp_path: Path, guestfish: Path, value: str
) -> None:
    scene.assert_refused(_run(tmp_path, guestfish, fileinject=value), "fileinject")
    assert _said(tmp_path) == []
    assert not scene.may_be_set("fileinject", "fileinject", value)
