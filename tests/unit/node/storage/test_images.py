"""Which files are images, and how large."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.storage import images
from node.units import GiB
from tests.fakes.qemu_img import header


def test_list_images_describes_a_file(tmp_path: Path) -> None:
    path = tmp_path / "debian-13.qcow2"
    path.write_bytes(header(GiB))
    os.utime(path, (0, 1763798400))
    (image,) = images.list_images(tmp_path)
    assert (image.name, image.size_bytes) == ("debian-13", GiB)
    assert image.modified_at == "2025-11-22T08:00:00.000Z"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("a.qcow2", b"", id="empty"),
        pytest.param("a.qcow2", b"QFI\xfb", id="cut-short"),
        pytest.param("a.qcow2", bytes(4096), id="raw"),
        pytest.param("a.img", header(GiB), id="other-suffix"),
        pytest.param(".a.qcow2", header(GiB), id="hidden"),
        pytest.param("a b.qcow2", header(GiB), id="space"),
        pytest.param("a.qcow2", header(GiB, backing_offset=512), id="backing-file"),
        pytest.param("a.qcow2", header(GiB, features=4), id="data-file"),
    ],
)
def test_list_images_passes_over(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert images.list_images(tmp_path) == ()


def test_list_images_has_none_when_the_folder_is_not_there(tmp_path: Path) -> None:
    assert images.list_images(tmp_path / "nowhere") == ()


@given(st.binary(max_size=200))
def test_virtual_size_survives_any_header(content: bytes) -> None:
    size = images.virtual_size(content)
    assert size is None or size >= 0
