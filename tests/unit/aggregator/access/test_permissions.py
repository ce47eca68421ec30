"""Tests of the permission tree."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.access import permissions
from aggregator.access.identity import UserId
from aggregator.access.permissions import (
    FLEET,
    READ_ONLY_ADMIN,
    ROLES,
    SUPER_USER,
    Grant,
    Place,
    Tree,
)
from node.model.verbs import ActionGroup, Object

ANN = UserId("ann")
BOB = UserId("bob")
TREE = Tree("c1", {"vm9": "c2"}, {"c1": "d1", "c2": "d2"})
VM = Place(Object.VM, "vm1")


@pytest.mark.parametrize(
    ("place", "path"),
    [
        (FLEET, [FLEET]),
        (Place(Object.DATA_CENTER, "d1"), [Place(Object.DATA_CENTER, "d1"), FLEET]),
        (
            VM,
            [VM, Place(Object.CLUSTER, "c1"), Place(Object.DATA_CENTER, "d1"), FLEET],
        ),
        (
            Place(Object.VM, "vm9"),
            [
                Place(Object.VM, "vm9"),
                Place(Object.CLUSTER, "c2"),
                Place(Object.DATA_CENTER, "d2"),
                FLEET,
            ],
        ),
        (
            Place(Object.NODE, "n1"),
            [
                Place(Object.NODE, "n1"),
                Place(Object.CLUSTER, "c1"),
                Place(Object.DATA_CENTER, "d1"),
                FLEET,
            ],
        ),
        (
            Place(Object.DISK, "disk1"),
            [Place(Object.DISK, "disk1"), Place(Object.DATA_CENTER, "d1"), FLEET],
        ),
    ],
    ids=["fleet", "data-center", "vm", "vm-elsewhere", "node", "disk"],
)
def test_upwards_lists_all_that_a_place_lies_in(
    place: Place, path: list[Place]
) -> None:
    assert list(TREE.upwards(place)) == path


@pytest.mark.parametrize(
    ("on", "group", "is_allowed"),
    [
        (FLEET, ActionGroup.READ, True),
        (FLEET, ActionGroup.RUN_VM, True),
        (Place(Object.CLUSTER, "c1"), ActionGroup.RUN_VM, True),
        (Place(Object.CLUSTER, "c2"), ActionGroup.RUN_VM, False),
        (VM, ActionGroup.RUN_VM, True),
        (Place(Object.VM, "vm2"), ActionGroup.RUN_VM, False),
    ],
    ids=["fleet-read", "fleet-run", "cluster", "other-cluster", "vm", "other-vm"],
)
def test_may_follows_grants_down_the_tree(
    on: Place, group: ActionGroup, is_allowed: bool
) -> None:
    grants = [Grant(ANN, SUPER_USER.role_id, on)]
    assert permissions.may(ANN, group, TREE.upwards(VM), grants) is is_allowed


@given(st.sampled_from(ActionGroup))
def test_may_lets_a_read_only_administrator_read_and_nothing_else(
    group: ActionGroup,
) -> None:
    grants = [Grant(ANN, READ_ONLY_ADMIN.role_id, FLEET)]
    allowed = permissions.may(ANN, group, TREE.upwards(VM), grants)
    assert allowed is (group is ActionGroup.READ)


@given(st.sampled_from(ActionGroup), st.sampled_from(sorted(ROLES)))
def test_may_gives_nothing_to_those_without_a_grant(
    group: ActionGroup, role_id: str
) -> None:
    grants = [Grant(BOB, role_id, FLEET), Grant(ANN, "unknown-role", FLEET)]
    assert not permissions.may(ANN, group, TREE.upwards(VM), grants)
