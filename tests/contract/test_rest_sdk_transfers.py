"""Move a disk as oVirt's examples do, with its Python SDK over HTTP on loopback."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import ovirtsdk4 as sdk
import pytest
from ovirtsdk4 import types

from node.model.storage import TransferPhase
from tests.contract.sdk import Served, connect, serve
from tests.fakes import fleet_storage
from tests.fakes.fleet_storage import LOOSE
from tests.fakes.services import OAK


@pytest.fixture
def served() -> Iterator[Served]:
    with serve(fleet_storage.make_fleet()) as found:
        yield found


@pytest.fixture
def system(served: Served) -> Iterator[sdk.services.SystemService]:
    with connect(served) as opened:
        yield opened.system_service()


@pytest.mark.parametrize("direction", types.ImageTransferDirection, ids=str)
def test_disk_is_moved_as_the_examples_do(
    system: sdk.services.SystemService, direction: types.ImageTransferDirection
) -> None:
    transfers = system.image_transfers_service()
    made = transfers.add(
        types.ImageTransfer(
            disk=types.Disk(id=LOOSE),
            direction=direction,
            inactivity_timeout=60,
            timeout_policy=types.ImageTransferTimeoutPolicy.CANCEL,
            format=types.DiskFormat.RAW,
        )
    )
    assert made.phase is types.ImageTransferPhase.INITIALIZING
    service = transfers.image_transfer_service(made.id)
    opened = service.get()
    assert opened.phase is types.ImageTransferPhase.TRANSFERRING
    image, passed = urlsplit(opened.transfer_url), urlsplit(opened.proxy_url)
    assert passed.path == f"/transfers/{OAK}{image.path}"
    assert opened.host.id == OAK
    assert opened.direction is direction
    service.extend()
    service.finalize()
    assert service.get().phase is types.ImageTransferPhase.FINISHED_SUCCESS
    assert [each.id for each in transfers.list()] == [made.id]


def test_paused_transfer_is_resumed_and_cancelled(
    served: Served, system: sdk.services.SystemService
) -> None:
    transfers = system.image_transfers_service()
    made = transfers.add(types.ImageTransfer(disk=types.Disk(id=LOOSE)))
    service = transfers.image_transfer_service(made.id)
    served.fleet.node.transfers.change(made.id, phase=TransferPhase.PAUSED_SYSTEM)
    assert service.get().phase is types.ImageTransferPhase.PAUSED_SYSTEM
    service.resume()
    assert service.get().phase is types.ImageTransferPhase.TRANSFERRING
    service.pause()
    assert service.get().phase is types.ImageTransferPhase.PAUSED_USER
    service.cancel()
    assert service.get().phase is types.ImageTransferPhase.CANCELLED_USER


def test_transfer_of_an_unknown_disk_is_not_found(
    system: sdk.services.SystemService,
) -> None:
    unknown = types.Disk(id="ffffffff-0000-4000-8000-00000000000f")
    with pytest.raises(sdk.NotFoundError):
        system.image_transfers_service().add(types.ImageTransfer(disk=unknown))
