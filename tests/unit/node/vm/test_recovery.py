"""What became of VMs while nobody looked."""

import pytest

from node.model.ids import VmId
from node.model.vm import VmState, Wanted
from node.system.hypervisor import Activity, Domain
from node.vm import domxml, recovery
from node.vm.recovery import Verdict
from node.vm.states import Seen
from tests.unit.node.vm.examples import AT, HERE, VM, VM_ID

_OURS = Domain(VM_ID, "web", Activity.RUNNING, domxml.build(VM, "web", HERE))
_THEIRS = Domain(VmId("f0"), "other", Activity.PAUSED, "<domain type='kvm'/>")


@pytest.mark.parametrize(
    ("state", "has_domain", "is_start_pending", "verdict"),
    [
        pytest.param("down", True, False, Verdict.ADOPT, id="runs-though-down"),
        pytest.param("up", True, False, Verdict.ADOPT, id="still-runs"),
        pytest.param("down", False, False, Verdict.LEAVE, id="down"),
        pytest.param("starting", False, True, Verdict.LEAVE, id="start-goes-on"),
        pytest.param("starting", False, False, Verdict.START_FAILED, id="start-lost"),
        pytest.param("up", False, False, Verdict.ENDED, id="ended"),
        pytest.param("paused", False, True, Verdict.ENDED, id="ended-while-paused"),
    ],
)
def test_judge_follows_the_table(
    state: str, has_domain: bool, is_start_pending: bool, verdict: Verdict
) -> None:
    told = recovery.judge(
        VmState(state), has_domain=has_domain, is_start_pending=is_start_pending
    )
    assert told is verdict


def test_survey_tells_ours_from_others() -> None:
    found = recovery.survey([_OURS, _THEIRS], {VM_ID})
    assert found.ours == (_OURS,)
    assert [each.name for each in found.foreign] == ["other"]
    assert found.foreign[0].state is VmState.PAUSED


def test_survey_shows_ours_without_a_definition_as_foreign() -> None:
    found = recovery.survey([_OURS], set())
    assert found.lost == (_OURS,)
    assert [each.uuid for each in found.foreign] == [VM_ID]


@pytest.mark.parametrize("feature", ["has_autostart", "has_managed_save"])
def test_survey_reports_what_we_do_not_use(feature: str) -> None:
    domain = Domain(VmId("f0"), "x", Activity.OFF, "<domain/>", **{feature: True})
    assert recovery.survey([domain], set()).unruly == (domain,)


def test_sight_of_reads_the_run_from_the_domain() -> None:
    sight = recovery.sight_of(_OURS, AT)
    assert sight is not None
    assert (sight.seen, sight.generation, sight.is_emulated, sight.started_at) == (
        Seen.RUNS,
        1,
        False,
        AT,
    )


@pytest.mark.parametrize("activity", [Activity.STARTING, Activity.OFF])
def test_sight_of_waits_while_a_domain_comes_or_goes(activity: Activity) -> None:
    domain = Domain(VM_ID, "web", activity, _OURS.xml)
    assert recovery.sight_of(domain, AT) is None


def test_the_mark_carries_what_is_wanted() -> None:
    mark = domxml.read(_OURS.xml).mark
    assert mark is not None
    assert mark.wanted is Wanted.DOWN
