"""Help as people read it: short, complete on request, every option a sentence with its default."""

import re

import click
import pytest
from conftest import Charlm

from charlm.cli import COMMANDS, cli
from charlm.cli.options import GroupedCommand

SHORT = 50  # lines that --help has at most, description included
FEW = 18  # options that it shows at most, those for help included


def command_of(path: tuple[str, ...]) -> click.Command:
    command: click.Command | None = cli
    for name in path:
        assert isinstance(command, click.Group)
        command = command.get_command(click.Context(command), name)
    assert command is not None
    return command


GROUPS = {name: command_of((name,)) for name in COMMANDS}
PATHS = [(name,) for name in COMMANDS] + [
    (name, inner) for name, group in GROUPS.items() if isinstance(group, click.Group) for inner in group.commands
]


def options_of(path: tuple[str, ...]) -> list[click.Option]:
    return [parameter for parameter in command_of(path).params if isinstance(parameter, click.Option)]


def listed(text: str) -> set[str]:
    """The long options that a help page lists."""
    return set(re.findall(r"^ +(?:-\w, )?(--[a-z-]+)", text, re.MULTILINE))


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_help_is_short_and_help_all_leaves_nothing_out(path: tuple[str, ...], charlm: Charlm) -> None:
    page = charlm(*path, "--help").out
    assert len(page.splitlines()) <= SHORT
    assert len(listed(page)) <= FEW
    every = {max(option.opts, key=len) for option in options_of(path)}
    hidden = every - listed(page)
    if not hidden:
        assert "--help-all" not in page
        return
    assert f"There are {len(hidden)} options more" in page
    whole = charlm(*path, "--help-all")
    assert whole.code == 0
    assert listed(whole.out) >= every


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_every_option_is_a_sentence_with_its_default(path: tuple[str, ...]) -> None:
    command = command_of(path)
    context = click.Context(command, info_name=path[-1])
    context.meta["help_all"] = True
    for option in options_of(path):
        record = option.get_help_record(context)
        assert record is not None
        sentence = record[1].split("  [")[0]
        assert re.fullmatch(r"[A-Z].*\.", sentence), record
        if not option.is_flag and not option.required:
            assert "[default: " in record[1], record
        assert "None" not in record[1]
    assert command.help
    assert command.help[0].isupper()


def test_defaults_are_those_of_the_settings(charlm: Charlm) -> None:
    page = " ".join(charlm("train", "--help-all").out.split())
    assert "[default: muon for rnn" not in page  # the first in the table of architectures comes first
    assert "[default: adamw for feedforward, lstm; muon for rnn, gru, transformer]" in page
    assert "[default: relu for feedforward; tanh for rnn; relu2 for transformer]" in page
    assert "[default: chosen on the validation slice, up to 12]" in page


def test_a_command_without_rare_options_has_no_help_all() -> None:
    command = GroupedCommand("small", params=[click.Option(["--one"])])
    assert not any("--help-all" in parameter.opts for parameter in command.get_params(click.Context(command)))
