"""The library's messages in the words of the command line.

The library names a setting as Python does, between backquotes (see `charlm.errors`); people type an option here:

    `top_k`                            --top-k
    `weight_decay=0.1`                 --weight-decay 0.1
    `join=False`                       --no-join
    `train(TEXT, resume='my run')`     charlm train TEXT --resume 'my run'
"""

import ast
import importlib
import re

import click

from charlm.errors import CharlmError
from charlm.names import shell_quoted

OTHER_NAMES = {"architecture": "--arch"}
"""The options that are spelled otherwise than the settings they set."""

_CODE = re.compile(r"`([a-z]\w*)`|`([a-z]\w*=[^`]+)`|`([a-z]+)\(([^`]*)\)`")


def option_name(setting: str) -> str:
    """The option that sets this: `weight_decay` -> `--weight-decay`."""
    return "--" + setting.replace("_", "-")


class Refused(CharlmError):  # noqa: N818 - what a command says
    """An error as the user of a command reads it."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def spelled(message: str, command: click.Command | None = None) -> str:
    """The message with its settings as options of this command, by default the one that runs.

    A setting that the command lacks keeps its name in Python, and what only looks like code stays as it is.
    """
    if command is None and (context := click.get_current_context(silent=True)):
        command = context.command
    return _CODE.sub(lambda code: _typed(code, command) or code[0], message)


def _typed(code: "re.Match[str]", command: click.Command | None) -> str | None:
    """What a user types for a setting, settings with values, or a call; None for what is none of them."""
    setting, with_value, name, arguments = code.groups()
    if setting:
        return _known_option(setting, command)
    try:
        call = ast.parse(f"_({with_value or arguments})", mode="eval").body
        assert isinstance(call, ast.Call)
        if name:
            command = importlib.import_module(f"charlm.cli.{name}").command
        values = [one for value in call.args for one in (value.elts if isinstance(value, ast.List) else [value])]
        words = [*map(_word, values), *(_with_value(keyword, command) for keyword in call.keywords)]
    except (SyntaxError, ValueError, ImportError):
        return None
    return " ".join(["charlm", name, *words] if name else words)


def _with_value(keyword: ast.keyword, command: click.Command | None) -> str:
    """Raises ValueError for a setting that the command lacks."""
    option = _known_option(keyword.arg or "", command)
    if option is None:
        raise ValueError(f"the command has no {keyword.arg}")
    if isinstance(keyword.value, ast.Constant) and isinstance(keyword.value.value, bool):
        return option if keyword.value.value else f"--no-{option[2:]}"
    return f"{option} {_word(keyword.value)}"


def _word(value: ast.expr) -> str:
    """One word of a command: a name such as FILE as it stands, a value as a shell takes it."""
    if isinstance(value, ast.Name):
        return value.id
    word = str(ast.literal_eval(value))
    return word if word == "-" else shell_quoted(word)


def _known_option(setting: str, command: click.Command | None) -> str | None:
    """The option or argument of a command that sets this."""
    parameters, option = command.params if command else [], OTHER_NAMES.get(setting, option_name(setting))
    if any(option in parameter.opts for parameter in parameters):
        return option
    for parameter in parameters:
        if parameter.name == setting:
            return max(parameter.opts, key=len) if isinstance(parameter, click.Option) else setting.upper()
    return None
