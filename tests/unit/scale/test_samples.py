"""Hold the recording to the model, and test marks."""

import json

import pytest

from node import wire
from node.model.event import Event
from node.model.feed import Kind
from node.model.host import Device, Image, NodeFacts
from node.model.job import Job
from node.model.stats import NodeStats, VmStats
from node.model.vm import Vm, VmRun
from tests.scale import samples
from tests.scale.samples import Samples, Template

MODEL = {
    Kind.NODE: NodeFacts,
    Kind.DEVICE: Device,
    Kind.IMAGE: Image,
    Kind.VM: Vm,
    Kind.VM_RUN: VmRun,
    Kind.JOB: Job,
}


@pytest.fixture(scope="module")
def recorded() -> Samples:
    return samples.read()


def _templates(recorded: Samples) -> list[Template]:
    return [
        *recorded.node,
        *recorded.vm,
        *recorded.pause.documents,
        *recorded.resume.documents,
    ]


def test_recording_holds_every_kind(recorded: Samples) -> None:
    assert {each.kind for each in _templates(recorded)} == set(MODEL)


def test_recorded_documents_are_of_the_model(recorded: Samples) -> None:
    # if this fails, documents have changed: python -m tests.scale.record
    for each in _templates(recorded):
        wire.decode(MODEL[Kind(each.kind)], each.body.encode())


def test_recorded_figures_and_events_are_of_the_model(recorded: Samples) -> None:
    numbers = {"cpu_percent": 1.5, "number": 7}
    for text, kind in (
        (recorded.node_stats, NodeStats),
        (recorded.vm_stats, VmStats),
        *((event, Event) for event in recorded.pause.events),
        *((event, Event) for event in recorded.resume.events),
    ):
        wire.decode(kind, samples.fill(text, numbers).encode())


def test_changes_make_a_job_and_an_event(recorded: Samples) -> None:
    for change in (recorded.pause, recorded.resume):
        jobs = [each for each in change.documents if each.kind == Kind.JOB]
        assert [each.id for each in jobs] == ["@job_id@"]
        assert change.events


def test_pause_and_resume_end_in_other_states(recorded: Samples) -> None:
    states = [
        json.loads(each.body)["state"]
        for change in (recorded.pause, recorded.resume)
        for each in change.documents
        if each.kind == Kind.VM_RUN
    ]
    assert states == ["paused", "up"]


def test_mark_replaces_whole_strings_only() -> None:
    value = {"id": "abc", "text": "abc and more", "list": [{"x": "abc"}, 1]}
    assert samples.mark(value, {"vm_id": "abc"}) == {
        "id": "@vm_id@",
        "text": "abc and more",
        "list": [{"x": "@vm_id@"}, 1],
    }


def test_fill_takes_back_what_mark_did() -> None:
    value = {"id": "abc", "name": 'with "quotes" and é'}
    names = {"vm_id": "abc", "vm_name": 'with "quotes" and é'}
    text = samples.dump(samples.mark(value, names))
    assert json.loads(samples.fill(text, names)) == value


def test_fill_writes_numbers_without_quotes() -> None:
    assert samples.fill('{"n":"@number@"}', {"number": 3, "other": "x"}) == '{"n":3}'
