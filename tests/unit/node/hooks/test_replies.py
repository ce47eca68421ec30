"""What a node tells of itself: scripts add to it, and change nothing measured."""

from dataclasses import replace
from pathlib import Path

import pytest

from node.hooks.replies import Replies
from node.hooks.runner import HookFailed
from node.model.hooks import HookPoint, HookReport
from node.model.ids import VmId
from node.model.stats import NodeStats, Stats, VmStats
from tests.unit.node.hooks.scripts import Hooks
from tests.unit.node.vm import examples

CAPS = HookPoint.AFTER_GET_CAPS
OTHER = VmId("22222222-2222-4222-8222-222222222222")
WEB = VmId("11111111-1111-4111-8111-111111111111")
STATS = Stats(
    "2026-11-22T08:00:00Z",
    NodeStats(cpu_percent=25.0, load_5min=1.5),
    (VmStats(WEB, cpu_percent=12.5), VmStats(OTHER)),
)
# A script as they were written for VDSM.
_EDIT = """import hooking
given = hooking.read_json()
{words}
hooking.write_json(given)
"""


class Bench:
    def __init__(self, folder: Path) -> None:
        self.scripts = Hooks(folder)
        self.replies = Replies(self.scripts.runner)
        self.measured = 0

    def edit(self, point: HookPoint, words: str, name: str = "50_a") -> None:
        text = _EDIT.format(words=words)
        self.scripts.add(point, name, text, shell="/usr/bin/python3")

    def stats(self) -> Stats:
        self.measured += 1
        return STATS


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_without_scripts_nothing_is_told_beside(bench: Bench) -> None:
    assert bench.replies.stats(bench.stats) is STATS
    facts = examples.HOST
    assert bench.replies.caps(lambda: facts) is facts


def test_what_scripts_change_or_add_is_told_beside_the_facts(bench: Bench) -> None:
    bench.edit(CAPS, "given['kvmEnabled'] = True; given['rack'] = 'b7'")
    bench.edit(CAPS, "given['slots'] = [given['rack'], 2]", "60_b")
    facts = examples.HOST
    told = bench.replies.caps(lambda: facts)
    assert told.reported == (
        HookReport("kvmEnabled", "true"),
        HookReport("rack", "b7"),
        HookReport("slots", '["b7", 2]'),
    )
    assert replace(told, reported=()) == facts


def test_figures_have_what_scripts_say(bench: Bench) -> None:
    bench.edit(HookPoint.AFTER_GET_STATS, "given['watts'] = 80 + given['vmCount']")
    bench.edit(
        HookPoint.AFTER_GET_ALL_VM_STATS,
        "given = [{**each, 'cpuUser': '99.00'} for each in given if "
        f"each['vmId'] == '{WEB}'] + [3, {{}}]",
    )
    told = bench.replies.stats(bench.stats)
    assert told.node.reported == (HookReport("watts", "82"),)
    reports = [(each.vm_id, each.reported) for each in told.vms]
    assert reports == [(WEB, (HookReport("cpuUser", "99.00"),)), (OTHER, ())]
    assert told.node.cpu_percent == 25.0
    assert told.vms[0].cpu_percent == 12.5


@pytest.mark.parametrize("words", ["given = []", "given = 3", "given[1] = 'x' * 20000"])
def test_what_is_no_report_is_left_out(bench: Bench, words: str) -> None:
    bench.edit(CAPS, words)
    assert bench.replies.caps(lambda: examples.HOST).reported == ()


def test_script_that_fails_tells_nothing(bench: Bench) -> None:
    bench.scripts.add(CAPS, "50_a", "echo no >&2; exit 1")
    assert bench.replies.caps(lambda: examples.HOST) == examples.HOST


@pytest.mark.parametrize(
    "point", [HookPoint.BEFORE_GET_STATS, HookPoint.BEFORE_GET_ALL_VM_STATS]
)
def test_script_may_forbid_figures(bench: Bench, point: HookPoint) -> None:
    bench.scripts.add(point, "50_a", "cat $_hook_json >&2; exit 2")
    with pytest.raises(HookFailed, match=r"\{\}"):
        bench.replies.stats(bench.stats)
    assert bench.measured == 0


def test_script_may_forbid_facts(bench: Bench) -> None:
    bench.scripts.add(HookPoint.BEFORE_GET_CAPS, "50_a", "echo not now >&2; exit 2")
    with pytest.raises(HookFailed, match="not now"):
        bench.replies.caps(lambda: examples.HOST)
