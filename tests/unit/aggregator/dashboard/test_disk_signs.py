"""Tests of aggregator.dashboard.disk_signs."""

import pytest

from aggregator.dashboard import disk_signs
from node.model.storage import ContentType, DiskState


def test_every_state_of_a_disk_has_a_sign() -> None:
    assert set(disk_signs.DISK_SIGNS) == set(DiskState)


@pytest.mark.parametrize(
    ("state", "content", "is_used", "names"),
    [
        pytest.param(
            DiskState.OK,
            ContentType.DATA,
            False,
            [
                *("attach", "resize", "move", "copy", "edit", "limit", "profile"),
                "sparsify",
                "delete",
            ],
            id="floating",
        ),
        pytest.param(
            DiskState.OK,
            ContentType.DATA,
            True,
            [
                *("attach", "resize", "move", "copy", "edit", "limit", "profile"),
                "sparsify",
                "detach",
            ],
            id="used",
        ),
        pytest.param(
            DiskState.OK,
            ContentType.ISO,
            False,
            ["move", "copy", "edit", "delete"],
            id="cd-image",
        ),
        pytest.param(
            DiskState.ILLEGAL, ContentType.DATA, False, ["delete"], id="damaged"
        ),
        pytest.param(DiskState.LOCKED, ContentType.DATA, False, [], id="locked"),
        pytest.param(DiskState.OK, ContentType.OVF_STORE, False, [], id="not-ours"),
    ],
)
def test_disk_actions_fit_the_disk(
    state: DiskState, content: ContentType, is_used: bool, names: list[str]
) -> None:
    found = disk_signs.disk_actions(state, content, is_used=is_used, has_vm=is_used)
    assert [each.name for each in found] == names


def test_disk_of_a_template_is_not_given_to_vms() -> None:
    state, content = DiskState.OK, ContentType.DATA
    found = disk_signs.disk_actions(state, content, is_used=True, has_vm=False)
    assert not {"attach", "detach", "delete"} & {each.name for each in found}
