"""Read recipes."""

from pathlib import Path

import pytest
from imagebuild import build, lock, recipe
from imagebuild.recipe import RecipeMalformed, Script, Unpacked

TEXT = """\
debian --suite=trixie --suite=trixie-security --component=main
lang C.UTF-8
keyboard us
timezone UTC
part / --size=80
bootloader --timeout=3 --append="quiet audit=0"
services --enabled=nginx,libvirtd.socket --disabled=rpcbind
device ahci nvme
device loop
%include packages.ks
%post
echo hello
%end
%minimize
because nobody reads them  # a remark
drop /usr/share/doc /usr/share/man
keep /usr/share/doc/a
because servers have these
module drivers/net
no-module drivers/net/wireless
%end
"""
PACKAGES = """\
%packages
linux
-plymouth
%end
%unpack
grub
novnc /from /to
%end
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "packages.ks").write_text(PACKAGES)
    (tmp_path / "image.ks").write_text(TEXT)
    return tmp_path / "image.ks"


def test_read_returns_what_a_recipe_and_its_includes_say(file: Path) -> None:
    read = recipe.read(file)
    assert read.suites == ("trixie", "trixie-security")
    assert read.packages == ("linux",)
    assert read.excluded == {"plymouth"}
    assert read.unpacked == (Unpacked("grub"), Unpacked("novnc", "/from", "/to"))
    assert read.enabled == ("nginx", "libvirtd.socket")
    assert read.masked == ("rpcbind",)
    assert read.drivers == ("ahci", "nvme", "loop")
    assert (read.kernel_arguments, read.menu_timeout_s) == ("quiet audit=0", 3)
    assert read.root_size_max == 80 * 1024 * 1024
    (script,) = read.scripts
    assert script == Script("echo hello\n", "/bin/sh", True, script.line)
    assert [(rule.verb, rule.pattern, rule.reason) for rule in read.rules] == [
        ("drop", "/usr/share/doc", "nobody reads them"),
        ("drop", "/usr/share/man", "nobody reads them"),
        ("keep", "/usr/share/doc/a", "nobody reads them"),
    ]
    assert [(rule.pattern, rule.is_kept) for rule in read.module_rules] == [
        ("drivers/net", True),
        ("drivers/net/wireless", False),
    ]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        pytest.param("lang C.UTF-8", "frobnicate", "frobnicate", id="unknown"),
        pytest.param("lang C.UTF-8", "xconfig", "xconfig", id="no-use-for-it"),
        pytest.param("lang C.UTF-8", "lang --no", "line 2", id="option"),
        pytest.param("because nobody reads them", "", "no `because`", id="no-reason"),
        pytest.param("drop /usr", "dorp /usr", "is no verb", id="verb"),
        pytest.param("packages.ks", "gone.ks", "gone.ks", id="include"),
        pytest.param("--suite=trixie --suite=trixie-security", "", "suite", id="suite"),
        pytest.param("part / --size=80\n", "", "part /", id="no-size"),
        pytest.param("%end\n%minimize", "%minimize", "%end", id="section-without-end"),
    ],
)
def test_read_says_what_is_wrong(file: Path, old: str, new: str, told: str) -> None:
    assert old in TEXT
    file.write_text(TEXT.replace(old, new, 1))
    with pytest.raises(RecipeMalformed, match=told):
        recipe.read(file)


def test_our_own_recipe_is_locked_and_gives_every_reason() -> None:
    ours = recipe.read(build.RECIPE)
    locked = lock.parse(build.LOCK.read_text())
    unpacked = [each.package for each in ours.unpacked]
    assert locked.missing([*ours.packages, *unpacked]) == []
    reasons = [rule.reason for rule in ours.rules]
    assert all([*reasons, *(rule.reason for rule in ours.module_rules)])
    assert not ours.excluded & {each.name for each in locked.packages}
