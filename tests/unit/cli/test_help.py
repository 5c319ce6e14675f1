"""Every command's help shows its examples as something to copy."""

from collections.abc import Iterator

import pytest
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from segexport.cli.app import app


def helps(group: object, *path: str) -> Iterator[tuple[str, str]]:
    """Each command, as it is called, and its help as it was written."""
    assert isinstance(group, TyperGroup)
    for name, command in group.commands.items():
        if isinstance(command, TyperCommand):
            yield " ".join((*path, name)), command.help or ""
        else:
            yield from helps(command, *path, name)


HELPS = dict(helps(get_command(app)))


@pytest.mark.parametrize("command", HELPS)
def test_examples_are_set_off_from_the_words_around_them(command: str) -> None:
    lines = HELPS[command].splitlines()
    examples = [line for line in lines if line.startswith(("    ", "segexport "))]
    shown = CliRunner().invoke(app, [*command.split(), "--help"]).output.splitlines()
    set_off = [line.split()[:3] for line in shown if line.startswith("  ")]
    assert [one for one in examples if one.split()[:3] not in set_off] == []
