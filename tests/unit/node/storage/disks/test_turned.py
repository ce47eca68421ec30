"""How a leaf says that its guest has turned away from it."""

from dataclasses import replace

import pytest

from node.storage.disks import turned
from node.storage.formats import volume_meta
from node.storage.formats.volume_meta import (
    Allocation,
    Format,
    Legality,
    VolumeMeta,
    VolumeRole,
)

BASE, OTHER = (f"cccccccc-0000-4000-8000-00000000000{n}" for n in (1, 2))
META = VolumeMeta(
    "77777777-0000-4000-8000-000000000001",
    "66666666-0000-4000-8000-000000000001",
    2**63 - 1,
    Format.COW,
    Allocation.PREALLOCATED,
    VolumeRole.LEAF,
    2**40,
    BASE,
    generation=volume_meta.GENERATION_MAX,
    sequence=2**31,
    description="x" * volume_meta.DESCRIPTION_MAX,
)


def test_close_survives_the_file_with_the_longest_description() -> None:
    closed = turned.close(META)
    assert volume_meta.parse(volume_meta.write(closed)) == closed
    assert turned.is_closed(closed, BASE)
    assert replace(closed, legality=Legality.LEGAL, others=()) == META


@pytest.mark.parametrize(
    ("meta", "parent_id"),
    [
        pytest.param(None, BASE, id="gone"),
        pytest.param(META, BASE, id="in-use"),
        pytest.param(replace(META, legality=Legality.ILLEGAL), BASE, id="unfinished"),
        pytest.param(turned.close(META), OTHER, id="of-another"),
        pytest.param(
            replace(turned.close(META), legality=Legality.LEGAL), BASE, id="mended"
        ),
    ],
)
def test_is_closed_by_nothing_else(meta: VolumeMeta | None, parent_id: str) -> None:
    assert not turned.is_closed(meta, parent_id)
