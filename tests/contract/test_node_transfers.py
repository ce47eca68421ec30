"""Disks in and out of a node: the real storage process, qemu-nbd, nginx and client."""

import os
import random
import signal
import ssl
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ovirt_imageio import client

from node.errors import Conflict, Error, Unsupported
from node.model.ids import DiskId, SnapshotId, TransferId, VmId
from node.model.storage import (
    DiskFormat,
    DiskState,
    TimeoutPolicy,
    Transfer,
    TransferDirection,
    TransferPhase,
)
from node.model.storage_requests import (
    ActOnDisk,
    ActOnTransfer,
    CreateTransfer,
    FinalizeTransfer,
)
from node.storage.pools.world import Use
from node.transfer import moving
from node.transfer.remote import Remote, RemoteDenies
from node.units import MiB
from tests.contract import transfer_node, transfers
from tests.contract.transfer_node import Node
from tests.fakes.image_server import block_sum

SIZE = 8 * MiB
# Nobody has signed the certificate of this nginx.
TRUSTING = ssl._create_unverified_context()

# imageio's own client leaves connections to its qemu-nbd open.
pytestmark = [
    pytest.mark.real,
    pytest.mark.filterwarnings("ignore:unclosed <socket.*imageio-:ResourceWarning"),
]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with transfer_node.running(tmp_path_factory.mktemp("node")) as node:
        yield node


@pytest.fixture
def node(running: Node) -> Iterator[Node]:
    """Yield a node with an empty disk of its test."""
    yield running
    running.uses.clear()
    for each in running.transfers.transfer_list().transfers:
        _cancel(running, each)


def _cancel(node: Node, transfer: Transfer) -> None:
    if transfer.phase in (
        TransferPhase.INITIALIZING,
        TransferPhase.TRANSFERRING,
        TransferPhase.PAUSED_USER,
        TransferPhase.PAUSED_SYSTEM,
    ):
        node.transfers.transfer_cancel(transfer.transfer_id, ActOnTransfer())
        node.wait_phase(transfer.transfer_id, TransferPhase.CANCELLED)


def new_disk(node: Node, disk_format: DiskFormat = DiskFormat.QCOW2) -> DiskId:
    disk_id = DiskId(str(uuid.uuid4()))
    node.make_disk(disk_id, SIZE, disk_format)
    return disk_id


def image(folder: Path, seed: int = 1) -> Path:
    """Return a file of the disks' size with data, a hole, and data."""
    path = folder / f"image-{seed}"
    data = random.Random(seed).randbytes(2 * MiB)
    path.write_bytes(data + bytes(4 * MiB) + data)
    return path


def request(
    disk_id: DiskId,
    direction: TransferDirection = TransferDirection.UPLOAD,
    **fields: object,
) -> CreateTransfer:
    made = CreateTransfer(TransferId(str(uuid.uuid4())), disk_id, direction)
    return replace(made, **fields)  # type: ignore[arg-type]  # a test's own words


def begin(node: Node, asked: CreateTransfer) -> Transfer:
    """Return a transfer that a client may use."""
    node.transfers.transfer_create(asked)
    return node.wait_phase(asked.transfer_id, TransferPhase.TRANSFERRING)


def finalize(node: Node, transfer: Transfer, sha256: str = "") -> Transfer:
    node.transfers.transfer_finalize(transfer.transfer_id, FinalizeTransfer(sha256))
    return node.wait_phase(transfer.transfer_id, TransferPhase.FINISHED_SUCCESS)


def upload(node: Node, disk_id: DiskId, path: Path) -> Transfer:
    transfer = begin(node, request(disk_id))
    client.upload(str(path), transfer.url, None, secure=False)
    return finalize(node, transfer)


def download(node: Node, disk_id: DiskId, path: Path) -> bytes:
    transfer = begin(node, request(disk_id, TransferDirection.DOWNLOAD))
    client.download(transfer.url, str(path), None, fmt="raw", secure=False)
    finalize(node, transfer)
    return path.read_bytes()


