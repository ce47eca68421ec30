"""Hooks that are tried: what they would change, and why it would not be done."""

from pathlib import Path

import pytest

from node.errors import NotFound
from node.hooks.trying import NoSuchPoint, Trials, VmNeeded, first_card
from node.model.hooks import HookPoint, HookTrial, TryHook
from node.model.ids import VmId
from node.model.properties import CustomProperty
from node.model.vm import Vm
from node.policy.properties import BadProperty
from node.system.command import Result
from tests.unit.node.hooks.scripts import Hooks
from tests.unit.node.vm import examples

START = HookPoint.BEFORE_VM_START
VM_ID = examples.VM_ID
CARD = "<interface type='bridge'><mac address='02:00:00:00:00:01'/></interface>"
XML = f"<domain><name>web</name><devices><disk/>{CARD}</devices></domain>"


class VmGone(NotFound):
    """There is no such VM."""


class Bench:
    def __init__(self, folder: Path) -> None:
        self.scripts = Hooks(folder)
        self.complaint = ""
        self.said = b""
        self.trials = Trials(
            self.scripts.runner,
            self._find,
            lambda vm_id: XML,
            lambda xml: self.complaint,
            lambda argv, **how: Result(tuple(argv), 1, self.said, b""),
        )

    def attempt(self, point: str = START, **properties: str) -> HookTrial:
        given = tuple(CustomProperty(*each) for each in properties.items())
        return self.trials.attempt(TryHook(point, VM_ID, given))

    def _find(self, vm_id: VmId) -> Vm:
        if vm_id != VM_ID:
            raise VmGone(f"there is no VM {vm_id}")
        return examples.VM


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def _title(name: str) -> str:
    return f'sed -i "s:<name>:<title>{name}</title><name>:" "$_hook_domxml"'


def test_attempt_tells_the_difference(bench: Bench) -> None:
    bench.scripts.add(START, "a", _title("$colour"))
    trial = bench.attempt(colour="blue")
    assert trial.before == XML
    assert "<title>blue</title>" in trial.after
    assert (trial.error, trial.warnings) == ("", ())
    (run,) = trial.runs
    assert (run.script, run.status) == ("a", 0)


def test_attempt_says_what_libvirt_and_its_schema_say(bench: Bench) -> None:
    bench.scripts.add(START, "a", _title("x"))
    bench.complaint, bench.said = "no such title", b"one\ntwo\n"
    trial = bench.attempt()
    assert (trial.error, trial.warnings) == ("no such title", ("one", "two"))


def test_nobody_is_asked_about_what_did_not_change(bench: Bench) -> None:
    bench.scripts.add(START, "a", "exit 0")
    bench.complaint, bench.said = "no such title", b"one\n"
    trial = bench.attempt()
    assert (trial.error, trial.warnings) == ("", ())


def test_attempt_says_why_it_would_not_be_done(bench: Bench) -> None:
    bench.scripts.add(START, "a", "echo no licence >&2; exit 2")
    assert bench.attempt().error == "a: no licence"


def test_failure_that_changes_nothing_is_no_error(bench: Bench) -> None:
    bench.scripts.add(HookPoint.AFTER_VM_START, "a", "exit 2")
    trial = bench.attempt(HookPoint.AFTER_VM_START)
    assert trial.error == ""
    assert trial.runs[0].problem


def test_device_points_are_about_a_card(bench: Bench) -> None:
    bench.scripts.add(HookPoint.BEFORE_DEVICE_CREATE, "a", "exit 0")
    assert bench.attempt(HookPoint.BEFORE_DEVICE_CREATE).before.startswith("<interface")


@pytest.mark.parametrize(
    ("xml", "expected"),
    [
        pytest.param(XML, "<interface", id="card"),
        pytest.param("<domain><devices><disk/></devices></domain>", "<disk", id="disk"),
        pytest.param("<domain/>", "<device/>", id="neither"),
    ],
)
def test_first_card_takes_what_there_is(xml: str, expected: str) -> None:
    assert first_card(xml).startswith(expected)


def test_attempt_refuses_what_it_cannot_try(bench: Bench) -> None:
    with pytest.raises(NoSuchPoint):
        bench.attempt("before_lunch")
    with pytest.raises(VmNeeded):
        bench.trials.attempt(TryHook(START))
    with pytest.raises(VmGone):
        bench.trials.attempt(TryHook(START, VmId(examples.NODE_ID)))
    with pytest.raises(BadProperty):
        bench.attempt(LD_PRELOAD="/tmp/x.so")


def test_points_of_no_vm_are_tried_without_one(bench: Bench) -> None:
    bench.scripts.add(HookPoint.AFTER_GET_CAPS, "a", 'echo "{}" >"$_hook_json"')
    trial = bench.trials.attempt(TryHook(HookPoint.AFTER_GET_CAPS))
    assert trial.before == "{}"
    assert trial.error == ""


def test_list_tells_scripts_points_and_folders(bench: Bench) -> None:
    bench.scripts.add(START, "b", "exit 0")
    bench.scripts.add(START, "a", "exit 0", mode=0o777)
    told = bench.trials.list()
    assert [(each.name, bool(each.refused)) for each in told.scripts] == [
        ("a", True),
        ("b", False),
    ]
    assert len(told.points) == len(HookPoint)
    assert told.folders == (str(bench.scripts.root),)
