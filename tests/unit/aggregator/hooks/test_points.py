"""The table of points of an aggregator: complete, and true of what it does."""

from aggregator.control import actions
from aggregator.hooks import points
from aggregator.hooks.points import ACTIONS, POINTS
from node.model.hooks import HookPoint, Payload

# What has no order: the registry does it.
OF_NODES = {"node_admit", "node_remove"}


def test_every_action_has_three_points_and_only_the_first_may_abort() -> None:
    assert set(POINTS) == {each for name in ACTIONS for each in points.all_of(name)}
    for name in ACTIONS:
        before, *after = points.all_of(name)
        assert POINTS[before].may_abort
        assert not any(POINTS[each].may_abort for each in after)


def test_all_get_json_and_no_edit_counts() -> None:
    assert {each.payload for each in POINTS.values()} == {Payload.JSON}
    assert not any(each.counts for each in POINTS.values())


def test_verbs_are_orders_and_each_is_of_one_action() -> None:
    named = [verb for action in ACTIONS.values() for verb in action.verbs]
    assert len(named) == len(set(named))
    assert set(named) <= {*actions.ACTIONS, *actions.STORAGE_VERBS}


def test_what_is_not_wired_says_what_it_waits_for() -> None:
    waiting = {name for name, action in ACTIONS.items() if action.waits_for}
    assert waiting == {"vm_migrate", "node_fence"}
    idle = {name for name, action in ACTIONS.items() if not action.verbs}
    assert idle == waiting | OF_NODES


def test_every_way_to_make_a_vm_is_a_creation() -> None:
    for verb in ("vm_create", "vm_clone", "storage_domain_register_vm"):
        assert points.action_of(verb) == "vm_create"
    assert points.action_of("disk_change") is None


def test_names_that_a_node_has_as_well_are_told_apart_by_their_folder() -> None:
    shared = {each.value for each in HookPoint} & set(POINTS)
    assert "before_vm_start" in shared  # another folder, another payload
