"""A node's own files of VMs: serial logs, and UEFI variables."""

import grp
import os
from pathlib import Path

import pytest

from node.units import MiB
from node.vm import files
from node.vm.devices import firmware
from node.vm.files import VmFiles
from tests.unit.node.vm.examples import VM_ID

_GROUP = grp.getgrgid(os.getgid()).gr_name


@pytest.fixture
def store(tmp_path: Path) -> VmFiles:
    made = VmFiles(tmp_path, _GROUP)
    made.prepare()
    return made


def test_variables_lie_beside_the_definition_where_root_may_look(
    store: VmFiles, tmp_path: Path
) -> None:
    beside = tmp_path / "beside"
    beside.write_bytes(b"boot order")
    assert store.variables(VM_ID, beside) == beside


@pytest.mark.skipif(not firmware.OVMF_VARIABLES.exists(), reason="needs ovmf")
def test_variables_are_the_nodes_own_where_root_may_not_look(
    store: VmFiles, tmp_path: Path
) -> None:
    own = store.variables(VM_ID, tmp_path / "hidden")
    assert (own.parent, own.stat().st_mode & 0o777) == (tmp_path / "nvram", 0o660)
    assert store.first_variables(VM_ID) == firmware.OVMF_VARIABLES.read_bytes()
    own.write_bytes(b"boot order")
    assert store.variables(VM_ID, tmp_path / "hidden") == own
    assert store.first_variables(VM_ID) == b"boot order"


def test_remove_takes_the_serial_logs_too(store: VmFiles) -> None:
    store.serial_log(VM_ID).write_text("new")
    store.serial_log(VM_ID).with_suffix(".log.0").write_text("old")
    store.remove(VM_ID)
    assert list(store.serial_log(VM_ID).parent.iterdir()) == []


@pytest.mark.parametrize(
    ("size", "tail"),
    [
        pytest.param(3, b"new", id="newest-only"),
        pytest.param(5, b"d-new", id="and-the-one-before"),
        pytest.param(100, b"old-new", id="all"),
        pytest.param(0, b"", id="nothing"),
        pytest.param(-1, b"", id="negative"),
    ],
)
def test_read_serial_returns_the_end(store: VmFiles, size: int, tail: bytes) -> None:
    store.serial_log(VM_ID).write_bytes(b"-new")
    store.serial_log(VM_ID).with_suffix(".log.0").write_bytes(b"old")
    assert store.read_serial(VM_ID, size) == tail


def test_read_serial_is_bounded(store: VmFiles) -> None:
    store.serial_log(VM_ID).write_bytes(bytes(2 * MiB))
    assert len(store.read_serial(VM_ID, 1 << 40)) == files.SERIAL_TAIL_MAX


def test_read_serial_is_empty_before_the_first_start(store: VmFiles) -> None:
    assert store.read_serial(VM_ID, 100) == b""
