"""`skerry-aggregator`: found a fleet once, and look after what was founded."""

import io
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click.testing
import pytest

from aggregator import command, db
from aggregator.access import Access
from aggregator.access.identity import ADMINISTRATOR
from aggregator.access.service import LoginFailed
from aggregator.federation.events import EventLog
from aggregator.fleet import sealing
from node import wire
from node.clock import SystemClock
from node.log import Secret
from node.model.fleet import SealedFleet

PASSWORD = "correct horse battery"


@dataclass(frozen=True, slots=True)
class Ended:
    status: int
    text: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Machine:
    """A machine with a configuration file, and its administrator's shell."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.path = folder / "aggregator.conf"
        self.path.write_text(
            f"[aggregator]\nstate_folder = {self.state}\nrun_folder = {folder}/run\n"
        )

    def run(self, *words: str, typed: str = "") -> Ended:
        runner = click.testing.CliRunner(mix_stderr=False)
        with runner.isolation(input=typed) as (out, err):
            assert isinstance(err, io.BytesIO)
            status: Any = 0
            try:
                command.main(["--config", str(self.path), *words])
            except SystemExit as end:
                status = end.code
            texts = out.getvalue().decode(), err.getvalue().decode()
            return Ended(status or 0, *texts)

    def ok(self, *words: str, typed: str = "") -> Ended:
        ended = self.run(*words, typed=typed)
        assert ended.status == 0, ended.err
        return ended

    def may_log_in(self, password: str) -> bool:
        database = db.Database(db.sqlite_url(self.state / "aggregator.db"))
        clock = SystemClock()
        events = EventLog(database, clock)
        try:
            Access(database, clock, events).login(
                ADMINISTRATOR, Secret(password), "local"
            )
        except LoginFailed:
            return False
        else:
            return True
        finally:
            events.close()
            database.close()

    def sealed(self) -> SealedFleet:
        database = db.Database(db.sqlite_url(self.state / "aggregator.db"))
        record = database.records("setting").get("sealed")
        database.close()
        assert record is not None
        return wire.from_json(SealedFleet, record.body["copy"])


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the state of an aggregator that has founded a fleet; it is copied."""
    machine = Machine(tmp_path_factory.mktemp("founded"))
    machine.ok("init", "--password-stdin", typed=f"{PASSWORD}\n")
    return machine.state


@pytest.fixture
def founded(machine: Machine, fleet: Path) -> Machine:
    shutil.copytree(fleet, machine.state)
    return machine


def test_init_founds_a_fleet_and_says_what_is_next(machine: Machine) -> None:
    ended = machine.ok("init")
    assert "Recovery key (shown now and never again" in ended.text
    assert "Next: skerry-aggregator run" in ended.text
    password = ended.text.split("password ")[1].split("\n")[0]
    assert machine.may_log_in(password)
    assert (machine.state / "initialized").exists()


def test_init_takes_the_password_that_is_given(machine: Machine) -> None:
    told = machine.ok("--json", "init", "--password-stdin", typed=f"{PASSWORD}\n").json
    assert told["password"] is None
    assert machine.may_log_in(PASSWORD)
    assert not machine.may_log_in("another password")


def test_init_prints_the_key_that_opens_the_sealed_copy(machine: Machine) -> None:
    key = machine.ok("--json", "init").json["recovery_key"]
    assert sealing.unseal(Secret(key), machine.sealed())


def test_init_keeps_the_state_to_itself(founded: Machine) -> None:
    assert founded.state.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("typed", ["short\n", "\n", ""], ids=["short", "empty", "none"])
def test_init_refuses_a_weak_password_before_it_founds(
    machine: Machine, typed: str
) -> None:
    ended = machine.run("init", "--password-stdin", typed=typed)
    assert (ended.status, ended.text) == (1, "")
    assert "Choose a password of" in ended.err
    assert not (machine.state / "initialized").exists()
    assert machine.run("status").status == 1
    machine.ok("init")


