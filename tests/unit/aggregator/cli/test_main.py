"""`skerry` against an aggregator of fakes: each command, as text and as JSON."""

import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from aggregator.api import (
    export_verbs,
    hook_verbs,
    profile_verbs,
    property_verbs,
    register_verbs,
    snapshot_verbs,
    storage_verbs,
    template_verbs,
    transfer_verbs,
)
from aggregator.api.model import NewVm
from aggregator.api.verbs import VERBS
from aggregator.cli import client
from aggregator.cli.client import NotLoggedIn, Session
from aggregator.cli.context import Context
from aggregator.control.orders import Origin
from node import config, wire
from node.commands import terminal
from node.model.ids import CorrelationId, VmId
from node.model.job import ErrorReport
from node.model.vm import Cpu, CpuMode, VmState
from node.units import GiB
from tests.fakes import services as fakes
from tests.unit.aggregator.cli import shell
from tests.unit.aggregator.cli.shell import Desk
from tests.unit.terminal import EVENT_S, following

UNKNOWN = "ffffffff-0000-4000-8000-00000000000f"

# The command that calls each verb. What fails has called it, too.
COMMANDS = {
    "login": "login 127.0.0.1 --port PORT --ca CA",
    "status": "status",
    "node_list": "node list",
    "node_admit": "node admit fir --fingerprint ab",
    "node_remove": "node remove ash --yes",
    "token_make": "node token",
    "vm_list": "vm list",
    "vm_show": "vm show web1",
    "vm_explain": "vm create big --explain",
    "vm_create": "vm create new",
    "vm_start": "vm start web2",
    "vm_stop": "vm stop web1",
    "vm_pause": "vm pause web1",
    "vm_suspend": "vm suspend web1",
    "vm_resume": "vm resume db",
    "vm_reset": "vm reset web1",
    "vm_delete": "vm delete web2 --yes",
    "vm_serial": "vm serial web1",
    "vm_screenshot": "vm screenshot web1 /dev/null",
    "order_list": "orders",
    "event_list": "events",
    "openapi": "openapi",
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """For what only reads."""
    with shell.serve(tmp_path_factory.mktemp("tls")) as made:
        yield made


@pytest.fixture
def reader(served: Desk, session: Path) -> Desk:
    served.log_in()
    return served


@pytest.fixture
def desk(tmp_path: Path, session: Path) -> Iterator[Desk]:
    with shell.serve(tmp_path) as made:
        made.log_in()
        yield made


# --- every verb


def test_command_is_there_for_every_verb() -> None:
    followed = {"order_show"}  # by what waits for the end of an order
    # in storage/test_storage.py
    elsewhere = {verb.name for verb in storage_verbs.VERBS}
    elsewhere |= {"vm_attach_disk", "vm_detach_disk"}
    elsewhere |= {verb.name for verb in register_verbs.VERBS}  # test_newcomers.py
    elsewhere |= {verb.name for verb in export_verbs.VERBS}  # test_exports.py
    elsewhere |= {verb.name for verb in hook_verbs.VERBS}  # test_hooks.py
    elsewhere |= {verb.name for verb in snapshot_verbs.VERBS}  # test_snapshots.py
    elsewhere |= {verb.name for verb in profile_verbs.VERBS}  # test_profiles.py
    elsewhere |= {verb.name for verb in property_verbs.VERBS}  # test_properties.py
    elsewhere |= {verb.name for verb in template_verbs.VERBS}  # test_templates.py
    elsewhere |= {verb.name for verb in transfer_verbs.VERBS}  # test_transfers.py
    named = {verb.name for verb in VERBS}
    assert set(COMMANDS) | followed | elsewhere == named


def test_delete_leaves_disks_only_if_told(desk: Desk) -> None:
    desk.fleet.orders.away.update(desk.fleet.mirror.view.vms)
    assert shell.run("vm", "delete", "web2", "--yes").status == 1
    ended = shell.run("vm", "delete", "web2", "--yes", "--leave-disks")
    assert ended.status == 0, ended.err


@pytest.mark.parametrize("verb", COMMANDS)
def test_command_calls_its_verb(desk: Desk, tmp_path: Path, verb: str) -> None:
    (tmp_path / "ca.pem").write_text(desk.ca)
    given = {"PORT": str(desk.port), "CA": str(tmp_path / "ca.pem")}
    desk.called.clear()
    words = [given.get(word, word) for word in COMMANDS[verb].split()]
    shell.run(*words, typed=f"{fakes.PASSWORD}\n")
    assert verb in desk.called


def test_order_is_asked_for_until_it_ends(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.fleet.orders.is_held = True
    origin = Origin("admin", "192.0.2.9", CorrelationId("c"))
    order = desk.fleet.orders.start_vm(fakes.WEB2, origin)
    connected = client.connect(client.load(client.session_path()))
    begun = connected.order_show(order.order_id)
    desk.called.clear()
    threading.Timer(0.1, desk.fleet.orders.finish, [order.order_id]).start()
    Context(is_json=False).follow(begun)
    assert "order_show" in desk.called
    assert "done 100 %" in capsys.readouterr().err


# --- what reads


@pytest.mark.parametrize(
    ("command", "shown", "field"),
    [
        pytest.param("status", "skerry-test leads fleet", "fleet_id", id="status"),
        pytest.param("node hooks", "50_smbios", "hooks", id="node-hooks"),
        pytest.param("node list", "fir at 192.0.2.4 waits", "nodes", id="node-list"),
        pytest.param("vm list", "web1", "vms", id="vm-list"),
        pytest.param("vm list web2", "web2", "vms", id="vm-search"),
        pytest.param("vm show web1", "10.0.0.11", "entry", id="vm-show"),
        pytest.param(f"vm show {fakes.WEB1}", "web1", "entry", id="vm-show-by-id"),
        pytest.param("vm why web1", "web1 is up, as wanted.", "entry", id="vm-why"),
        pytest.param("vm why old", "because: ", "reason", id="vm-why-not"),
        pytest.param("orders", "ASKED AT", "orders", id="orders"),
        pytest.param(
            "vm create big --explain", "It would go to ", "chosen", id="explain"
        ),
    ],
)
def test_command_shows_text_and_json(
    reader: Desk, command: str, shown: str, field: str
) -> None:
    assert shown in reader.ok(*command.split()).text
    assert field in reader.ok("--json", *command.split()).json


def test_explain_says_when_no_node_takes_it(reader: Desk) -> None:
    words = ["vm", "create", "big", "--memory", "900G", "--explain"]
    assert "No node takes it." in reader.ok(*words).text
    assert reader.ok("--json", *words).json["chosen"] is None


def test_events_are_listed_oldest_first(reader: Desk) -> None:
    text = reader.ok("events").text
    assert text.index("skerry-test") < text.index("ash")
    assert '"code": "vm_started"' in reader.ok("--json", "events").text


def test_openapi_is_printed(reader: Desk) -> None:
    assert "/v1/vms" in reader.ok("openapi").json["paths"]


def test_events_are_followed_until_interrupted(desk: Desk) -> None:
    with following("aggregator.cli.main", "events", "--follow") as process:
        assert process.stdout is not None
        assert any("ash" in line for line in process.stdout)
        desk.ok("vm", "start", "web2")
        assert any("web2" in line for line in process.stdout)
        process.send_signal(signal.SIGINT)
        assert process.wait(EVENT_S) == 1


def test_serial_is_written_as_it_is(reader: Desk) -> None:
    assert reader.ok("vm", "serial", "web1").out == b"skerry login: \r\n"


def test_screenshot_is_saved(reader: Desk, tmp_path: Path) -> None:
    reader.ok("vm", "screenshot", "web1", str(tmp_path / "a.png"))
    assert (tmp_path / "a.png").read_bytes() == fakes.PNG


# --- what changes something


@pytest.mark.parametrize(
    ("act", "state"),
    [
        pytest.param("start web2", VmState.UP, id="start"),
        pytest.param("start web2 --paused", VmState.PAUSED, id="start-paused"),
        pytest.param("stop web1", VmState.DOWN, id="stop"),
        pytest.param("stop web1 --manner force", VmState.DOWN, id="stop-by-force"),
        pytest.param("pause web1", VmState.PAUSED, id="pause"),
        pytest.param("suspend web1", VmState.DOWN, id="suspend"),
        pytest.param("resume db", VmState.UP, id="resume"),
        pytest.param("reset web1", VmState.UP, id="reset"),
    ],
)
def test_act_is_followed_to_its_end(desk: Desk, act: str, state: VmState) -> None:
    ended = desk.ok("vm", *act.split())
    assert "done 100 %" in ended.err
    name = act.split()[1]
    found = [vm for vm in desk.fleet.mirror.view.vms.values() if vm.name == name]
    assert found[0].state is state


def test_act_prints_its_order_as_json(desk: Desk) -> None:
    ended = desk.ok("--json", "vm", "start", "web2")
    assert (ended.json["state"], ended.err) == ("done", "")


def test_create_makes_a_vm_and_starts_it(desk: Desk) -> None:
    words = f"vm create new --memory 1G --cpus 2 --node elm --id {UNKNOWN} --start"
    desk.ok(*words.split())
    made = desk.fleet.mirror.view.vms[VmId(UNKNOWN)]
    assert (made.name, made.node_id, made.vcpus) == ("new", fakes.ELM, 2)
    assert made.state is VmState.UP


def test_create_chooses_the_processor(desk: Desk) -> None:
    words = f"vm create new --id {UNKNOWN} --cpu named:EPYC --cpus 2"
    desk.ok(*words.split())
    made = desk.ok("--json", "vm", "show", "new").json["entry"]["vm"]["spec"]["cpu"]
    assert wire.from_json(Cpu, made) == Cpu(CpuMode.NAMED, "EPYC", cores=2)


def test_create_chooses_the_bus_of_the_disk(desk: Desk) -> None:
    desk.ok(*f"vm create new --id {UNKNOWN} --interface virtio_scsi".split())
    entry = desk.ok("--json", "vm", "show", "new").json["entry"]
    assert entry["vm"]["spec"]["disks"][0]["interface"] == "virtio_scsi"
    assert ", on virtio_scsi" in desk.ok("vm", "show", "new").text


def test_create_and_start_print_one_document(desk: Desk) -> None:
    ended = desk.ok("--json", "vm", "create", "new", "--start")
    assert (ended.json["verb"], ended.json["state"]) == ("vm_start", "done")


def test_create_takes_all_that_the_verb_takes(desk: Desk) -> None:
    cpu = Cpu(CpuMode.NAMED, "EPYC", sockets=2, cores=1, threads=2)
    request = NewVm("whole", vm_id=VmId(UNKNOWN), cpu=cpu, node_id=fakes.ELM)
    typed = wire.encode(request).decode()
    shown = desk.ok("--json", "vm", "create", "--spec", "-", "--explain", typed=typed)
    assert shown.json["chosen"]
    desk.ok("vm", "create", "--spec", "-", "--start", typed=typed)
    made = desk.fleet.mirror.view.vms[VmId(UNKNOWN)]
    assert (made.name, made.node_id, made.vcpus) == ("whole", fakes.ELM, 4)
    assert made.state is VmState.UP


@pytest.mark.parametrize(
    ("words", "said", "status"),
    [
        pytest.param("--spec -", "name is missing", 1, id="incomplete"),
        pytest.param("new --spec -", "leave '[NAME]' out", 2, id="a-name-too"),
        pytest.param("--spec - --node elm", "leave '--node' out", 2, id="a-part-too"),
        pytest.param("", "give NAME, or --spec FILE", 2, id="neither"),
    ],
)
def test_create_takes_either_parts_or_all(
    reader: Desk, words: str, said: str, status: int
) -> None:
    typed = json.dumps({"memory_bytes": GiB})
    ended = shell.run("vm", "create", *words.split(), typed=typed)
    assert (ended.status, ended.out) == (status, b"")
    assert said in ended.err


def test_token_is_told_as_the_node_reads_it(desk: Desk, tmp_path: Path) -> None:
    text = desk.ok("node", "token").text
    file = text[text.index("[node]") : text.index("or as its kernel's arguments")]
    (tmp_path / "node.conf").write_text(file)
    by_file = config.load(tmp_path / "node.conf")
    by_kernel = config.load(tmp_path / "none", text.splitlines()[-1])
    made = desk.ok("--json", "node", "token").json
    assert (by_file.token, by_file.aggregator) == (made["token"], made["aggregator"])
    assert by_kernel == by_file


def test_delete_asks_first(desk: Desk) -> None:
    assert shell.run("vm", "delete", "web2", typed="n\n").status == 1
    assert fakes.WEB2 in desk.fleet.mirror.view.vms
    desk.ok("vm", "delete", "web2", typed="y\n")
    assert fakes.WEB2 not in desk.fleet.mirror.view.vms


def test_failed_order_exits_1_and_says_what_to_do(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.fleet.orders.is_held = True
    origin = Origin("admin", "192.0.2.9", CorrelationId("c"))
    order = desk.fleet.orders.start_vm(fakes.WEB2, origin)
    report = ErrorReport("failed", "c", "it did not start\x1b[2J", "Look at its log.")
    desk.fleet.orders.finish(order.order_id, report)
    connected = client.connect(client.load(client.session_path()))
    context = Context(is_json=False)
    with pytest.raises(SystemExit) as end:
        context.follow(connected.order_show(order.order_id))
    assert end.value.code == 1
    assert "it did not start?[2J\nLook at its log.\n" in capsys.readouterr().err


def test_admit_compares_the_fingerprint_with_what_is_shown(desk: Desk) -> None:
    refused = shell.run("node", "admit", "fir", typed="n\n")
    assert refused.status == 1
    assert "abab abab" in refused.text
    assert "was admitted" in desk.ok("node", "admit", "fir", typed="y\n").text


def test_admit_takes_a_fingerprint_as_a_console_shows_it(desk: Desk) -> None:
    shown = " ".join(["ABAB"] * 16)
    reply = desk.ok("--json", "node", "admit", "fir", "--fingerprint", shown)
    assert reply.json["name"] == "fir"


def test_admit_by_address_needs_a_fingerprint(desk: Desk) -> None:
    ended = shell.run("node", "admit", "192.0.2.77")
    assert ended.status == 1
    assert "--fingerprint" in ended.err


def test_remove_asks_first(desk: Desk) -> None:
    assert shell.run("node", "remove", "ash", typed="n\n").status == 1
    assert "ash was removed." in desk.ok("node", "remove", "ash", "--yes").text


# --- who is called by two names


def test_name_of_two_vms_is_refused(desk: Desk) -> None:
    twin = replace(desk.fleet.mirror.view.vms[fakes.WEB2], name="web1")
    desk.fleet.mirror.put_vm(twin)
    ended = shell.run("vm", "stop", "web1")
    assert ended.status == 1
    assert "Give the id instead of the name." in ended.err
    assert desk.fleet.mirror.view.vms[fakes.WEB1].state is VmState.UP


# --- errors


@pytest.mark.parametrize(
    ("command", "said", "remedy"),
    [
        pytest.param("vm show nobody", "no VM named nobody", "vm list", id="no-vm"),
        pytest.param(f"vm show {UNKNOWN}", "no VM", "vm list", id="no-vm-by-id"),
        pytest.param("vm create web1", "web1 already", "another name", id="taken"),
        pytest.param("vm create a --node x", "no node", "node list", id="no-node"),
        pytest.param("vm create a --id x", "vm_id", "UUIDs", id="no-id"),
        pytest.param("vm create a --image x", "no node has", "node list", id="image"),
        pytest.param("vm delete web1 --yes", "web1 runs", "Stop the VM", id="runs"),
        pytest.param("node remove x --yes", "no node", "node list", id="remove"),
        pytest.param("vm stop web1 --deadline nan", "JSON", "Correct", id="nan"),
        pytest.param("node token --hours nan", "JSON", "Correct", id="token"),
    ],
)
def test_error_exits_1_and_says_what_to_do(
    reader: Desk, command: str, said: str, remedy: str
) -> None:
    ended = shell.run(*command.split())
    assert (ended.status, ended.out) == (1, b"")
    assert said in ended.err
    assert remedy in ended.err


@pytest.mark.parametrize("size", ["x", "-1G", "inf", "1e999"])
def test_create_refuses_what_is_no_size(reader: Desk, size: str) -> None:
    ended = shell.run("vm", "create", "new", f"--memory={size}")
    assert ended.status == 2
    assert "is not a size such as 512M or 8G" in ended.err


# --- logging in


def test_login_keeps_a_session_that_only_its_user_reads(
    served: Desk, session: Path, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text(f"{fakes.PASSWORD}\n")
    (tmp_path / "ca.pem").write_text(served.ca)
    words = ["login", "127.0.0.1", "--port", str(served.port)]
    files = ["--password-file", str(tmp_path / "password")]
    ended = served.ok(*words, *files, "--ca", str(tmp_path / "ca.pem"))
    assert "Logged in as admin@internal until" in ended.text
    assert session.stat().st_mode & 0o077 == 0
    served.ok("status")


def test_login_shows_the_fingerprint_to_compare(served: Desk, session: Path) -> None:
    words = ["login", "127.0.0.1", "--port", str(served.port)]
    ended = shell.run(*words, typed="n\n")
    assert ended.status == 1
    assert terminal.groups(served.ca_fingerprint) in ended.text
    assert not session.exists()
    served.ok(*words, typed=f"y\n{fakes.PASSWORD}\n")
    served.ok("status")


def test_login_with_a_wrong_password_keeps_nothing(served: Desk, session: Path) -> None:
    words = ["login", "127.0.0.1", "--port", str(served.port)]
    ended = shell.run(*words, typed="y\nwrong horse\n")
    assert ended.status == 1
    assert "Check the name and the password." in ended.err
    assert not session.exists()


@pytest.mark.parametrize("address", ["127.0.0.1", "a..b"], ids=["nobody", "no-name"])
def test_login_says_when_nobody_answers(session: Path, address: str) -> None:
    ended = shell.run("login", address, "--port", "1")
    assert ended.status == 1
    assert "cannot be reached" in ended.err
    assert "Check the address" in ended.err


def test_login_refuses_a_certificate_that_is_none(
    session: Path, tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_text("nonsense")
    words = ["login", "127.0.0.1", "--ca", str(tmp_path / "ca.pem")]
    ended = shell.run(*words, typed="p\n")
    assert ended.status == 1
    assert "Give the fleet's CA certificate as PEM" in ended.err


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(None, id="none"),
        pytest.param(b"", id="empty"),
        pytest.param(b"{}", id="incomplete"),
        pytest.param(b"\xff", id="no-text"),
    ],
)
def test_load_asks_for_a_login_without_a_session(
    tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "s").write_bytes(content)
    with pytest.raises(NotLoggedIn):
        client.load(tmp_path / "s")


def test_load_returns_what_was_saved(tmp_path: Path) -> None:
    session = Session("a", 443, "t", "c")
    client.save(tmp_path / "deep" / "s", session)
    assert client.load(tmp_path / "deep" / "s") == session


def test_expired_token_is_told_to_log_in(reader: Desk, session: Path) -> None:
    kept = client.load(session)
    client.save(session, replace(kept, token="0" * 64))
    ended = shell.run("status")
    assert ended.status == 1
    assert "skerry login" in ended.err


# --- completion


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_completion_names_the_command(name: str) -> None:
    assert "_SKERRY_COMPLETE" in shell.run("completion", name).text


def test_completion_is_valid_for_bash() -> None:
    script = shell.run("completion", "bash").out
    subprocess.run(["bash", "-n"], input=script, check=True)


def test_terminal_is_not_commanded_by_what_guests_say() -> None:
    assert terminal.plain("a\x1b[2Jb\x9bc\td\n") == "a?[2Jb?c\td\n"
