"""Send and fetch images over several connections, some of which break."""

import os
import random
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from node import pki
from node.transfer import moving
from node.transfer.extents import Extent
from node.transfer.moving import PIECE_BYTES, Piece
from node.transfer.remote import Remote, RemoteDenies, RemoteGone
from node.units import MiB
from tests.fakes import image_server
from tests.fakes.image_server import ImageServer, block_sum

SIZE = 9 * MiB


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder, key = tmp_path_factory.mktemp("tls"), pki.make_key()
    (folder / "key.pem").write_text(pki.dump_key(key).reveal())
    name = "11111111-2222-4333-8444-000000000001"
    (folder / "cert.pem").write_text(pki.self_signed(key, name, datetime.now(UTC)))
    return folder / "cert.pem", folder / "key.pem"


@pytest.fixture
def trusting(papers: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(papers[0]))
    context.check_hostname = False  # it bears the node's id
    return context


@pytest.fixture
def server(papers: tuple[Path, Path]) -> Iterator[ImageServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*papers)
    with image_server.serve(SIZE, context) as made:
        yield made


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    """Yield a file with data, a hole, and data, which is a little short."""
    descriptor = os.open(tmp_path / "image", os.O_RDWR | os.O_CREAT)
    os.pwrite(descriptor, random.Random(1).randbytes(MiB), 0)
    os.pwrite(descriptor, random.Random(2).randbytes(MiB), 6 * MiB)
    os.ftruncate(descriptor, SIZE - 100)
    yield descriptor
    os.close(descriptor)


def content(file: int) -> bytes:
    return os.pread(file, SIZE, 0).ljust(SIZE, b"\0")


def test_upload_sends_data_and_words_for_holes(
    server: ImageServer, trusting: ssl.SSLContext, file: int
) -> None:
    told: list[int] = []
    moving.upload(server.url, trusting, file, SIZE, 0, told.append)
    assert bytes(server.data) == content(file)
    assert sum(length for _, length in server.puts) < 3 * MiB
    assert sum(length for _, length in server.zeros) > 6 * MiB
    assert (told, server.flushes) == ([SIZE], 1)


def test_upload_goes_on_after_what_is_done(
    server: ImageServer, trusting: ssl.SSLContext, file: int
) -> None:
    moving.upload(server.url, trusting, file, SIZE, 4 * MiB, lambda _: None)
    assert min(start for start, _ in (*server.puts, *server.zeros)) == 4 * MiB


def test_download_fetches_data_alone(
    server: ImageServer, trusting: ssl.SSLContext, file: int, tmp_path: Path
) -> None:
    server.data[:] = content(file)
    back = os.open(tmp_path / "back", os.O_RDWR | os.O_CREAT)
    os.ftruncate(back, SIZE)
    try:
        moving.download(server.url, trusting, back, SIZE, 0, lambda _: None)
        assert content(back) == content(file)
    finally:
        os.close(back)
    assert sum(length for _, length in server.gets) < 3 * MiB


@pytest.mark.parametrize("requests", range(5))
def test_broken_connection_tells_what_may_be_sent_again(
    server: ImageServer, trusting: ssl.SSLContext, file: int, requests: int
) -> None:
    told: list[int] = []
    server.breaks_after = requests
    with pytest.raises(RemoteGone):
        moving.upload(server.url, trusting, file, SIZE, 0, told.append)
    assert told == []
    server.breaks_after = None
    moving.upload(server.url, trusting, file, SIZE, 0, told.append)
    assert bytes(server.data) == content(file)


def test_ticket_that_is_over_is_told(
    server: ImageServer, trusting: ssl.SSLContext, file: int
) -> None:
    server.denies = True
    with pytest.raises(RemoteDenies, match="the ticket is over"):
        moving.upload(server.url, trusting, file, SIZE, 0, lambda _: None)


def test_stranger_is_not_believed(server: ImageServer) -> None:
    remote = Remote(server.url, ssl.create_default_context())
    with pytest.raises(RemoteGone, match="CERTIFICATE_VERIFY_FAILED"):
        remote.offer()


def test_sums_of_both_sides_agree(
    server: ImageServer, trusting: ssl.SSLContext, file: int
) -> None:
    assert moving.file_checksum(file, SIZE) == block_sum(content(file))
    server.data[:] = content(file)
    remote = Remote(server.url, trusting)
    assert remote.checksum() == moving.file_checksum(file, SIZE)
    remote.close()


def test_extents_of_a_file_are_its_data_its_holes_and_what_it_lacks(
    tmp_path: Path,
) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as made:
        made.truncate(4 * MiB)
        made.seek(MiB)
        made.write(b"x" * MiB)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        found = list(moving.file_extents(descriptor, 5 * MiB))
    finally:
        os.close(descriptor)
    assert [(each.start, each.length, each.is_zero) for each in found] == [
        (0, MiB, True),
        (MiB, MiB, False),
        (2 * MiB, 2 * MiB, True),
        (4 * MiB, MiB, True),
    ]


def test_pieces_are_cut_at_the_window_and_at_a_request() -> None:
    extents = [Extent(0, 10, True), Extent(10, 3 * PIECE_BYTES, False)]
    end = PIECE_BYTES + 20
    assert list(moving.pieces(extents, 5, end)) == [
        Piece(5, 5, True),
        Piece(10, PIECE_BYTES, False),
        Piece(10 + PIECE_BYTES, 10, False),
    ]