def state(node: Node, disk_id: DiskId) -> DiskState:
    return node.agent.storage.disk_show(disk_id).state


@pytest.mark.parametrize("disk_format", DiskFormat)
def test_disk_comes_in_and_goes_out_as_it_was(
    node: Node, tmp_path: Path, disk_format: DiskFormat
) -> None:
    disk_id, path = new_disk(node, disk_format), image(tmp_path)
    done = upload(node, disk_id, path)
    assert done.transferred_bytes == SIZE
    assert node.wait(lambda: state(node, disk_id) is DiskState.OK)
    assert download(node, disk_id, tmp_path / "back") == path.read_bytes()
    assert state(node, disk_id) is DiskState.OK
    steps = node.instances.client().steps()
    assert not [each for each in steps if each.step_id.startswith("transfer.")]


def test_disk_is_locked_and_unusable_while_it_comes(node: Node) -> None:
    disk_id = new_disk(node)
    transfer = begin(node, request(disk_id))
    assert state(node, disk_id) is DiskState.LOCKED
    with pytest.raises(Error, match="works on disk") as caught:
        node.agent.storage.disk_delete(disk_id, ActOnDisk())
    assert caught.value.code == "disk_locked"
    meta = node.volume(disk_id).with_suffix(".meta").read_text()
    assert "LEGALITY=ILLEGAL" in meta
    node.transfers.transfer_cancel(transfer.transfer_id, ActOnTransfer())
    node.wait_phase(transfer.transfer_id, TransferPhase.CANCELLED)
    assert node.wait(lambda: state(node, disk_id) is DiskState.ILLEGAL)
    job = node.agent.storage.disk_delete(disk_id, ActOnDisk())
    assert node.agent.jobs.get(job.job_id, 10.0).error is None


def test_upload_is_believed_only_if_its_sum_is_right(
    node: Node, tmp_path: Path
) -> None:
    disk_id, path = new_disk(node), image(tmp_path)
    transfer = begin(node, request(disk_id))
    client.upload(str(path), transfer.url, None, secure=False)
    node.transfers.transfer_finalize(transfer.transfer_id, FinalizeTransfer("0" * 64))
    failed = node.wait_phase(transfer.transfer_id, TransferPhase.FINISHED_FAILURE)
    assert failed.reason is not None
    assert "its sum is" in str(failed.reason.fields)
    assert node.wait(lambda: state(node, disk_id) is DiskState.ILLEGAL)
    again = begin(node, request(disk_id))
    client.upload(str(path), again.url, None, secure=False)
    assert finalize(node, again, block_sum(path.read_bytes())).sha256 == block_sum(
        path.read_bytes()
    )
    assert node.wait(lambda: state(node, disk_id) is DiskState.OK)


