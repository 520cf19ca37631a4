"""The README shows only commands and options that exist."""

import re
from pathlib import Path

import click
import pytest

from maint.cli import COMMANDS, cli

_README = Path(__file__).parents[2] / "README.md"

#: of other words in the same code spans and blocks
_COMMAND = re.compile(r"(?:^|[`(·&]|&& )\s*maint ([a-z][^`#\n|]*)", re.MULTILINE)


def shown() -> list[str]:
    """Return every command line of maint in the README."""
    return sorted({line.strip() for line in _COMMAND.findall(_README.read_text()) if line.split()[0] in COMMANDS})


def test_readme_shows_commands() -> None:
    assert len(shown()) > 15


def test_every_command_is_in_the_readme() -> None:
    missing = [name for name in COMMANDS if not any(line.split()[0] == name for line in shown())]
    assert missing == []


@pytest.mark.parametrize("line", shown())
def test_command_and_options_exist(line: str) -> None:
    command: click.Command = cli
    context = click.Context(cli)
    words = line.split()
    while words and isinstance(command, click.Group) and (found := command.get_command(context, words[0])):
        command, words = found, words[1:]
    assert command is not cli
    options = {name for parameter in command.params for name in parameter.opts}
    used = {word.split("=")[0] for word in words if word.startswith("--")}
    assert used <= options | {"--help"}, f"maint {line}"
