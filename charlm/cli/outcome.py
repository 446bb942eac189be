"""What `charlm train` prints when a run has ended: how it ended, its figure, and what to do next."""

import json
import signal
from typing import Any

import click

from charlm import checkpoint
from charlm.cli.spelling import spelled
from charlm.cli.terminal import print_message
from charlm.corpus import Text
from charlm.names import quoted_word, shell_quoted
from charlm.progress import duration
from charlm.training import Trained, with_units

MAX_PROMPT = 12  # characters of the prompt that is suggested
PROMPT_SOURCE = 2000  # characters of the text in which a prompt is looked for


def show_outcome(trained: Trained, text: Text, as_json: bool, signalled: int, *, quiet: bool = False) -> int:
    """Print how a run ended, its latest figure and what to do next; returns the exit code.

    With `quiet`, prints nothing about a run that finished.
    """
    card = checkpoint.read_card(trained.path)
    result = checkpoint.result_of(trained.path, card)
    if as_json:
        click.echo(json.dumps(_to_json(trained, card, result)))
    if trained.warning:
        print_message(spelled(trained.warning), "red")
    if not trained.finished:
        print_message(f"stopped and saved after {duration(trained.seconds)}; go on with", "yellow")
        print_message(f"  charlm train --resume {shell_quoted(trained.path)}")
        return 128 + (signalled or signal.SIGTERM)  # another process received it
    if quiet:
        return 0
    size = f"{trained.model.parameters_count:,} {trained.model.parameters_are}"
    print_message(f"{trained.path}: {size}, trained in {duration(trained.seconds)}", "green")
    if result:
        print_message(str(result), "green")
    name, prompt = shell_quoted(trained.path), example_prompt(text)
    suggested = f" --prompt {prompt}" if prompt else ""
    print_message(f"Now try\n  charlm evaluate {name}\n  charlm sample {name}{suggested}")
    return 0


def _to_json(trained: Trained, card: checkpoint.Card, result: checkpoint.Result | None) -> dict[str, Any]:
    return {
        "run": str(trained.path),
        "parameters": trained.model.parameters_count,
        "seconds": trained.seconds,
        "finished": trained.finished,
        "result": result and result.to_json(),
        "progress": with_units(card.history.progress or {}),
    }


def example_prompt(text: Text) -> str:
    """The first few words of a text, quoted for the shell, to be continued; "" if none of its lines can be typed."""
    lines = (line.strip() for line in text.slice(0, PROMPT_SOURCE).read().splitlines())
    typable = (line for line in lines if line and line[:MAX_PROMPT].isprintable() and not line.startswith("-"))
    line = next(typable, "")
    words, space, _ = line[: MAX_PROMPT + 1].rpartition(" ")
    return quoted_word(words + space or line[:MAX_PROMPT]) if line else ""
