"""Test what the lab writes for a host's mirror to read."""

from pathlib import Path

import pytest

from tests.lab import errors, layout, mirror


@pytest.fixture
def lab(tmp_path: Path) -> layout.Layout:
    return layout.Layout("x", tmp_path, "10.1.2", hosts=1, aggregators=0)


@pytest.mark.parametrize("fault", mirror.Fault)
def test_set_fault_writes_the_letter_that_it_reads(
    lab: layout.Layout, fault: mirror.Fault
) -> None:
    mirror.set_fault(lab, "h1", fault)
    assert mirror.current_fault(lab, "h1") is fault
    assert f"'{fault.value}'" in Path(mirror.__file__).with_name("mirror.c").read_text()


def test_set_fault_replaces_the_pattern_in_the_same_file(lab: layout.Layout) -> None:
    mirror.set_fault(lab, "h1", mirror.Fault.EIO, "*/images/*")
    inode = lab.fault_file("h1").stat().st_ino
    mirror.set_fault(lab, "h1", mirror.Fault.EIO, "x")
    assert lab.fault_file("h1").stat().st_ino == inode  # it is mapped
    assert lab.fault_file("h1").read_bytes() == b"ex".ljust(4096, b"\0")


@pytest.mark.parametrize("pattern", ["x" * 256, "a\0b"], ids=["long", "nul"])
def test_set_fault_refuses_a_pattern(lab: layout.Layout, pattern: str) -> None:
    with pytest.raises(errors.BadSetting):
        mirror.set_fault(lab, "h1", mirror.Fault.EIO, pattern)
