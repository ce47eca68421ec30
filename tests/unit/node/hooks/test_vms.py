"""Hooks of VMs: what scripts say is an event, what is told survives the agent."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from node.clock import SystemClock
from node.contract.hooks import HookEditRefused
from node.hooks import schema
from node.hooks.runner import HookFailed
from node.hooks.vms import VmHooks
from node.jobs import Jobs
from node.model.hooks import HookPoint
from node.model.ids import NodeId
from node.model.job import Job, JobState
from node.model.properties import CustomProperty
from node.model.vm import Vm
from node.store import Store
from node.system import command
from tests.lab import waiting
from tests.unit.node.hooks.scripts import Hooks
from tests.unit.node.vm import examples

START = HookPoint.BEFORE_VM_START
AFTER = HookPoint.AFTER_VM_START
PROPERTIES = (CustomProperty("colour", "blue"),)
VM: Vm = replace(examples.VM, spec=replace(examples.SPEC, custom_properties=PROPERTIES))
GOLDEN = Path(examples.__file__).parent / "golden/kvm.xml"
XML = "<domain type='kvm'><name>web</name></domain>"


class Bench:
    """An agent's hooks, which can stop and start again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scripts = Hooks(folder)
        self.begin()

    def begin(self, *, has_workers: bool = True) -> None:
        clock = SystemClock()
        node_id = NodeId(examples.NODE_ID)
        self.store = Store(self.folder / "node.db", clock, node_id, "boot-1")
        self.jobs = Jobs(self.store, clock)
        self.hooks = VmHooks(self.scripts.runner, self.store, self.jobs, command.run)
        self.jobs.recover(self.hooks.job_handlers())
        if has_workers:
            self.jobs.start()

    def strict(self) -> VmHooks:
        """Return the hooks of a node whose fleet is strict."""
        made = (self.scripts.runner, self.store, self.jobs, command.run)
        return VmHooks(*made, is_strict=lambda: True)

    def end(self) -> None:
        self.jobs.stop(10.0)
        self.store.close()

    def told(self) -> list[tuple[str, str, str]]:
        """Return code, script and detail of each event."""
        return [
            (each.code, str(each.fields["script"]), str(each.fields["detail"]))
            for each in self.store.events(0).events
            if each.vm_id == VM.spec.vm_id
        ]

    def ended(self) -> list[Job]:
        """Return all jobs, at their end."""
        return [self.jobs.get(each.job_id, 20.0) for each in self.jobs.list()]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.end()


def test_edit_has_the_properties_of_vm_and_device(bench: Bench) -> None:
    bench.scripts.add(START, "a", 'echo "$colour $size" >&2')
    bench.hooks.edit(START, VM, XML, (CustomProperty("size", "large"),))
    assert bench.told() == [("hook_said", "a", "blue large")]


def test_edit_tells_who_changed_what(bench: Bench) -> None:
    for name in ("a", "b"):
        words = f"s:<name>:<title>{name}</title><name>:"
        bench.scripts.add(START, name, f'sed -i "{words}" "$_hook_domxml"')
    bench.scripts.add(START, "c", "exit 0")
    edited = bench.hooks.edit(START, VM, XML)
    assert [script for script, _ in edited.edits] == ["a", "b"]
    assert edited.edits[-1][1] == edited.text
    assert edited.text.index("<title>a") < edited.text.index("<title>b")


def test_failure_is_an_event_and_an_error(bench: Bench) -> None:
    bench.scripts.add(START, "a", "echo no licence >&2; exit 1")
    with pytest.raises(HookFailed):
        bench.hooks.edit(START, VM, XML)
    assert bench.told() == [("hook_failed", "a", "no licence")]


def test_script_that_must_not_run_is_an_event(bench: Bench) -> None:
    bench.scripts.add(START, "a", "exit 0", mode=0o777)
    bench.hooks.ask(START, VM, lambda: XML)
    ((code, script, detail),) = bench.told()
    assert (code, script) == ("hook_refused", "a")
    assert "anybody may write" in detail


def test_nobody_describes_what_nobody_reads(bench: Bench) -> None:
    def describe() -> str:
        raise AssertionError("there is no script")

    bench.hooks.ask(HookPoint.BEFORE_VM_PAUSE, VM, describe)
    bench.hooks.tell(AFTER, VM, describe)
    assert bench.jobs.list() == ()


def test_what_is_told_goes_on_after_a_restart(bench: Bench) -> None:
    bench.scripts.add(AFTER, "a", 'echo "$colour" >&2; cat "$_hook_domxml" >&2')
    bench.end()
    bench.begin(has_workers=False)
    bench.hooks.tell(AFTER, VM, lambda: XML)
    bench.end()
    bench.begin()
    (job,) = bench.ended()
    assert job.state is JobState.DONE
    assert bench.told() == [("hook_said", "a", f"blue\n{XML}")]


def test_what_is_told_keeps_its_order(bench: Bench) -> None:
    bench.scripts.add(AFTER, "a", "sleep 0.3; echo first >&2")
    bench.scripts.add(HookPoint.AFTER_VM_PAUSE, "a", "echo second >&2")
    bench.hooks.tell(AFTER, VM, lambda: XML)
    bench.hooks.tell(HookPoint.AFTER_VM_PAUSE, VM, lambda: XML)
    bench.ended()
    assert [detail for _, _, detail in bench.told()] == ["first", "second"]


def test_job_fails_with_its_script(bench: Bench) -> None:
    bench.scripts.add(AFTER, "a", "exit 3")
    bench.hooks.tell(AFTER, VM, lambda: XML)
    (job,) = bench.ended()
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert job.error.code == "hook_failed"


@pytest.mark.skipif(not schema.SCHEMA.exists(), reason="libvirt's schema is not here")
def test_edit_that_the_schema_dislikes_is_a_warning(bench: Bench) -> None:
    bench.scripts.add(START, "a", 'sed -i "s:<name>:<no/><name>:" "$_hook_domxml"')
    assert "<no/>" in bench.hooks.edit(START, VM, XML).text
    waiting.until("the warning", bench.told, timeout_s=20.0)
    ((code, script, detail),) = bench.told()
    assert (code, script) == ("hook_edit_unusual", "a")
    assert detail


@pytest.mark.skipif(not schema.SCHEMA.exists(), reason="libvirt's schema is not here")
def test_edit_that_the_schema_dislikes_does_not_start_where_that_is_strict(
    bench: Bench,
) -> None:
    for name, word in (("a", "<title>t</title>"), ("b", "<no/>")):
        sed = f'sed -i "s:<name>:{word}<name>:" "$_hook_domxml"'
        bench.scripts.add(START, name, sed)
    with pytest.raises(HookEditRefused) as caught:
        bench.strict().edit(START, VM, GOLDEN.read_text())
    assert caught.value.fields["script"] == "b"
    assert bench.told() == []
