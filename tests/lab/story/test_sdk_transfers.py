"""oVirt's own SDK and imageio client move a disk in and out of a real node.

The disk lies on h1's local pool; the SDK orders at the aggregator, and the data go to
h1 itself. An upload that is cancelled takes its disk along, as in oVirt.
"""

from collections.abc import Iterator
from pathlib import Path

import ovirtsdk4
import pytest
from ovirtsdk4 import types

from node.units import MiB
from tests.lab import fleet, waiting
from tests.lab.story.conftest import Story
from tests.lab.story.test_transfers import PYTHON, image, sha256

pytestmark = pytest.mark.lab

DOMAIN = "h1-local"
SIZE = 64 * MiB
_P = types.ImageTransferPhase


@pytest.fixture
def system(story: Story, tmp_path: Path) -> Iterator[ovirtsdk4.services.SystemService]:
    """Return the API as a client of oVirt sees it, when h1's disk is there."""
    ca_file = tmp_path / "ca.pem"
    ca_file.write_text(story.fleet.session().ca_certificate)
    connection = ovirtsdk4.Connection(
        url=f"https://localhost:{story.fleet.port}/ovirt-engine/api",
        username=fleet.USER,
        password=fleet.PASSWORD,
        ca_file=str(ca_file),
    )
    service = connection.system_service()
    domains = service.storage_domains_service()
    waiting.until("h1's disk", lambda: domains.list(search=f"name={DOMAIN}"))
    yield service
    connection.close()


def make_disk(system: ovirtsdk4.services.SystemService, name: str) -> str:
    """Make a thin disk; return its id when it is usable."""
    made = system.disks_service().add(
        types.Disk(
            name=name,
            format=types.DiskFormat.COW,
            provisioned_size=SIZE,
            storage_domains=[types.StorageDomain(name=DOMAIN)],
        )
    )
    service = system.disks_service().disk_service(made.id)

    def is_ok() -> bool:
        try:
            return service.get().status is types.DiskStatus.OK
        except ovirtsdk4.NotFoundError:
            return False

    waiting.until(f"disk {name}", is_ok)
    return str(made.id)


def is_there(system: ovirtsdk4.services.SystemService, disk_id: str) -> bool:
    return any(each.id == disk_id for each in system.disks_service().list())


def open_transfer(
    system: ovirtsdk4.services.SystemService,
    disk_id: str,
    direction: types.ImageTransferDirection,
) -> ovirtsdk4.services.ImageTransferService:
    wanted = types.ImageTransfer(
        disk=types.Disk(id=disk_id), direction=direction, format=types.DiskFormat.RAW
    )
    transfers = system.image_transfers_service()
    service = transfers.image_transfer_service(transfers.add(wanted).id)
    wait_phase(service, _P.TRANSFERRING)
    return service


def wait_phase(
    service: ovirtsdk4.services.ImageTransferService, phase: types.ImageTransferPhase
) -> None:
    waiting.until(str(phase), lambda: service.get().phase is phase)


def imageio(story: Story, folder: Path, verb: str, *words: str) -> None:
    """Let oVirt's own client move an image, on the aggregator's machine."""
    more = ', fmt="raw"' if verb == "download" else ""
    text = (
        "import sys\nfrom ovirt_imageio import client\n"
        f"client.{verb}(sys.argv[1], sys.argv[2], sys.argv[3]{more})\n"
    )
    argv = [PYTHON, "-c", text, *words, str(folder / "ca.pem")]
    done = story.lab.member("a1").exec(argv, timeout_s=120.0)
    assert done.returncode == 0, done.stderr


def test_sdk_uploads_and_downloads_a_disk(
    story: Story, system: ovirtsdk4.services.SystemService, tmp_path: Path
) -> None:
    path, back = image(tmp_path, SIZE, 16 * MiB), tmp_path / "back"
    disk_id = make_disk(system, "sdk")
    upload = open_transfer(system, disk_id, types.ImageTransferDirection.UPLOAD)
    imageio(story, tmp_path, "upload", str(path), upload.get().transfer_url)
    upload.finalize()
    wait_phase(upload, _P.FINISHED_SUCCESS)
    download = open_transfer(system, disk_id, types.ImageTransferDirection.DOWNLOAD)
    imageio(story, tmp_path, "download", download.get().transfer_url, str(back))
    download.finalize()
    wait_phase(download, _P.FINISHED_SUCCESS)
    assert sha256(back) == sha256(path)
    system.disks_service().disk_service(disk_id).remove()
    waiting.until("no disk", lambda: not is_there(system, disk_id))


def test_upload_that_is_cancelled_takes_its_disk_along(
    system: ovirtsdk4.services.SystemService,
) -> None:
    disk_id = make_disk(system, "given-up")
    upload = open_transfer(system, disk_id, types.ImageTransferDirection.UPLOAD)
    upload.cancel()
    wait_phase(upload, _P.CANCELLED_USER)
    waiting.until("no disk", lambda: not is_there(system, disk_id))


def test_storage_domain_is_called_something_else(
    system: ovirtsdk4.services.SystemService,
) -> None:
    domains = system.storage_domains_service()
    (found,) = domains.list(search=f"name={DOMAIN}")
    service = domains.storage_domain_service(found.id)
    gold = types.StorageDomain(name="gold", description="fast", wipe_after_delete=True)
    told = service.update(gold)
    assert (told.name, told.description, told.wipe_after_delete) == (
        *("gold", "fast", True),
    )
    before = types.StorageDomain(name=DOMAIN, description="", wipe_after_delete=False)
    assert service.update(before).name == DOMAIN
