"""The commands on transfers: what they ask the agent for, and what people read."""

import pytest

from node.model.ids import SnapshotId, TransferId
from node.model.storage import DiskFormat, TransferDirection
from node.model.storage_requests import (
    ActOnTransfer,
    CreateTransfer,
    FinalizeTransfer,
)
from tests.contract.agents import UNKNOWN
from tests.fakes.storage_service import LAN, ROOT
from tests.fakes.transfer_service import UPLOAD, FakeTransfers
from tests.unit.node.cli.shell import Shell


@pytest.fixture
def transfers(served: Shell) -> FakeTransfers:
    known = served.agent.transfers
    known.asked.clear()
    return known


@pytest.mark.parametrize(
    ("command", "request_"),
    [
        pytest.param(
            f"create download root --format qcow2 --snapshot {LAN} --inactivity 0 "
            f"--id {UNKNOWN}",
            CreateTransfer(
                TransferId(UNKNOWN),
                ROOT,
                TransferDirection.DOWNLOAD,
                DiskFormat.QCOW2,
                SnapshotId(LAN),
                0.0,
            ),
            id="create",
        ),
        pytest.param(f"extend {UPLOAD}", ActOnTransfer(), id="extend"),
        pytest.param(f"pause {UPLOAD}", ActOnTransfer(), id="pause"),
        pytest.param(f"resume {UPLOAD}", ActOnTransfer(), id="resume"),
        pytest.param(f"finalize {UPLOAD}", FinalizeTransfer(), id="finalize"),
        pytest.param(
            f"finalize {UPLOAD} --sha256 ab12", FinalizeTransfer("ab12"), id="checked"
        ),
        pytest.param(f"cancel {UPLOAD} --yes", ActOnTransfer(), id="cancel"),
    ],
)
def test_command_asks_for_what_was_typed(
    served: Shell, transfers: FakeTransfers, command: str, request_: object
) -> None:
    shown = served.ok("transfer", *command.split()).text
    assert transfers.asked == [(f"transfer_{command.split()[0]}", request_)]
    assert "5.0 GiB of 20.0 GiB" in shown


def test_cancel_asks_first(served: Shell, transfers: FakeTransfers) -> None:
    ended = served.run("transfer", "cancel", UPLOAD, typed="n\n")
    assert (ended.status, transfers.asked) == (1, [])


@pytest.mark.parametrize(
    ("command", "shown", "field"),
    [
        pytest.param("list", "transferring", "transfers", id="list"),
        pytest.param(f"show {UPLOAD}", "images/ticket", "url", id="show"),
    ],
)
def test_command_shows_text_and_json(
    served: Shell, command: str, shown: str, field: str
) -> None:
    assert shown in served.ok("transfer", *command.split()).text
    assert field in served.ok("--json", "transfer", *command.split()).json


def test_transfer_that_is_not_there_is_an_error(served: Shell) -> None:
    ended = served.run("transfer", "show", UNKNOWN)
    assert (ended.status, "no transfer" in ended.err) == (1, True)
