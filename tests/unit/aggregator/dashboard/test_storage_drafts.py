"""Tests of aggregator.dashboard.storage_drafts."""

from dataclasses import replace

import pytest

from aggregator.dashboard import storage_drafts
from aggregator.dashboard.drafts import BadDraft
from aggregator.dashboard.storage_drafts import (
    DiskDraft,
    DomainDraft,
    PlaceDraft,
    UploadDraft,
)
from aggregator.federation.view import View
from node.model.storage import (
    Allocation,
    Connection,
    ContentType,
    DiskFormat,
    DomainClass,
    DomainType,
    StorageDomain,
)
from node.model.storage_requests import ChangeStorageDomain
from node.units import GiB
from tests.fakes import fleet_storage as stored

ID = "12345678-1234-4234-8234-123456789abc"
NFS = PlaceDraft(address="nas.test", path="/exports/a", nfs_version="4.2")
POSIX = PlaceDraft("posixfs", path="nas:/a", file_system="ceph", options="name=x")
DISK = DiskDraft(ID, "a", storage_domain_id=stored.DATA1, size_gib="1,5")
UPLOAD = UploadDraft(ID, ID, "a.img", stored.DATA1, "1000", "1000")


def test_read_takes_what_a_form_holds() -> None:
    form = {"name": "a", "wipe": "yes", "colour": "red"}
    assert storage_drafts.read(DomainDraft, form) == DomainDraft("", "a", wipe="yes")


@pytest.mark.parametrize(
    ("draft", "wanted"),
    [
        pytest.param(
            NFS,
            Connection(DomainType.NFS, "/exports/a", "nas.test", nfs_version="4.2"),
            id="nfs",
        ),
        pytest.param(
            replace(POSIX, address="left over", nfs_version="3"),
            Connection(
                DomainType.POSIXFS, "nas:/a", file_system="ceph", options="name=x"
            ),
            id="posix",
        ),
        pytest.param(
            PlaceDraft("posixfs", path="/mnt/shared"),
            Connection(DomainType.POSIXFS, "/mnt/shared"),
            id="mounted-already",
        ),
    ],
)
def test_connection_has_what_its_kind_needs(
    draft: PlaceDraft, wanted: Connection
) -> None:
    assert storage_drafts.connection(draft) == wanted


@pytest.mark.parametrize(
    ("draft", "field"),
    [
        pytest.param(replace(NFS, kind="localfs"), "kind", id="local"),
        pytest.param(replace(NFS, path=""), "path", id="no-path"),
        pytest.param(replace(NFS, path="a"), "path", id="relative"),
        pytest.param(replace(NFS, address=""), "address", id="no-server"),
        pytest.param(replace(NFS, nfs_version="5"), "nfs_version", id="version"),
        pytest.param(replace(POSIX, path=""), "path", id="nothing-to-mount"),
    ],
)
def test_connection_names_the_field_that_is_wrong(
    draft: PlaceDraft, field: str
) -> None:
    with pytest.raises(BadDraft) as caught:
        storage_drafts.connection(draft)
    assert caught.value.fields["field"] == field


def test_to_domain_asks_for_what_was_typed() -> None:
    draft = DomainDraft(ID, "a", "why", "iso", "yes")
    made = storage_drafts.to_domain(draft, stored.NFS)
    assert (made.storage_domain_id, made.name, made.domain_class) == (
        ID,
        "a",
        DomainClass.ISO,
    )
    assert (made.description, made.wipe_after_delete, made.connection) == (
        "why",
        True,
        stored.NFS,
    )


@pytest.mark.parametrize(
    "draft",
    [
        pytest.param(DomainDraft(ID), id="no-name"),
        pytest.param(DomainDraft(ID, "é" * 128), id="long-name"),
        pytest.param(DomainDraft("x", "a"), id="no-id"),
        pytest.param(DomainDraft(ID, "a", domain_class="export"), id="export"),
    ],
)
def test_to_domain_refuses_what_cannot_be(draft: DomainDraft) -> None:
    with pytest.raises(BadDraft):
        storage_drafts.to_domain(draft, stored.NFS)


