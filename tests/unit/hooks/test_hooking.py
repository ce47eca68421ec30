"""What hook scripts import: VDSM's names, with VDSM's meanings."""

import logging
import os
import sys
from pathlib import Path
from xml.dom import minidom

import hooking
import pytest

_XML = "<domain><name>caf\u00e9</name></domain>"


@pytest.fixture
def payload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file that the environment calls the payload."""
    path = tmp_path / "payload"
    monkeypatch.setenv("_hook_domxml", os.fspath(path))
    monkeypatch.setenv("_hook_json", os.fspath(path))
    return path


def _set_name(domxml: minidom.Document, name: str) -> None:
    domxml.getElementsByTagName("name")[0].setAttribute("is", name)


def test_read_domxml_returns_the_document(payload: Path) -> None:
    payload.write_text(_XML, encoding="utf-8")
    name = hooking.read_domxml().getElementsByTagName("name")[0]
    assert name.toxml() == "<name>caf\u00e9</name>"


def test_write_domxml_writes_utf_8(payload: Path) -> None:
    payload.write_text(_XML, encoding="utf-8")
    hooking.write_domxml(hooking.read_domxml())
    assert payload.read_bytes() == (
        b'<?xml version="1.0" encoding="utf-8"?>' + _XML.encode()
    )


def test_write_domxml_leaves_nothing_of_what_was_longer(payload: Path) -> None:
    payload.write_text("<domain>" + " " * 9000 + "</domain>")
    hooking.write_domxml(minidom.parseString("<domain/>"))
    assert payload.read_text().endswith("<domain/>")


def test_write_domxml_takes_an_element(payload: Path) -> None:
    name = minidom.parseString(_XML).getElementsByTagName("name")[0]
    hooking.write_domxml(name)
    assert payload.read_text(encoding="utf-8") == "<name>caf\u00e9</name>"


def test_write_domxml_escapes_what_a_property_holds(payload: Path) -> None:
    payload.write_text("<domain><name/></domain>")
    domxml = hooking.read_domxml()
    _set_name(domxml, '\'"/><evil a="&lt;')
    hooking.write_domxml(domxml)
    name = hooking.read_domxml().getElementsByTagName("name")[0]
    assert name.getAttribute("is") == '\'"/><evil a="&lt;'


def test_write_domxml_leaves_the_file_when_it_cannot_be_written(payload: Path) -> None:
    payload.write_text(_XML, encoding="utf-8")
    domxml = hooking.read_domxml()
    # The DOM takes what no XML can hold, and fails when it is asked for the text.
    domxml.getElementsByTagName("name")[0].appendChild(domxml.createComment("--"))
    with pytest.raises(ValueError, match="--"):
        hooking.write_domxml(domxml)
    assert payload.read_text(encoding="utf-8") == _XML


@pytest.mark.parametrize("write", ["write_domxml", "write_json"])
def test_write_keeps_the_file_itself(payload: Path, write: str) -> None:
    payload.write_text("before")
    inode = payload.stat().st_ino
    data = minidom.parseString(_XML) if write == "write_domxml" else [1]
    getattr(hooking, write)(data)
    assert payload.stat().st_ino == inode
    assert list(payload.parent.iterdir()) == [payload]


def test_write_json_is_read_again(payload: Path) -> None:
    hooking.write_json({"net\u00e9": [1, None, True, "x"]})
    assert hooking.read_json() == {"net\u00e9": [1, None, True, "x"]}


def test_write_json_leaves_the_file_when_it_cannot_be_written(payload: Path) -> None:
    payload.write_text("{}")
    with pytest.raises(TypeError):
        hooking.write_json({"a": object()})
    assert payload.read_text() == "{}"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, False),
        (True, True),
        (False, False),
        ("true", True),
        ("TRUE", True),
        ("1", True),
        ("-1", True),
        (" 2 ", True),
        ("0", False),
        ("false", False),
        ("yes", False),
        ("", False),
        ("1" * 5000, False),
        (b"1", True),
        (b"true", False),
        (1, False),
        ([1], False),
    ],
)
def test_tobool_is_as_in_vdsm(value: object, expected: bool) -> None:
    assert hooking.tobool(value) is expected


def test_log_writes_a_line_of_errors(capsys: pytest.CaptureFixture[str]) -> None:
    hooking.log("one")
    assert capsys.readouterr() == ("", "one\n")


@pytest.mark.parametrize(("arguments", "code"), [((), 2), ((1,), 1)])
def test_exit_hook_tells_and_ends(
    capsys: pytest.CaptureFixture[str], arguments: tuple[int, ...], code: int
) -> None:
    with pytest.raises(SystemExit) as ending:
        hooking.exit_hook("it is broken", *arguments)
    assert ending.value.code == code
    assert capsys.readouterr() == ("", "it is broken\n")


def test_exec_cmd_returns_lines() -> None:
    code = "import sys; print('a\\nb'); print('c', file=sys.stderr); sys.exit(3)"
    assert hooking.execCmd([sys.executable, "-c", code]) == (3, [b"a", b"b"], [b"c"])


def test_exec_cmd_returns_what_came_when_raw() -> None:
    assert hooking.execCmd(["printf", "a\\nb"], raw=True) == (0, b"a\nb", b"")


def test_exec_cmd_takes_any_iterable_of_words() -> None:
    words = (word for word in ("echo", "$HOME;id"))
    assert hooking.execCmd(words) == (0, [b"$HOME;id"], [])


def test_exec_cmd_gives_data(tmp_path: Path) -> None:
    assert hooking.execCmd(["cat"], data=b"x\ny")[1] == [b"x", b"y"]


def test_exec_cmd_gives_no_input_without_data() -> None:
    assert hooking.execCmd(["cat"]) == (0, [], [])


def test_exec_cmd_sets_folder_and_environment(tmp_path: Path) -> None:
    code = "import os; print(os.getcwd(), os.environ.get('A'), os.environ.get('HOME'))"
    out = hooking.execCmd(
        [sys.executable, "-c", code], cwd=tmp_path, env={"A": "b"}, raw=True
    )[1]
    assert out.decode().split() == [os.fspath(tmp_path), "b", "None"]


@pytest.mark.parametrize("uid", [36, 0], ids=["vdsm", "root"])
def test_exec_cmd_becomes_root_unless_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid: int
) -> None:
    for name in ("sudo", "id"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho {name} "$@"\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    expected = b"sudo -n id -u" if uid else b"id -u"
    assert hooking.execCmd(["id", "-u"], sudo=True)[1] == [expected]


def test_exec_cmd_puts_root_before_session_and_priorities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "sudo"
    program.write_text('#!/bin/sh\necho sudo "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: 36)
    out = hooking.execCmd(
        ["id"], sudo=True, nice=5, ioclass=2, ioclassdata=7, setsid=True
    )[1]
    assert out == [b"sudo -n setsid nice -n 5 ionice -c 2 -n 7 id"]


def test_exec_cmd_logs_the_printable_command_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    hooking.execCmd(["true", "secret"], printable=["true", "***"])
    assert "true ***" in caplog.text
    assert "secret" not in caplog.text


def test_exec_cmd_raises_when_there_is_no_such_program() -> None:
    with pytest.raises(FileNotFoundError):
        hooking.execCmd(["/no/such/program"])


def test_launch_flags_are_none_at_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKERRY_HOOKS_RUN", os.fspath(tmp_path))
    assert hooking.load_vm_launch_flags_from_file("vm") == 0


def test_launch_flags_are_kept_in_a_file_of_the_vm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKERRY_HOOKS_RUN", os.fspath(tmp_path))
    hooking.dump_vm_launch_flags_to_file("vm", 4)
    hooking.dump_vm_launch_flags_to_file("vm", 1)
    assert (tmp_path / "vm" / "launchflags").read_text() == "1"
    assert hooking.load_vm_launch_flags_from_file("vm") == 1
    assert hooking.load_vm_launch_flags_from_file("other") == 0
