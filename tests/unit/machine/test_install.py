"""Check what install does with what apt and dpkg say; both are fakes here."""

import os
from pathlib import Path

import pytest

from tests.machine import install, progress, quiet


class Programs:
    """Fake programs in a folder; each writes its arguments to a diary."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.diary = folder / "diary"
        self.diary.touch()

    def add(self, name: str, script: str) -> None:
        path = self.folder / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {self.diary}\n{script}\n')
        path.chmod(0o755)

    def calls(self, word: str) -> list[str]:
        lines = self.diary.read_text().splitlines()
        return [line for line in lines if word in line]


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    found = Programs(folder)
    found.add("dpkg-query", r"printf 'gcc\tinstalled\n'")
    found.add("dpkg", "")
    found.add("apt-get", "")
    return found


@pytest.fixture
def places(tmp_path: Path) -> install.Places:
    (tmp_path / "sbin").mkdir()
    return install.Places(
        log=tmp_path / "log" / "packages.log",
        added=tmp_path / "added.txt",
        policy=quiet.Policy(tmp_path / "sbin" / "policy-rc.d"),
    )


def test_install_asks_apt_for_what_is_missing_only(
    programs: Programs, places: install.Places, capsys: pytest.CaptureFixture[str]
) -> None:
    needed = {"gcc": "compiles", "socat": "forwards"}
    install.install(needed, places, is_root=True)
    (call,) = programs.calls("apt-get")
    assert call.endswith("install --no-install-recommends socat")
    assert places.added.read_text() == "socat\n"
    assert "forwards" in capsys.readouterr().out


def test_install_calls_no_apt_when_nothing_is_missing(
    programs: Programs, places: install.Places
) -> None:
    install.install({"gcc": "compiles"}, places, is_root=False)
    assert programs.calls("apt-get") == []
    assert not places.added.exists()


def test_install_repairs_what_a_killed_run_left_when_nothing_is_missing(
    programs: Programs, places: install.Places
) -> None:
    places.policy.path.write_text(quiet.FORBID)
    install.install({"gcc": "compiles"}, places, is_root=True)
    assert programs.calls("apt-get") == []
    assert not places.policy.path.exists()


def test_install_lets_apt_inherit_the_lock(
    programs: Programs, places: install.Places
) -> None:
    programs.add("apt-get", "readlink /proc/self/fd/*; true")
    install.install({"socat": "forwards"}, places, is_root=True)
    lines = places.log.read_text().splitlines()
    assert os.fspath(places.policy.path.parent) in lines


def test_install_refuses_when_not_root(
    programs: Programs, places: install.Places
) -> None:
    with pytest.raises(install.NotRoot, match="root"):
        install.install({"socat": "forwards"}, places, is_root=False)
    assert programs.calls("apt-get") == []


def test_install_forbids_services_meanwhile(
    programs: Programs, places: install.Places
) -> None:
    programs.add("apt-get", f"cat {places.policy.path}")
    install.install({"socat": "forwards"}, places, is_root=True)
    assert quiet.MARK in places.log.read_text()
    assert not places.policy.path.exists()


@pytest.mark.parametrize(
    ("complaint", "mend"),
    [
        pytest.param("E: Unable to locate package socat", "update", id="no-list"),
        pytest.param("Err:1 404  Not Found", "update", id="old-list"),
        pytest.param(
            "E: dpkg was interrupted, you must", "--configure", id="interrupted"
        ),
    ],
)
def test_install_mends_and_tries_again(
    programs: Programs,
    places: install.Places,
    tmp_path: Path,
    complaint: str,
    mend: str,
) -> None:
    mended = tmp_path / "mended"
    programs.add("dpkg", f"touch {mended}")
    programs.add(
        "apt-get",
        f"case $* in *update*) touch {mended}; exit 0;; esac\n"
        f"[ -e {mended} ] && exit 0; echo '{complaint}'; exit 100",
    )
    install.install({"socat": "forwards"}, places, is_root=True)
    assert len(programs.calls(mend)) == 1
    assert len(programs.calls("apt-get")) - len(programs.calls("update")) == 2
    assert places.added.read_text() == "socat\n"


def test_install_gives_up_when_mending_did_not_help(
    programs: Programs, places: install.Places
) -> None:
    programs.add(
        "apt-get",
        "case $* in *update*) exit 0;; esac; echo Unable to locate package x; exit 100",
    )
    with pytest.raises(progress.StepFailed, match="status 100"):
        install.install({"x": "y"}, places, is_root=True)
    assert len(programs.calls("update")) == 1
    assert not places.policy.path.exists()


def test_install_fails_when_dpkg_does_not_answer(
    programs: Programs, places: install.Places
) -> None:
    programs.add("dpkg-query", "exit 2")
    with pytest.raises(install.QueryFailed):
        install.install({"x": "y"}, places, is_root=True)


@pytest.mark.parametrize("codename", ["bookworm", "trixie"])
def test_find_release_knows_debian(codename: str) -> None:
    facts = {"ID": "debian", "VERSION_CODENAME": codename}
    assert install.find_release(facts) == codename


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param({}, id="no-os-release"),
        pytest.param({"ID": "debian", "VERSION_CODENAME": "buster"}, id="old-debian"),
        pytest.param({"ID": "else", "VERSION_CODENAME": "trixie"}, id="not-debian"),
    ],
)
def test_find_release_rejects_what_it_does_not_know(facts: dict[str, str]) -> None:
    with pytest.raises(install.NotDebian):
        install.find_release(facts)


def test_parse_installed_leaves_half_installed_out() -> None:
    listing = "a\tinstalled\nb\tconfig-files\nc\thalf-configured\nd\tunpacked\n"
    assert install.parse_installed(listing) == {"a"}
