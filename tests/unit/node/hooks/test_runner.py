"""Scripts as VDSM's contract has them, and scripts that do as they please."""

import contextlib
import os
import time
from pathlib import Path

import pytest

from node.hooks.runner import HookFailed, Occasion, Outcome
from node.model.hooks import HookPoint
from node.system import cgroups
from tests.unit.node.hooks.scripts import DOMAIN, GROUP, Hooks

START = HookPoint.BEFORE_VM_START
AFTER = HookPoint.AFTER_VM_START
PYTHON = "/usr/bin/python3"


@pytest.fixture
def hooks(tmp_path: Path) -> Hooks:
    return Hooks(tmp_path)


def _run(hooks: Hooks, point: HookPoint = START, payload: bytes = DOMAIN) -> Outcome:
    return hooks.runner.run(Occasion(point, payload, {"colour": "blue"}, "vm-1"))


def _refusal(hooks: Hooks, point: HookPoint = START) -> str:
    with pytest.raises(HookFailed) as caught:
        _run(hooks, point)
    return caught.value.message


def _append(text: str) -> str:
    return f'sed -i "s:</domain>:<{text}/></domain>:" "$_hook_domxml"'


def test_run_returns_the_payload_when_there_is_no_script(hooks: Hooks) -> None:
    assert _run(hooks) == Outcome(DOMAIN)
    assert not hooks.run_folder.exists()


def test_scripts_edit_one_file_in_order(hooks: Hooks) -> None:
    hooks.add(START, "60_b", _append("b"))
    hooks.add(START, "50_a", _append("a"))
    outcome = _run(hooks)
    assert outcome.payload.strip() == b"<domain><name>a</name><a/><b/></domain>"
    assert [(each.script, each.status, each.problem) for each in outcome.runs] == [
        ("50_a", 0, ""),
        ("60_b", 0, ""),
    ]
    assert hooks.left() == []


def test_edits_do_not_count_everywhere(hooks: Hooks) -> None:
    hooks.add(AFTER, "50_a", _append("a"))
    assert _run(hooks, AFTER).payload == DOMAIN


def test_script_has_its_environment_and_no_other(
    hooks: Hooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_OURS", "x")
    hooks.add(START, "a", 'env >&2; pwd >&2; cat "$_hook_domxml" >&2')
    said = _run(hooks).runs[0].said
    assert "colour=blue" in said
    assert "vmId=vm-1" in said
    assert DOMAIN.decode() in said
    assert "SECRET_OF_OURS" not in said
    assert "_hook_json" not in said


def test_property_does_not_take_the_place_of_ours(hooks: Hooks) -> None:
    hooks.add(START, "a", "env >&2")
    mine = {"PATH": "/tmp", "PYTHONPATH": "/tmp", "vmId": "another"}
    outcome = hooks.runner.run(Occasion(START, DOMAIN, mine, "vm-1"))
    assert "/tmp\n" not in outcome.runs[0].said
    assert "vmId=vm-1" in outcome.runs[0].said


def test_value_is_text_whatever_is_in_it(hooks: Hooks, tmp_path: Path) -> None:
    evil = f"$(touch {tmp_path}/a); `touch {tmp_path}/a`\n'\"; touch {tmp_path}/a"
    hooks.add(START, "a", 'printf %s "$colour" >&2')
    outcome = hooks.runner.run(Occasion(START, DOMAIN, {"colour": evil}, "vm-1"))
    assert outcome.runs[0].said == evil
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("status", "names"),
    [(1, ["a", "b"]), (2, ["a"]), (3, ["a", "b"]), (255, ["a", "b"])],
)
def test_status_decides_who_runs_after(
    hooks: Hooks, status: int, names: list[str]
) -> None:
    hooks.add(START, "a", f"echo no licence >&2; exit {status}")
    hooks.add(START, "b", "exit 0")
    assert _refusal(hooks) == f"{START}: a: no licence"
    outcome = hooks.runner.attempt(Occasion(START, DOMAIN))
    assert [each.script for each in outcome.runs] == names


def test_failure_is_only_told_where_nothing_is_about_to_be_done(hooks: Hooks) -> None:
    hooks.add(AFTER, "a", "exit 2")
    outcome = _run(hooks, AFTER)
    assert outcome.problem == "a: it ended with status 2, and said nothing"


def test_edit_before_a_failure_stays(hooks: Hooks) -> None:
    hooks.add(HookPoint.AFTER_GET_CAPS, "a", 'echo "[1]" >"$_hook_json"; exit 1')
    outcome = _run(hooks, HookPoint.AFTER_GET_CAPS, b"{}")
    assert outcome.payload == b"[1]\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('echo "<domain>" >"$_hook_domxml"', "no XML"),
        (': >"$_hook_domxml"', "no XML"),
        ('rm "$_hook_domxml"', "no file"),
        ('rm "$_hook_domxml"; mkdir "$_hook_domxml"', "no file"),
        ('ln -sf /etc/hostname "$_hook_domxml"', "no file"),
        ('rm "$_hook_domxml"; mkfifo "$_hook_domxml"', "something else"),
        ('head -c 9000000 /dev/zero >"$_hook_domxml"', "more than"),
        (
            'echo \'<!DOCTYPE a [<!ENTITY b SYSTEM "/etc/hostname">]>'
            '<a>&b;</a>\' >"$_hook_domxml"',
            "document type",
        ),
    ],
    ids=["half", "empty", "gone", "folder", "link", "fifo", "huge", "entities"],
)
def test_edit_that_cannot_be_read_is_taken_back(
    hooks: Hooks, text: str, said: str
) -> None:
    hooks.add(START, "a", text)
    hooks.add(START, "b", _append("b"))
    assert said in _refusal(hooks)
    outcome = hooks.runner.attempt(Occasion(START, DOMAIN))
    assert outcome.payload.strip() == b"<domain><name>a</name><b/></domain>"
    assert hooks.left() == []


