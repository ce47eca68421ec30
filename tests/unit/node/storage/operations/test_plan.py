"""What a plan may say, and the way back from it."""

from dataclasses import replace
from pathlib import PurePosixPath

import pytest

from node.storage.operations import plan
from node.storage.operations.plan import Action, BadPlan, Plan, Step, Verb
from tests.unit.node.storage.examples import OTHER_SD, SD

PATH = PurePosixPath("/", SD, "images", "x")
ELSEWHERE = PurePosixPath("/", OTHER_SD, "images", "x")


def of(*actions: Action) -> Plan:
    return Plan((Step("a", actions),))


def test_check_accepts_what_operations_plan() -> None:
    plan.check(
        of(
            plan.rename(PATH, PATH.with_name("y")),
            plan.qemu_img(PATH, "convert", "-o", "compat=1.1", str(ELSEWHERE), "y"),
            plan.wipe(PATH),
        )
    )


@pytest.mark.parametrize(
    "action",
    [
        pytest.param(plan.remove(PurePosixPath("/etc/passwd")), id="outside"),
        pytest.param(Action(Verb.REMOVE, f"/{SD}"), id="root"),
        pytest.param(Action(Verb.REMOVE, f"/{SD}/../x"), id="dots"),
        pytest.param(Action(Verb.REMOVE, f"/{SD}//x"), id="empty-name"),
        pytest.param(Action(Verb.REMOVE, f"/{SD}/x\0y"), id="nul"),
        pytest.param(Action(Verb.REMOVE, f"{SD}/x"), id="relative"),
        pytest.param(Action(Verb.RENAME, str(PATH)), id="no-target"),
        pytest.param(plan.rename(PATH, ELSEWHERE), id="other-storage-domain"),
        pytest.param(plan.write_resource(PATH), id="no-lease"),
        pytest.param(plan.qemu_img(PATH, "convert", "/etc/shadow", "y"), id="file"),
        pytest.param(plan.qemu_img(PATH, "convert", "nbd://a", "y"), id="protocol"),
        pytest.param(plan.qemu_img(PATH, "convert", "json:{}", "y"), id="json"),
        pytest.param(plan.qemu_img(PATH, "convert", "a/b", "y"), id="relative-word"),
        pytest.param(plan.qemu_img(PATH, "dd", "y"), id="command"),
    ],
)
def test_check_refuses(action: Action) -> None:
    with pytest.raises(BadPlan):
        plan.check(of(action))


def test_check_refuses_what_cannot_be_undone_or_committed() -> None:
    step = Step("a", (), (plan.wipe(PATH),))
    with pytest.raises(BadPlan):
        plan.check(Plan((step,)))
    for commit in (-1, 2):
        with pytest.raises(BadPlan):
            plan.check(replace(of(plan.remove(PATH)), commit=commit))


def test_way_back_begins_with_the_step_under_way() -> None:
    removals = [plan.remove(PATH.with_name(name)) for name in "abc"]
    steps = tuple(Step("s", (), (removal,)) for removal in removals)
    assert list(Plan(steps, 3).way_back(1)) == [removals[1], removals[0]]


A, B, C, D = (plan.remove(PATH.with_name(each)) for each in "abcd")


def test_joined_makes_one_step_of_what_is_undone_together() -> None:
    made = Plan((Step("a", (A,), (B,)), Step("b", (C,), (D,)), Step("c", (A,))), 2)
    joined = plan.joined(made)
    assert joined == Plan((Step("a, b", (A, C), (D, B)), Step("c", (A,))), 1)
    assert tuple(joined.way_back(0)) == tuple(made.way_back(1))


def test_joined_leaves_alone_what_takes_long_or_is_one_step() -> None:
    long = Plan((Step("a", (A,)), Step("b", (plan.wipe(PATH),)), Step("c", (B,))), 2)
    short = Plan((Step("a", (A,)), Step("b", (B,))), 1)
    assert (plan.joined(long), plan.joined(short)) == (long, short)


@pytest.mark.parametrize(
    "backing",
    [("raw",), (SD,), (SD, "vmdk"), ("../x", "raw"), (SD, "raw", "x")],
    ids=["no-volume", "no-format", "other-format", "path", "more"],
)
def test_check_refuses_a_backing_that_is_no_volume(backing: tuple[str, ...]) -> None:
    plan.check(of(plan.make_qcow2(PATH, 512, SD, "raw"), plan.make_qcow2(PATH, 512)))
    with pytest.raises(BadPlan):
        plan.check(of(plan.make_qcow2(PATH, 512, *backing)))