@pytest.mark.parametrize(
    ("changes", "disk_format", "allocation"),
    [
        pytest.param({}, DiskFormat.QCOW2, Allocation.THIN, id="thin"),
        pytest.param(
            {"allocation": "preallocated"},
            DiskFormat.RAW,
            Allocation.PREALLOCATED,
            id="preallocated",
        ),
        pytest.param({"shared": "yes"}, DiskFormat.RAW, Allocation.THIN, id="shared"),
    ],
)
def test_to_disk_chooses_the_format(
    changes: dict[str, str], disk_format: DiskFormat, allocation: Allocation
) -> None:
    made = storage_drafts.to_disk(replace(DISK, **changes))
    assert (made.size_bytes, made.disk_format, made.allocation) == (
        3 * GiB // 2,
        disk_format,
        allocation,
    )


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        pytest.param({"name": ""}, "name", id="name"),
        pytest.param({"storage_domain_id": ""}, "storage_domain_id", id="place"),
        pytest.param({"size_gib": ""}, "size_gib", id="size"),
        pytest.param({"size_gib": "big"}, "size_gib", id="words"),
        pytest.param({"allocation": "fat"}, "allocation", id="allocation"),
    ],
)
def test_to_disk_names_the_field_that_is_wrong(
    changes: dict[str, str], field: str
) -> None:
    with pytest.raises(BadDraft) as caught:
        storage_drafts.to_disk(replace(DISK, **changes))
    assert caught.value.fields["field"] == field


def test_to_upload_rounds_up_to_whole_sectors() -> None:
    disk, transfer = storage_drafts.to_upload(UPLOAD)
    assert (disk.size_bytes, disk.content, transfer.size_bytes) == (
        1024,
        ContentType.DATA,
        None,
    )


def test_to_upload_knows_cd_images_by_their_name() -> None:
    disk, _ = storage_drafts.to_upload(replace(UPLOAD, name="Debian.ISO"))
    assert disk.content is ContentType.ISO


def test_to_upload_tells_the_size_of_a_qcow2_file() -> None:
    draft = replace(UPLOAD, disk_format="qcow2", disk_bytes=str(GiB))
    disk, transfer = storage_drafts.to_upload(draft)
    assert (disk.size_bytes, disk.disk_format, transfer.size_bytes) == (
        GiB,
        DiskFormat.QCOW2,
        1000,
    )


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"file_bytes": "0"}, id="empty"),
        pytest.param({"disk_bytes": "-1"}, id="no-size"),
        pytest.param({"disk_format": "vmdk"}, id="format"),
        pytest.param({"transfer_id": "x"}, id="id"),
        pytest.param({"storage_domain_id": ""}, id="place"),
    ],
)
def test_to_upload_refuses_what_cannot_be(changes: dict[str, str]) -> None:
    with pytest.raises(BadDraft):
        storage_drafts.to_upload(replace(UPLOAD, **changes))


def test_disk_places_are_active_data_of_pools(storage: View) -> None:
    names = [name for _, name, _ in storage_drafts.disk_places(storage)]
    assert names == ["data1", "data2", "elm-local", "oak-local"]


def test_nodes_are_those_that_can_be_asked(storage: View) -> None:
    assert [name for _, name in storage_drafts.nodes(storage)] == ["elm", "oak"]


def test_change_offers_a_place_only_in_maintenance() -> None:
    place = Connection(DomainType.NFS, "/a", "nas.test", options="ro")
    known = StorageDomain(stored.DATA1, "data1", DomainClass.DATA, place)
    fields = storage_drafts.change_fields(known, rests=False)
    assert [each.name for each in fields] == ["name", "description", "wipe"]
    fields = storage_drafts.change_fields(known, rests=True)
    form = {each.name: each.value for each in fields}
    assert storage_drafts.to_change(form) == ChangeStorageDomain(
        "data1", "", False, place
    )
    folder = replace(known, connection=Connection(DomainType.LOCALFS, "/srv"))
    fields = storage_drafts.change_fields(folder, rests=True)
    assert "path" not in {each.name for each in fields}


@pytest.mark.parametrize(
    ("form", "field"),
    [
        pytest.param({"name": "  "}, "name", id="nameless"),
        pytest.param(
            {"name": "a", "kind": "nfs", "address": "n", "path": "x"}, "path", id="path"
        ),
    ],
)
def test_change_says_which_field_is_wrong(form: dict[str, str], field: str) -> None:
    with pytest.raises(BadDraft) as caught:
        storage_drafts.to_change(form)
    assert caught.value.fields["field"] == field