def test_killed_qemu_nbd_pauses_and_resume_goes_on(node: Node, tmp_path: Path) -> None:
    disk_id, path = new_disk(node), image(tmp_path)
    transfer = begin(node, request(disk_id))
    half = path.read_bytes()[: SIZE // 2]
    _put(transfer, 0, half)
    os.kill(node.qemu_nbd(), signal.SIGKILL)
    paused = node.wait_phase(transfer.transfer_id, TransferPhase.PAUSED_SYSTEM)
    assert paused.reason is not None
    assert paused.reason.code == "transfer_interrupted"
    assert paused.transferred_bytes == len(half)
    node.transfers.transfer_resume(transfer.transfer_id, ActOnTransfer())
    node.wait_phase(transfer.transfer_id, TransferPhase.TRANSFERRING)
    _put(transfer, len(half), path.read_bytes()[len(half) :])
    finalize(node, transfer, block_sum(path.read_bytes()))
    assert download(node, disk_id, tmp_path / "back") == path.read_bytes()


def _put(transfer: Transfer, start: int, data: bytes) -> None:
    """Send some bytes, and have them flushed."""
    with tempfile.TemporaryFile() as file:
        os.pwrite(file.fileno(), data, start)
        remote = Remote(transfer.url, TRUSTING)
        try:
            remote.put(file.fileno(), start, len(data))
            remote.flush()
        finally:
            remote.close()


def test_restarted_agent_goes_on_and_clients_do_not_notice(
    node: Node, tmp_path: Path
) -> None:
    disk_id, path = new_disk(node), image(tmp_path)
    transfer = begin(node, request(disk_id))
    data = path.read_bytes()
    _put(transfer, 0, data[:MiB])
    node.agent.stop()
    _put(transfer, MiB, data[MiB : 2 * MiB])  # with no agent at all
    node.start()
    found = node.wait_phase(transfer.transfer_id, TransferPhase.TRANSFERRING)
    assert found.url == transfer.url
    with pytest.raises(Error) as caught:
        node.agent.storage.disk_delete(disk_id, ActOnDisk())
    assert caught.value.code == "disk_locked"
    _put(transfer, 2 * MiB, data[2 * MiB :])
    finalize(node, transfer, block_sum(path.read_bytes()))
    assert node.wait(lambda: state(node, disk_id) is DiskState.OK)


def test_transfer_that_nobody_uses_pauses_or_ends(node: Node) -> None:
    upload_of, download_of = new_disk(node), new_disk(node)
    first = begin(node, request(upload_of, inactivity_s=1.0))
    second = begin(
        node, request(download_of, TransferDirection.DOWNLOAD, inactivity_s=1.0)
    )
    paused = node.wait_phase(first.transfer_id, TransferPhase.PAUSED_SYSTEM)
    assert paused.reason is not None
    assert paused.reason.code == "transfer_unused"
    node.wait_phase(second.transfer_id, TransferPhase.CANCELLED)
    assert node.wait(lambda: state(node, download_of) is DiskState.OK)
    with pytest.raises(Conflict) as caught:
        node.transfers.transfer_finalize(first.transfer_id, FinalizeTransfer())
    assert caught.value.code == "transfer_not_ready"


def test_pause_lets_nobody_in_until_it_is_resumed(node: Node) -> None:
    asked = request(new_disk(node), timeout_policy=TimeoutPolicy.CANCEL)
    transfer = begin(node, asked)
    _put(transfer, 0, b"x" * 512)
    node.transfers.transfer_pause(transfer.transfer_id, ActOnTransfer())
    node.wait(lambda: not list(node.run_folder.glob("*.nbd")))
    with pytest.raises(RemoteDenies, match="403"):
        _put(transfer, 0, b"x" * 512)
    node.transfers.transfer_resume(transfer.transfer_id, ActOnTransfer())
    node.wait_phase(transfer.transfer_id, TransferPhase.TRANSFERRING)
    _put(transfer, 0, b"x" * 512)
    assert node.transfers.transfer_create(asked).transfer_id == transfer.transfer_id


def test_guest_that_starts_ends_a_download(node: Node) -> None:
    disk_id = new_disk(node)
    transfer = begin(node, request(disk_id, TransferDirection.DOWNLOAD))
    (known,) = node.agent.storage.storage_domain_list().storage_domains
    where = known.storage_domain.storage_domain_id
    node.uses[disk_id] = Use(VmId(str(uuid.uuid4())), where)
    failed = node.wait_phase(transfer.transfer_id, TransferPhase.FINISHED_FAILURE)
    assert failed.reason is not None
    assert "runs with disk" in str(failed.reason.fields)
    with pytest.raises(Conflict) as caught:
        node.transfers.transfer_create(request(disk_id))
    assert caught.value.code == "disk_in_use"


def test_qcow2_file_comes_and_goes_as_it_is(node: Node, tmp_path: Path) -> None:
    disk_id, path = new_disk(node), image(tmp_path)
    file = tmp_path / "image.qcow2"
    transfers.qemu_img("convert", "-O", "qcow2", path, file)
    size_bytes = file.stat().st_size
    fields: dict[str, Any] = {
        "disk_format": DiskFormat.QCOW2,
        "size_bytes": size_bytes,
    }
    transfer = begin(node, request(disk_id, **fields))
    assert transfer.size_bytes == size_bytes
    _put(transfer, 0, file.read_bytes())
    finalize(node, transfer, block_sum(file.read_bytes()))
    assert download(node, disk_id, tmp_path / "back") == path.read_bytes()
    fields = {"disk_format": DiskFormat.QCOW2}
    asked = request(disk_id, TransferDirection.DOWNLOAD, **fields)
    back = begin(node, asked)
    assert back.size_bytes == size_bytes
    finalize(node, back)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["-F", "raw", "-b", "/etc/passwd"], "not qcow2|built on|names a file"),
        (["-o", "data_file=/etc/passwd.x"], "names a file|another file|cannot read"),
        (["64M"], "not of"),
    ],
    ids=["backing-file", "data-file", "other-size"],
)
def test_qcow2_file_that_is_no_disk_of_ours_is_refused(
    node: Node, tmp_path: Path, words: list[str], why: str
) -> None:
    disk_id, file = new_disk(node), tmp_path / "evil.qcow2"
    size = [] if words[-1].endswith("M") else [str(SIZE)]
    if "-o" in words:
        words = ["-o", f"data_file={tmp_path}/data"]
    transfers.qemu_img("create", "-q", "-f", "qcow2", *_ordered(words, size, file))
    data = file.read_bytes()
    fields: dict[str, Any] = {
        "disk_format": DiskFormat.QCOW2,
        "size_bytes": len(data),
    }
    transfer = begin(node, request(disk_id, **fields))
    _put(transfer, 0, data)
    node.transfers.transfer_finalize(transfer.transfer_id, FinalizeTransfer())
    failed = node.wait_phase(transfer.transfer_id, TransferPhase.FINISHED_FAILURE)
    assert failed.reason is not None
    assert any(part in str(failed.reason.fields) for part in why.split("|")), failed
    assert node.wait(lambda: state(node, disk_id) is DiskState.ILLEGAL)


