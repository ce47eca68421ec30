"""Scripts before and after what an aggregator does: asked, told, and harmless."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from aggregator.fleet.members import Member
from aggregator.hooks import center
from aggregator.hooks.center import HooksBusy
from node.errors import Conflict, Unavailable
from node.hooks.runner import HookFailed
from node.model.feed import Kind
from node.model.ids import Fingerprint, JobId
from node.model.job import JobState
from node.model.requests import StopManner
from tests.fakes import fleet
from tests.unit.aggregator.control.ordering import ONE, ORIGIN, TWO
from tests.unit.aggregator.hooks.center_scene import ORDER, WAIT_S, WEB, Scene

OAK = Member(ONE, "n1", "192.0.2.7", 7441, Fingerprint("f"), fleet.AT, "admin")


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.close()


def until(gate: Path) -> str:
    """Return what waits in a script until a file is there."""
    return f"while [ ! -e {gate} ]; do sleep .02; done"


def end(scene: Scene, order_id: JobId, state: JobState = JobState.DONE) -> None:
    scene.say(1, fleet.job(1, state, job_id=order_id))
    scene.loop.cycle()


# --- orders


def test_order_goes_without_scripts_as_if_there_were_none(scene: Scene) -> None:
    started = scene.orders.start_vm(WEB, ORIGIN)
    assert started.state is JobState.RUNNING
    assert scene.is_told()


def test_script_that_says_nothing_lets_an_order_go(scene: Scene) -> None:
    scene.add("before_vm_start", "50_a")
    scene.add("before_vm_start", "10_b")
    assert scene.orders.start_vm(WEB, ORIGIN).state is JobState.RUNNING
    assert scene.heard == ["before_vm_start/10_b", "before_vm_start/50_a"]
    assert scene.nodes[ONE].asked == ["vm_start"]


def test_script_that_fails_forbids_and_is_named(scene: Scene) -> None:
    scene.add("before_vm_start", "50_quota", "echo out of hours >&2; exit 1")
    with pytest.raises(Conflict, match="50_quota: out of hours") as caught:
        scene.orders.start_vm(WEB, ORIGIN)
    assert caught.value.code == HookFailed.code
    assert caught.value.fields["script"] == "50_quota"
    assert scene.nodes[ONE].asked == []
    assert scene.codes()[-2:] == ["center_hook_failed", "action_failed"]
    (failed,) = [e for e in scene.events.list() if e.code == "center_hook_failed"]
    assert (failed.vm_id, failed.user) == (WEB, ORIGIN.user)


def test_scripts_are_told_how_it_ended(scene: Scene) -> None:
    scene.add("after_vm_start", "50_a")
    scene.add("after_vm_start_fail", "50_a")
    done = scene.orders.start_vm(WEB, ORIGIN)
    end(scene, done.order_id)
    scene.tell(scene.is_told)
    failed = scene.orders.start_vm(WEB, ORIGIN)
    end(scene, failed.order_id, JobState.FAILED)
    scene.tell(scene.is_told)
    assert scene.heard == ["after_vm_start/50_a", "after_vm_start_fail/50_a"]
    assert [body["error"] for body in scene.payloads] == [None, None]


def test_scripts_are_told_what_the_node_refused(scene: Scene) -> None:
    scene.add("after_vm_start_fail", "50_a")
    scene.nodes[ONE].refusal = Conflict("it runs already")
    with pytest.raises(Conflict):
        scene.orders.start_vm(WEB, ORIGIN)
    scene.tell(scene.is_told)
    (body,) = scene.payloads
    assert body["error"]["message"] == "it runs already"


def test_those_that_were_asked_are_told_that_another_forbade_it(scene: Scene) -> None:
    scene.add("before_vm_start", "10_book")
    scene.add("before_vm_start", "50_forbid", "exit 1")
    scene.add("after_vm_start_fail", "10_book")
    with pytest.raises(Conflict):
        scene.orders.start_vm(WEB, ORIGIN)
    scene.tell(scene.is_told)
    assert scene.heard[-1] == "after_vm_start_fail/10_book"
    assert scene.payloads[-1]["error"]["code"] == "hook_failed"


def test_those_that_are_told_hear_of_the_node_that_did_it(scene: Scene) -> None:
    scene.add("before_vm_create", "50_a")
    scene.add("after_vm_create", "50_a")
    scene.nodes[TWO].refusal = Conflict("it is full")  # the one that is chosen
    scene.orders.create_vm(fleet.spec(2), ORIGIN)
    scene.tell(scene.is_told)
    assert [body["node"]["name"] for body in scene.payloads] == ["n2", "n1"]


def test_edits_do_not_count(scene: Scene) -> None:
    scene.add("before_vm_start", "50_a", 'echo "{}" >"$_hook_json"')
    scene.add("before_vm_start", "60_b", 'rm "$_hook_json"')
    with pytest.raises(Conflict, match="60_b: it left no file"):
        scene.orders.start_vm(WEB, ORIGIN)


def test_what_scripts_say_is_an_event(scene: Scene) -> None:
    scene.add("before_vm_start", "50_a", "echo hello >&2")
    scene.orders.start_vm(WEB, ORIGIN)
    (said,) = [each for each in scene.events.list() if each.code == "center_hook_said"]
    assert said.fields["detail"] == "hello"
    assert said.correlation_id == ORIGIN.correlation_id


def test_file_that_must_not_run_is_told_and_holds_up_nothing(scene: Scene) -> None:
    scene.add("before_vm_start", "50_a").chmod(0o757)
    scene.orders.start_vm(WEB, ORIGIN)
    assert scene.heard == []
    assert "center_hook_refused" in scene.codes()


def test_script_without_its_interpreter_forbids(scene: Scene) -> None:
    scene.add("before_vm_start", "50_a").write_text("#!/no/such/shell\n")
    with pytest.raises(Conflict, match="50_a"):
        scene.orders.start_vm(WEB, ORIGIN)


def test_late_script_is_ended_and_forbids(tmp_path: Path) -> None:
    scene = Scene(tmp_path, before_vm_start=0.3)
    scene.add("before_vm_start", "50_a", "exec sleep 600")
    with pytest.raises(Conflict, match=r"ended after 0\.3 s"):
        scene.orders.start_vm(WEB, ORIGIN)
    scene.close()


def test_run_folder_that_cannot_be_made_forbids(scene: Scene) -> None:
    scene.add("before_vm_start", "50_a")
    (scene.folder / "run").write_text("in the way")
    with pytest.raises(Unavailable, match="cannot be run"):
        scene.orders.start_vm(WEB, ORIGIN)


# --- who waits for whom


def test_script_that_hangs_holds_up_nothing_else(scene: Scene, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    scene.add("before_vm_start", "50_slow", until(gate))
    scene.begin()
    stopped = scene.orders.stop_vm(WEB, ORIGIN, manner=StopManner.FORCE)
    assert stopped.state is JobState.RUNNING
    assert scene.orders.get(ORDER).step == "scripts are asked"
    scene.pass_time(5.0)  # nor is it asked a second time
    gate.touch()
    scene.tell(lambda: scene.orders.get(ORDER).state is JobState.RUNNING)
    assert scene.heard == ["before_vm_start/50_slow"]


def test_scripts_of_other_objects_are_told_meanwhile(
    scene: Scene, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    scene.add("after_vm_start", "50_slow", until(gate))
    scene.add("after_vm_create", "50_a")
    scene.add("after_vm_stop", "50_a")
    start = scene.orders.start_vm(WEB, ORIGIN)
    end(scene, start.order_id)
    stop = scene.orders.stop_vm(WEB, ORIGIN, manner=StopManner.FORCE)
    end(scene, stop.order_id)
    scene.orders.create_vm(fleet.spec(2), ORIGIN)
    scene.tell(lambda: "after_vm_create/50_a" in scene.heard)
    assert "after_vm_stop/50_a" not in scene.heard  # its own VM's start is told first
    gate.touch()
    scene.tell(scene.is_told)
    assert scene.heard[-1] == "after_vm_stop/50_a"


def test_only_so_many_are_kept(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(center, "KEPT_MAX", 1)
    scene.add("after_vm_start", "50_a")
    scene.begin()
    scene.orders.start_vm(WEB, ORIGIN)
    assert "center_hooks_full" in scene.codes()
    end(scene, ORDER)
    scene.tell(scene.is_told)
    assert scene.heard == ["after_vm_start/50_a"]


# --- nodes


def around(scene: Scene, action: str = "node_admit") -> None:
    with scene.hooks.around(action, OAK, "admin", ORIGIN.correlation_id):
        with scene.log.open("a") as log:
            log.write('deed {"point": ""}\n')
        if action == "node_remove":
            scene.members.clear()


def test_scripts_are_asked_and_told_around_an_admission(scene: Scene) -> None:
    scene.add("before_node_admit", "50_a")
    scene.add("after_node_admit", "50_a")
    around(scene)
    scene.tell(scene.is_told)
    assert scene.heard == ["before_node_admit/50_a", "/deed", "after_node_admit/50_a"]
    about = {"kind": Kind.NODE, "id": ONE, "name": "n1", "address": "192.0.2.7"}
    assert scene.payloads[0]["object"] == about


def test_script_forbids_an_admission(scene: Scene) -> None:
    scene.add("before_node_admit", "50_a", "exit 1")
    scene.add("after_node_admit_fail", "50_a")
    with pytest.raises(HookFailed):
        around(scene)
    scene.tell(scene.is_told)
    assert scene.heard == ["before_node_admit/50_a", "after_node_admit_fail/50_a"]


def test_scripts_are_told_of_a_removal(scene: Scene) -> None:
    scene.add("after_node_remove", "50_a")
    around(scene, "node_remove")
    scene.tell(scene.is_told)
    assert scene.heard == ["/deed", "after_node_remove/50_a"]


def test_few_people_wait_for_scripts_at_once(scene: Scene, tmp_path: Path) -> None:
    gate, begun = tmp_path / "gate", tmp_path / "begun"
    begun.mkdir()
    wait = f"touch {begun}/$$; {until(gate)}"
    scene.add("before_node_admit", "50_slow", wait)
    people = [threading.Thread(target=around, args=(scene,)) for _ in range(2)]
    for each in people:
        each.start()
    scene.tell(lambda: len(list(begun.iterdir())) == len(people))
    with pytest.raises(HooksBusy):
        around(scene)
    gate.touch()
    for each in people:
        each.join(WAIT_S)
    scene.tell(scene.is_told)


def test_nothing_is_told_while_a_caller_is_at_it(scene: Scene) -> None:
    scene.add("after_node_admit", "50_a")
    with scene.hooks.around("node_admit", OAK, "admin", None):
        scene.hooks.cycle()
        assert scene.heard == []
    scene.tell(scene.is_told)
    assert scene.heard == ["after_node_admit/50_a"]


# --- stops


def test_stop_ends_a_script_and_it_is_asked_again(tmp_path: Path) -> None:
    scene, begun = Scene(tmp_path), tmp_path / "begun"
    scene.add(
        "before_vm_start", "50_a", f"[ -e {begun} ] || {{ touch {begun}; sleep 9; }}"
    )
    scene.begin()
    scene.tell(begun.exists)
    scene.hooks.stop()
    scene.restart()
    assert scene.orders.get(ORDER).state is JobState.QUEUED
    assert "center_hook_failed" not in scene.codes()
    scene.pass_time(11.0)
    scene.tell(lambda: scene.orders.get(ORDER).state is JobState.RUNNING)
    assert scene.heard == ["before_vm_start/50_a"] * 2
    scene.close()


def test_what_was_kept_before_a_stop_is_told_after_it(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.add("after_node_admit", "50_a")
    scene.add("after_node_admit_fail", "50_a")
    with scene.hooks.around("node_admit", OAK, "admin", None):
        scene.hooks.stop()
        scene.restart()
    scene.members.clear()  # the stop was before it was done
    scene.tell(scene.is_told)
    assert scene.heard == ["after_node_admit_fail/50_a"]
    scene.close()


def test_record_that_cannot_be_read_is_left_alone(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.database.records(center.COLLECTION).put("x", {"schema": 9})
    scene.restart()
    scene.hooks.cycle()
    assert not scene.is_told()
    scene.close()
