"""Say in the reader's language what commands and their options do."""

import copy
import gettext
import inspect
from typing import TypeVar

import click

from node import translate

C = TypeVar("C", bound=click.Command)


def in_readers_language(command: C) -> C:
    """Return a command, with all below it, whose help and questions are translated.

    What is asked for is the text as it is written, without its indentation. The
    command itself stays as it is.
    """
    catalogue = translate.catalogue()
    if type(catalogue) is gettext.NullTranslations:
        return command
    return _translated(command, catalogue)


def _translated(command: C, catalogue: gettext.NullTranslations) -> C:
    def phrase(text: str | None) -> str | None:
        return catalogue.gettext(inspect.cleandoc(text)) if text else text

    made = copy.copy(command)
    made.help, made.epilog = phrase(command.help), phrase(command.epilog)
    made.short_help = phrase(command.short_help)
    made.params = [copy.copy(each) for each in command.params]
    for each in made.params:
        if isinstance(each, click.Option):
            each.help, each.prompt = phrase(each.help), phrase(each.prompt)
    if isinstance(made, click.Group):
        made.commands = {
            name: _translated(each, catalogue) for name, each in made.commands.items()
        }
    return made
