"""Texts in the reader's language, if there is a catalogue of it."""

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import click.testing
import pytest

from aggregator import command
from aggregator.cli import main
from node import cli, translate
from node.cli import render
from node.commands import terminal, wording
from node.model.event import Event
from node.model.ids import NodeId
from node.model.reason import Reason

_GERMAN = {
    "": "Content-Type: text/plain; charset=UTF-8\n",
    "VM {name} runs on {node}.": "VM {name} läuft auf {node}.",
    "Start it again.": "Starten Sie sie wieder.",
    "Look after things.": "Sich um Dinge kümmern.",
    "Go away.\n\nStay there.": "Fortgehen und bleiben.",
    "Go far.": "Weit gehen.",
    "Go?": "Gehen?",
    "Print JSON.": "Als JSON.",
}
_FIELDS = {"name": "web", "node": "oak"}


def _catalogue(texts: dict[str, str]) -> bytes:
    """Return a catalogue as msgfmt makes it; source: gettext's manual, MO files."""
    pairs = sorted((key.encode(), value.encode()) for key, value in texts.items())
    start = 28 + 16 * len(pairs)
    tables, data = [b"", b""], b""
    for column in (0, 1):
        for pair in pairs:
            tables[column] += struct.pack("<II", len(pair[column]), start + len(data))
            data += pair[column] + b"\0"
    head = (0x950412DE, 0, len(pairs), 28, 28 + 8 * len(pairs), 0, 0)
    return struct.pack("<7I", *head) + b"".join(tables) + data


@pytest.fixture
def german(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = tmp_path / "de" / "LC_MESSAGES"
    folder.mkdir(parents=True)
    (folder / "skerry.mo").write_bytes(_catalogue(_GERMAN))
    monkeypatch.setattr(translate, "FOLDER", tmp_path)
    monkeypatch.setenv("LANGUAGE", "de")
    translate.catalogue.cache_clear()
    yield
    translate.catalogue.cache_clear()


def test_text_is_english_without_a_catalogue() -> None:
    assert translate.text("vm_started", _FIELDS) == "VM web runs on oak."


@pytest.mark.usefixtures("german")
def test_text_is_in_the_readers_language() -> None:
    assert translate.text("vm_started", _FIELDS) == "VM web läuft auf oak."
    assert translate.remedy("vm_lost_with_host", {}) == "Starten Sie sie wieder."


@pytest.mark.usefixtures("german")
def test_text_is_english_when_the_catalogue_lacks_it() -> None:
    assert translate.text("vm_paused", _FIELDS) == "VM web was paused."


@pytest.mark.usefixtures("german")
def test_terminal_shows_translated_texts() -> None:
    event = Event(NodeId("n"), "boot", 1, "now", "vm_started", _FIELDS)
    assert render.event(event) == "now VM web läuft auf oak."
    lost = Reason("vm_lost_with_host", "then", _FIELDS)
    assert terminal.causes(lost)[-1] == "→ Starten Sie sie wieder."


@click.group()
def bare() -> None:
    """Look after things."""


@bare.command()
@click.option("--far", is_flag=True, help="Go far.")
@click.confirmation_option(prompt="Go?")
def go(far: bool) -> None:
    """Go away.

    Stay there.
    """


def said(command: click.Command, *words: str) -> str:
    runner = click.testing.CliRunner()
    return runner.invoke(wording.in_readers_language(command), words, "n\n").output


@pytest.mark.usefixtures("german")
def test_help_is_in_the_readers_language() -> None:
    assert "Sich um Dinge kümmern." in said(bare, "--help")
    shown = said(bare, "go", "--help")
    assert "Fortgehen und bleiben." in shown
    assert "Weit gehen." in shown
    assert said(bare, "go").startswith("Gehen? [")


def test_help_is_as_it_is_written_without_a_catalogue() -> None:
    assert "Look after things." in said(bare, "--help")
    assert wording.in_readers_language(bare) is bare


@pytest.mark.usefixtures("german")
@pytest.mark.parametrize("run", [cli.main, main.main, command.main])
def test_command_lines_help_in_the_readers_language(
    run: Callable[[list[str]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run(["--help"])
    assert "Als JSON." in capsys.readouterr().out
