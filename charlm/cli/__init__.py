"""The command line: one file a command, imported only when it is called, so that `charlm --help` is quick.

Only this room prints and exits. Commands write data to standard output and all else to standard error.
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
    "report": "Make one page to look at of trained runs.",
    "mix": "Make one run of several that predicts better than each.",
    "score": "Show what each character of a text costs a model, and what it expected.",
    "inspect": "Look into a run: gradients, attention, embeddings, predictions.",
    "compress": "Compress a text by what a run predicts.",
    "decompress": "Decompress what compress wrote.",
    "serve": "Answer programs that speak OpenAI's API, and show a playground.",
    "bench": "Measure how fast this machine is with each architecture.",
    "info": "Show what a run is, or list the runs there are.",
    "export": "Write a run for other programs: KenLM, Hugging Face Transformers.",
    "import": "Make a run of another program's model.",
    "data": "List and download corpora.",
}
INTERRUPTED = 130


class Interrupted(Exception):  # noqa: N818 - what a user asked for
    """A signal that ended a command at once; `number` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class LazyGroup(click.Group):
    """A group whose commands live in modules of their own, `charlm.cli.NAME`, each as `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """In the order in which one meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the command's module."""
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"charlm.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands from the table, without importing anything; and what else a command has."""
        names = [CompletionItem(name, help=what) for name, what in COMMANDS.items() if name.startswith(incomplete)]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """From the table, without importing anything."""
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
    """Standard error. Its reader may go away, its terminal be closed, its disk be full: the work goes on, unseen."""

    def write(self, text: str) -> int:
        """Write it if that is possible."""
        with suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        """Flush if that is possible."""
        with suppress(OSError):
            super().flush()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    wait_briefly()
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us
            setattr(sys, name, Path(os.devnull).open("r" if name == "stdin" else "w", encoding="utf-8"))  # noqa: SIM115
    how = READABLE  # a narrow terminal encoding is no reason to fail
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=how)
    if isinstance(sys.stderr, io.TextIOWrapper):
        encoding = sys.stderr.encoding
        sys.stderr = StandardError(sys.stderr.detach(), encoding, how, line_buffering=True)
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. Errors become one or two lines on standard error, never a traceback."""
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
    except SystemExit:  # click's answer to a closed pipe: whoever read our output has seen enough
        return 0
    except (MemoryError, RuntimeError) as problem:
        if not ran_out(problem):
            raise
        return _fail("out of memory; try a shorter text or prompt, fewer texts or beams, or a smaller model", 1)
    except OSError as problem:
        return _fail(f"{problem.filename or 'the system'}: {problem.strerror or problem}", 1)


def _show(problem: click.ClickException) -> int:
    """What click has to say of what was typed; the exit code."""
    from charlm.cli.glyphs import harmless

    said = io.StringIO()
    problem.show(said)
    click.echo(harmless(said.getvalue()), nl=False, err=True)
    return problem.exit_code


def _fail(message: str, code: int) -> int:
    from charlm.cli.glyphs import harmless  # what is quoted of a text or a file's name is not to be obeyed

    click.echo(f"{click.style('error:', fg='red', bold=True)} {harmless(message)}", err=True, color=_color())
    return code


def _color() -> bool | None:
    """What click does not ask by itself: none where NO_COLOR says so (no-color.org), else as the terminal is."""
    return False if os.environ.get("NO_COLOR") else None
