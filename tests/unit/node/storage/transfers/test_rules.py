"""What a transfer may do in which phase, and what is run for it."""

from dataclasses import replace

import pytest

from node.errors import Conflict
from node.model.ids import DiskId, TransferId
from node.model.reason import Reason
from node.model.storage import (
    DiskFormat,
    TimeoutPolicy,
    Transfer,
    TransferDirection,
    TransferPhase,
)
from node.model.storage_requests import CreateTransfer
from node.storage.transfers import rules
from node.storage.transfers.rules import Kept
from node.units import GiB, MiB

AT = "2026-11-22T08:00:00.000Z"
ID = TransferId("12345678-1234-4234-8234-123456789abc")
DISK = DiskId("cccccccc-1111-4222-8333-000000000001")
UP, DOWN = TransferDirection
_P = TransferPhase


def kept(phase: TransferPhase = _P.TRANSFERRING, **request: object) -> Kept:
    asked = CreateTransfer(ID, DISK, UP)
    asked = replace(asked, **request)  # type: ignore[arg-type]  # a test's own words
    transfer = Transfer(ID, DISK, asked.direction, phase, "https://x/images/t", GiB)
    transfer = replace(transfer, disk_format=asked.disk_format)
    return Kept(transfer, asked, "t", "p", "s", "v", DiskFormat.QCOW2, is_thin=True)


@pytest.mark.parametrize(
    ("verb", "allowed"),
    [
        ("extend", {_P.INITIALIZING, _P.TRANSFERRING, *rules.PAUSED}),
        ("pause", {_P.INITIALIZING, _P.TRANSFERRING, *rules.PAUSED}),
        ("resume", {_P.INITIALIZING, _P.TRANSFERRING, *rules.PAUSED}),
        ("finalize", {_P.TRANSFERRING, _P.FINALIZING_SUCCESS, _P.FINISHED_SUCCESS}),
        (
            "cancel",
            {
                *(_P.INITIALIZING, _P.TRANSFERRING, *rules.PAUSED),
                *(_P.FINALIZING_FAILURE, _P.FINISHED_FAILURE, _P.CANCELLED),
            },
        ),
    ],
)
def test_act_is_allowed_in_its_phases_alone(
    verb: str, allowed: set[TransferPhase]
) -> None:
    for phase in TransferPhase:
        if phase in allowed:
            wanted = rules.after(verb, kept(phase).transfer)
            # Asked for twice it is the same.
            assert rules.after(verb, kept(wanted).transfer) is wanted
            continue
        with pytest.raises(Conflict) as caught:
            rules.after(verb, kept(phase).transfer)
        is_over = phase in rules.ENDED or "finalizing" in phase
        expected = "transfer_over" if is_over else "transfer_not_ready"
        assert caught.value.code == expected


def test_who_resumes_begins_a_round_of_its_own() -> None:
    before = kept(_P.PAUSED_SYSTEM)
    transfer = replace(
        before.transfer, transferred_bytes=7, reason=Reason("transfer_unused", AT, {})
    )
    after = rules.moved(
        replace(before, transfer=transfer, is_flushed=True), _P.INITIALIZING, AT
    )
    assert (after.round, after.moved_before, after.is_flushed) == (1, 7, False)
    assert after.transfer.reason is None
    assert after.step_id != before.step_id
    assert rules.moved(after, _P.INITIALIZING, "later") == after


@pytest.mark.parametrize(
    ("direction", "policy", "expected"),
    [
        (UP, TimeoutPolicy.LEGACY, _P.PAUSED_SYSTEM),
        (DOWN, TimeoutPolicy.LEGACY, _P.FINALIZING_FAILURE),
        (DOWN, TimeoutPolicy.PAUSE, _P.PAUSED_SYSTEM),
        (UP, TimeoutPolicy.CANCEL, _P.FINALIZING_FAILURE),
    ],
)
def test_unused_transfer_pauses_or_ends_as_ovirt_has_it(
    direction: TransferDirection, policy: TimeoutPolicy, expected: TransferPhase
) -> None:
    found = kept(direction=direction, timeout_policy=policy, inactivity_s=60.0)
    assert rules.unused(found, 59.9) is None
    assert rules.unused(found, 60.0) is expected
    for_ever = kept(direction=direction, timeout_policy=policy, inactivity_s=0.0)
    assert rules.unused(for_ever, 1e9) is None


@pytest.mark.parametrize(
    ("found", "has", "lacks"),
    [
        (
            kept(),
            {"--format=qcow2", "--discard=unmap", "--detect-zeroes=unmap"},
            {"--read-only"},
        ),
        (
            replace(kept(), is_thin=False),
            {"--format=qcow2"},
            {"--discard=unmap", "--detect-zeroes=unmap"},
        ),
        (
            kept(direction=DOWN),
            {"--read-only", "--format=qcow2"},
            {"--discard=unmap", "--detect-zeroes=unmap"},
        ),
        (kept(disk_format=DiskFormat.QCOW2), {"--format=raw"}, {"--format=qcow2"}),
    ],
    ids=["thin", "preallocated", "download", "file"],
)
def test_qemu_nbd_is_run_as_the_transfer_needs(
    found: Kept, has: set[str], lacks: set[str]
) -> None:
    words = rules.serve(found, "/volume", "/socket")
    assert has < set(words)
    assert not lacks & set(words)
    assert {"--persistent", "--shared=8", "--cache=none"} < set(words)
    assert words[-1] == "/volume"
    assert "MALLOC_ARENA_MAX=1" in words


@pytest.mark.parametrize("size_bytes", [MiB, GiB, 64 * 1024 * GiB])
def test_file_of_a_full_disk_fits(size_bytes: int) -> None:
    # Eight bytes of tables and two of counts for each cluster of 64 KiB, and headers.
    needed = size_bytes + size_bytes // 65536 * 10 + MiB
    assert needed <= rules.file_bytes(size_bytes) <= size_bytes * 1.01 + 5 * MiB


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"virtual-size": MiB}, "is not of"),
        ({"backing-filename": "/etc/passwd"}, "built on another file"),
        ({"format-specific": {"data": {"data-file": "x"}}}, "in another file"),
        ({"format-specific": {"data": {"corrupt": True}}}, "corrupt"),
        ({"format-specific": {"data": {"encrypt": {}}}}, "encrypted"),
    ],
    ids=["size", "backing-file", "data-file", "corrupt", "encrypted"],
)
def test_file_that_qemu_must_not_open_is_refused(
    more: dict[str, object], why: str
) -> None:
    well = {"virtual-size": GiB, "format-specific": {"data": {"corrupt": False}}}
    rules.check_file(well, GiB)
    with pytest.raises(rules.UploadUnusable, match=why):
        rules.check_file({**well, **more}, GiB)