def test_init_is_refused_twice_and_changes_nothing(founded: Machine) -> None:
    before = founded.ok("--json", "status").json
    ended = founded.run("init")
    assert (ended.status, ended.text) == (1, "")
    assert "belongs to a fleet already" in ended.err
    assert "start from an empty state folder" in ended.err
    assert founded.ok("--json", "status").json == before
    assert founded.may_log_in(PASSWORD)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["status"], id="status"),
        pytest.param(["promote"], id="promote"),
        pytest.param(["recovery-key", "--yes"], id="recovery-key"),
    ],
)
def test_command_says_when_nothing_was_founded(
    machine: Machine, words: list[str]
) -> None:
    ended = machine.run(*words)
    assert (ended.status, ended.text) == (1, "")
    assert "skerry-aggregator init" in ended.err


def test_status_shows_who_we_are(founded: Machine) -> None:
    told = founded.ok("--json", "status").json
    assert (told["term"], told["is_leading"]) == (1, True)
    text = founded.ok("status").text
    assert f"leads fleet {told['fleet_id']}, term 1." in text
    assert told["ca_fingerprint"][:4] in text


def test_promote_raises_the_term(founded: Machine) -> None:
    assert founded.ok("promote").text == "This aggregator leads with term 2.\n"
    assert founded.ok("--json", "promote").json == {"term": 3}
    assert founded.ok("--json", "status").json["term"] == 3


def test_recovery_key_is_made_anew(founded: Machine) -> None:
    key = founded.ok("recovery-key", "--yes").text.strip()
    again = founded.ok("--json", "recovery-key", "--yes").json["recovery_key"]
    assert key != again
    assert sealing.unseal(Secret(again), founded.sealed())
    with pytest.raises(sealing.SealRefused):
        sealing.unseal(Secret(key), founded.sealed())


def test_recovery_key_asks_first(founded: Machine) -> None:
    before = founded.sealed()
    assert founded.run("recovery-key", typed="n\n").status == 1
    assert founded.sealed() == before


def test_password_ends_the_old_one(founded: Machine) -> None:
    founded.ok("password", "--password-stdin", typed="another password\n")
    assert founded.may_log_in("another password")
    assert not founded.may_log_in(PASSWORD)


def test_password_of_nobody_is_refused(founded: Machine) -> None:
    ended = founded.run("password", "nobody@internal")
    assert ended.status == 1
    assert "no user nobody@internal" in ended.err


def test_password_that_is_weak_changes_nothing(founded: Machine) -> None:
    assert founded.run("password", "--password-stdin", typed="x\n").status == 1
    assert founded.may_log_in(PASSWORD)


def test_options_are_listed(machine: Machine) -> None:
    assert "https_port" in machine.ok("options").text
    listed = machine.ok("--json", "options").json["options"]
    assert listed[0] == {
        "name": "name",
        "type": "str",
        "unit": "text",
        "default": "",
        "needs_restart": True,
        "consequence": "empty: the host name",
    }


def test_emulation_is_allowed_until_it_is_refused(founded: Machine) -> None:
    assert founded.ok("--json", "emulation").json == {"allows_emulation": True}
    assert "with KVM only" in founded.ok("emulation", "refused").text
    assert founded.ok("--json", "emulation").json == {"allows_emulation": False}
    founded.ok("emulation", "allowed")
    assert founded.ok("--json", "emulation").json == {"allows_emulation": True}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("[aggregator]\nhttps_port = x\n", id="no-number"),
        pytest.param("[aggregator]\ncolour = red\n", id="unknown"),
        pytest.param("https_port = 1\n", id="no-section"),
    ],
)
def test_wrong_configuration_is_an_error_with_a_remedy(
    machine: Machine, text: str
) -> None:
    machine.path.write_text(text)
    ended = machine.run("status")
    assert ended.status == 1
    assert "Correct the option in the configuration file" in ended.err


def test_restart_finds_no_aggregator_that_does_not_run(machine: Machine) -> None:
    context = command.Context(machine.path, is_json=False)
    assert not context.restart()
    run = machine.folder / "run"
    run.mkdir()
    (run / "aggregator.pid").write_text("no number")
    assert not context.restart()
