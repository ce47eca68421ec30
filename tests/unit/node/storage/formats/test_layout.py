"""Names and paths in a file storage domain."""

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as some

from node.storage.formats import layout
from node.storage.formats.layout import BadId, FolderKind, Layout, Special, VolumePart
from tests.unit.node.storage.examples import IMAGE, OTHER_IMAGE, SD

PLACE = Layout(PurePosixPath("/mnt/server:_data", SD))
ROOT = f"/mnt/server:_data/{SD}"
VOLUME = OTHER_IMAGE


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param(PLACE.special(Special.IDS), "dom_md/ids", id="special"),
        pytest.param(PLACE.pool_map, "dom_md/skerry/pool_map", id="pool-map"),
        pytest.param(PLACE.journals, "dom_md/skerry/journals", id="journals"),
        pytest.param(PLACE.vm(IMAGE), f"master/vms/{IMAGE}", id="vm"),
        pytest.param(PLACE.tasks, "master/tasks", id="tasks"),
        pytest.param(PLACE.image(IMAGE), f"images/{IMAGE}", id="image"),
        pytest.param(
            PLACE.removed_image(IMAGE), f"images/_remove_me_{IMAGE}", id="removed"
        ),
        pytest.param(
            PLACE.volume(IMAGE, VOLUME), f"images/{IMAGE}/{VOLUME}", id="volume"
        ),
        pytest.param(
            PLACE.volume_meta(IMAGE, VOLUME), f"images/{IMAGE}/{VOLUME}.meta", id="meta"
        ),
        pytest.param(
            PLACE.volume_lease(IMAGE, VOLUME),
            f"images/{IMAGE}/{VOLUME}.lease",
            id="lease",
        ),
    ],
)
def test_layout_places_as_ovirt_does(path: PurePosixPath, expected: str) -> None:
    assert str(path) == f"{ROOT}/{expected}"


def test_folders_come_after_their_parents() -> None:
    folders = PLACE.folders()
    assert all(folder.parent in folders[:at] for at, folder in enumerate(folders) if at)


@given(
    some.text()
    | some.sampled_from(["..", f"{IMAGE}/..", IMAGE.replace("b", "B", 1), "", "a/b"])
)
def test_layout_refuses_what_is_no_id(text: str) -> None:
    for place in (PLACE.image, PLACE.removed_image, PLACE.vm):
        with pytest.raises(BadId):
            place(text)
    with pytest.raises(BadId):
        PLACE.volume_meta(IMAGE, text)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param(IMAGE, FolderKind.IMAGE, id="image"),
        pytest.param(f"_remove_me_{IMAGE}", FolderKind.REMOVED, id="removed"),
        pytest.param(f"_remove_me__remove_me_{IMAGE}", None, id="removed-twice"),
        pytest.param("_remove_me_", None, id="nothing-removed"),
        pytest.param(IMAGE.upper(), None, id="upper-case"),
        pytest.param(f"{IMAGE}\n", None, id="newline"),
        pytest.param("lost+found", None, id="foreign"),
    ],
)
def test_read_image_name(name: str, kind: FolderKind | None) -> None:
    found = layout.read_image_name(name)
    assert (found and found.kind) == kind
    assert found is None or found.image_id == IMAGE


@pytest.mark.parametrize(
    ("name", "part"),
    [
        pytest.param(VOLUME, VolumePart.DATA, id="data"),
        pytest.param(f"{VOLUME}.meta", VolumePart.META, id="meta"),
        pytest.param(f"{VOLUME}.lease", VolumePart.LEASE, id="lease"),
        pytest.param(f"{VOLUME}.meta.new", VolumePart.UNFINISHED, id="unfinished"),
        pytest.param(f"{VOLUME}.lease.new", None, id="foreign-suffix"),
        pytest.param(".meta", None, id="no-volume"),
    ],
)
def test_read_volume_name(name: str, part: VolumePart | None) -> None:
    found = layout.read_volume_name(name)
    assert (found and found.part) == part
    assert found is None or found.volume_id == VOLUME


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param(VOLUME, VOLUME, id="bare"),
        pytest.param(f"../{IMAGE}/{VOLUME}", VOLUME, id="as-oVirt-3-wrote"),
        pytest.param(f"/srv/{IMAGE}/{VOLUME}", None, id="absolute"),
        pytest.param(f"../../{IMAGE}/{VOLUME}", None, id="far-up"),
        pytest.param(f"../{IMAGE}/x/{VOLUME}", None, id="below-an-image"),
        pytest.param(f"x/{VOLUME}", None, id="below"),
        pytest.param("json:{}", None, id="json"),
        pytest.param("nbd://example.com/x", None, id="url"),
        pytest.param("/etc/shadow", None, id="file-of-the-host"),
        pytest.param("", None, id="empty"),
    ],
)
def test_read_backing(name: str, expected: str | None) -> None:
    assert layout.read_backing(name) == expected