def _ordered(words: list[str], size: list[str], file: Path) -> list[str]:
    """Return the words of qemu-img create: options, the file, its size."""
    if words[-1].endswith("M"):
        return [str(file), *words]
    return [*words, str(file), *size]


def test_what_cannot_be_served_is_refused_at_once(node: Node) -> None:
    disk_id = new_disk(node, DiskFormat.RAW)
    snapshot = SnapshotId(str(uuid.uuid4()))
    for asked, code in (
        (request(disk_id, snapshot_id=snapshot), "transfer_of_snapshot_unsupported"),
        (
            request(disk_id, disk_format=DiskFormat.QCOW2),
            "transfer_format_unsupported",
        ),
    ):
        with pytest.raises(Unsupported) as caught:
            node.transfers.transfer_create(asked)
        assert caught.value.code == code
    assert state(node, disk_id) is DiskState.OK
    begin(node, request(disk_id))
    with pytest.raises(Error) as second:
        node.transfers.transfer_create(request(disk_id))
    assert second.value.code == "disk_locked"


def test_our_own_client_moves_disks_too(node: Node, tmp_path: Path) -> None:
    disk_id, path, told = new_disk(node), image(tmp_path), list[int]()
    transfer = begin(node, request(disk_id))
    with path.open("rb") as file:
        moving.upload(transfer.url, TRUSTING, file.fileno(), SIZE, 0, told.append)
        sha256 = moving.file_checksum(file.fileno(), SIZE)
    finalize(node, transfer, sha256)
    assert told == [SIZE]
    back = begin(node, request(disk_id, TransferDirection.DOWNLOAD))
    with (tmp_path / "back").open("w+b") as file:
        file.truncate(SIZE)
        moving.download(back.url, TRUSTING, file.fileno(), SIZE, 0, told.append)
        assert file.read() == path.read_bytes()
    finalize(node, back, sha256)
