"""How far an operation is, by the programs that copy."""

from pathlib import PurePosixPath

import pytest

from node.storage.disks import progress
from node.storage.formats import journal as journals
from node.storage.formats.journal import Journal
from node.storage.operations import plan as plans
from node.storage.operations.plan import Plan, Step
from tests.unit.node.storage.examples import SD

VOLUME = PurePosixPath(f"/{SD}/images/x/y")
PLAN = Plan(
    (
        Step("build", (plans.make_folder(VOLUME), plans.fill(VOLUME, "raw", "debian"))),
        Step("wipe", (plans.wipe(VOLUME),)),
    ),
    commit=1,
)


def journal(done: int, plan: Plan = PLAN) -> Journal:
    words = (journals.UNASSIGNED, "job", "disk_create", "x", "node-1", 1, plan)
    return Journal(*words, done=done)


@pytest.mark.parametrize(
    ("done", "number", "line", "percent"),
    [
        pytest.param(0, 0, "", 0, id="begun"),
        pytest.param(0, 1, "    (50.00/100%)", 25, id="half-an-image"),
        pytest.param(0, 1, "what?", 0, id="other-words"),
        pytest.param(1, 0, "(0/100%)", 50, id="image-copied"),
        pytest.param(1, 0, "(100/100%)", 100, id="wiped"),
    ],
)
def test_percent_counts_programs_that_copy(
    done: int, number: int, line: str, percent: int
) -> None:
    assert progress.percent(journal(done), number, line) == percent


def test_percent_of_a_plan_without_programs_is_none() -> None:
    quick = Plan((Step("rename", (plans.make_folder(VOLUME),)),))
    assert progress.percent(journal(0, quick), 0) == 0


def test_text_names_the_step() -> None:
    assert progress.text(journal(1)) == "disk_create: wipe"