def test_judge_refuses_an_edit_with_its_script(hooks: Hooks) -> None:
    hooks.add(START, "a", _append("good"))
    hooks.add(START, "b", _append("bad"))
    hooks.add(START, "c", "exit 0")
    judged: list[bytes] = []

    def judge(payload: bytes) -> str:
        judged.append(payload)
        return "libvirt knows no bad" if b"bad" in payload else ""

    outcome = hooks.runner.attempt(Occasion(START, DOMAIN), judge)
    assert outcome.problem == "b: libvirt knows no bad"
    assert outcome.payload.strip() == b"<domain><name>a</name><good/></domain>"
    assert len(judged) == 2  # nobody asks about what is as it was


@pytest.mark.parametrize(
    "text",
    ["sleep 1000", "trap '' TERM INT HUP; while :; do :; done", "kill -STOP $$"],
    ids=["sleeps", "spins", "stands-still"],
)
def test_script_that_hangs_is_ended(tmp_path: Path, text: str) -> None:
    hooks = Hooks(tmp_path, {START: 0.5})
    hooks.add(START, "a", text)
    began = time.monotonic()
    assert _refusal(hooks) == f"{START}: a: it was ended after 0.5 s"
    assert time.monotonic() - began < 10.0


def test_processes_that_it_leaves_are_ended(hooks: Hooks, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    hooks.add(START, "a", f"sleep 1000 & echo $! >{pid_file}")
    assert _run(hooks).problem == ""
    assert not _runs(int(pid_file.read_text()))


def _runs(pid: int) -> bool:
    """Tell whether a process is there, and not only waits for its parent's word."""
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        )
    except OSError:
        return False


def _running(script: Path) -> int:
    """Return how many processes run a script."""
    found = 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found += os.fsencode(script) in path.read_bytes()
    return found


needs_groups = pytest.mark.skipif(
    os.geteuid() != 0, reason="cgroups are made by root: this is another user"
)


@needs_groups
def test_processes_that_leave_its_session_are_ended(
    hooks: Hooks, tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    text = f"setsid sh -c 'echo $$ >{pid_file}; exec sleep 1000' & "
    hooks.add(START, "a", text + f"while [ ! -s {pid_file} ]; do sleep 0.01; done")
    assert _run(hooks).problem == ""
    assert not _runs(int(pid_file.read_text()))


@needs_groups
def test_processes_without_end_are_bounded(tmp_path: Path) -> None:
    hooks = Hooks(tmp_path, {START: 3.0})
    script = hooks.add(START, "a", "f() { f & f; }; f 2>/dev/null; sleep 1000")
    assert "a: it " in _refusal(hooks)
    assert _running(script) == 0


def test_memory_without_end_is_bounded(hooks: Hooks) -> None:
    text = "a = bytearray(4 << 30)\nfor n in range(0, len(a), 4096): a[n] = 1"
    hooks.add(START, "a", text, shell=PYTHON)
    assert _refusal(hooks)


def test_flood_of_words_is_cut(hooks: Hooks) -> None:
    hooks.add(START, "a", "head -c 30000000 /dev/zero | tr '\\0' x >&2")
    said = _run(hooks).runs[0].said
    assert len(said) < 20_000
    assert said.endswith("bytes more)")


def test_pipe_that_somebody_holds_is_not_waited_for(hooks: Hooks) -> None:
    hooks.add(START, "a", "echo well >&2; setsid sleep 30 & exit 0")
    began = time.monotonic()
    assert _run(hooks).runs[0].said == "well"
    assert time.monotonic() - began < 10.0


def test_interpreter_that_is_not_there_is_told(hooks: Hooks) -> None:
    hooks.add(START, "a", "", shell="/no/such/shell")
    assert f"{START}: a: " in _refusal(hooks)


def test_what_must_not_run_is_told(hooks: Hooks) -> None:
    hooks.add(START, "a", "exit 2", mode=0o777)
    outcome = _run(hooks)
    assert outcome.runs == ()
    assert [each.name for each in outcome.refused] == ["a"]


def test_python_script_finds_the_module(hooks: Hooks) -> None:
    hooks.add(
        START,
        "a",
        "import hooking\n"
        "xml = hooking.read_domxml()\n"
        "xml.documentElement.appendChild(xml.createElement('seen'))\n"
        "hooking.write_domxml(xml)",
        shell=PYTHON,
    )
    assert b"<seen/>" in _run(hooks).payload


def test_groups_are_removed(hooks: Hooks) -> None:
    hooks.add(START, "a", "exit 0")
    _run(hooks)
    for hierarchy in cgroups._hierarchies():
        folder = hierarchy / GROUP
        assert not folder.exists() or [e for e in folder.iterdir() if e.is_dir()] == []
