"""The command line: one file a command, imported only when the command runs, so that `charlm --help` is quick.

Only this package prints and exits. Commands write data to standard output and everything else to standard error.

options  setting_options  text_options  settings   options that commands share
runs  texts  binary       what commands read and write
live  coding  terminal    progress, signals and messages on standard error
tables  glyphs            tables on standard output
architectures  ranking  typeset  outcome  formats   parts of compare, train and info
"""

import importlib
import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import click
from click.shell_completion import CompletionItem
from typing_extensions import override

from charlm import __version__
from charlm.errors import CharlmError
from charlm.memory import ran_out
from charlm.names import READABLE
from charlm.threads import wait_briefly

COMMANDS = {
    "train": "Train a model on a text.",
    "sample": "Continue a prompt with a trained model.",
    "evaluate": "Measure how well runs predict a text.",
    "compare": "Train every architecture on one text; see which predicts it best.",
    "report": "Make an HTML page of trained runs.",
    "mix": "Make one run out of several that predicts better than each.",
    "score": "Show what each character of a text costs a model, and what it expected.",
    "inspect": "Look inside a run: gradients, attention, embeddings, predictions.",
    "compress": "Compress a text with the probabilities of a run.",
    "decompress": "Decompress what compress wrote.",
    "serve": "Serve runs by OpenAI's API, with a playground.",
    "bench": "Measure how fast this machine is with each architecture.",
    "info": "Show what a run is, or list the runs.",
    "export": "Write a run for other programs: KenLM, Hugging Face Transformers.",
    "import": "Make a run out of another program's model.",
    "data": "List and download corpora.",
}
INTERRUPTED = 130


class Interrupted(Exception):  # noqa: N818 - the user's wish, not an error
    """A signal has ended the command at once; `number` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class LazyGroup(click.Group):
    """A group whose commands are `charlm.cli.NAME.command`, each module imported only when its command runs."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"charlm.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    @override
    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        # the commands come from the table, so that nothing is imported; options from click
        names = [CompletionItem(name, help=help) for name, help in COMMANDS.items() if name.startswith(incomplete)]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@click.group(cls=LazyGroup, context_settings=SETTINGS, epilog="Start with:  charlm train FILE")
@click.version_option(__version__, prog_name="charlm")
@click.pass_context
def cli(context: click.Context) -> None:
    """Small language models on your own text.

    N-gram, feed-forward, RNN, GRU, LSTM and Transformer behind one interface.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:  # what torchrun sets
        return
    if os.environ.get("RANK") != "0":  # one of its processes speaks for all
        sys.stdout = sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    if context.invoked_subcommand != "train":
        raise click.UsageError("torchrun is for `charlm train`: no other command shares its work among processes")


class StandardError(io.TextIOWrapper):
    """Standard error whose failures are ignored: its reader gone, its terminal closed, its disk full."""

    @override
    def write(self, text: str) -> int:
        with suppress(OSError):
            super().write(text)
        return len(text)

    @override
    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    wait_briefly()
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the parent process
            setattr(sys, name, Path(os.devnull).open("r" if name == "stdin" else "w", encoding="utf-8"))  # noqa: SIM115
    # a terminal whose encoding lacks a character is no reason to fail
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=READABLE)
    if isinstance(sys.stderr, io.TextIOWrapper):
        encoding = sys.stderr.encoding
        sys.stderr = StandardError(sys.stderr.detach(), encoding, READABLE, line_buffering=True)
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Errors become one or two lines on standard error, not a traceback."""
    try:
        code = cli.main(arguments, prog_name="charlm", standalone_mode=False, color=_color())
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as ending:
        return ending.exit_code
    except click.ClickException as problem:
        return _show(problem)
    except CharlmError as problem:
        return _fail(str(problem), problem.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted", INTERRUPTED)
    except Interrupted as stop:
        return _fail("interrupted", 128 + stop.number)
    except SystemExit:  # how click ends when the reader of a pipe has closed it, which is no error
        return 0
    except (MemoryError, RuntimeError) as problem:
        if not ran_out(problem):
            raise
        return _fail("out of memory; try a shorter text or prompt, fewer texts or beams, or a smaller model", 1)
    except OSError as problem:
        return _fail(f"{problem.filename or 'the system'}: {problem.strerror or problem}", 1)


def _show(problem: click.ClickException) -> int:
    """Print what click says about the arguments; returns the exit code."""
    from charlm.cli.glyphs import sanitized

    message = io.StringIO()
    problem.show(message)
    click.echo(sanitized(message.getvalue()), nl=False, err=True)
    return problem.exit_code


def _fail(message: str, code: int) -> int:
    from charlm.cli.glyphs import sanitized  # messages quote texts and names of files

    click.echo(f"{click.style('error:', fg='red', bold=True)} {sanitized(message)}", err=True, color=_color())
    return code


def _color() -> bool | None:
    """False if NO_COLOR is set (no-color.org), which click ignores; None lets click look at the terminal."""
    return False if os.environ.get("NO_COLOR") else None
