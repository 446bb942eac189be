"""Runs as commands take and save them: by folder or by name in checkpoints/, which shell completion offers."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem
from typing_extensions import override

from charlm import checkpoint
from charlm.models import LanguageModel
from charlm.tokenizers import Tokenizer


class RunPath(click.Path):
    """The folder of a run, or its name in checkpoints/, which is converted to the folder."""

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        # a path without a run is returned as it is: loading it raises an error that says so
        return checkpoint.find_run(value)

    @override
    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [*complete_runs(ctx, param, incomplete), CompletionItem(incomplete, type="dir")]


RUN = RunPath()


def complete_runs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """The names of the runs in checkpoints/ that begin with what has been typed."""
    return [CompletionItem(path.name) for path in checkpoint.runs() if path.name.startswith(incomplete)]


def complete_runs_and_files(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The same and files, for an argument that may also be a text."""
    return [*complete_runs(ctx, param, incomplete), CompletionItem(incomplete, type="file")]


def save_run(
    path: Path, architecture: str, model: LanguageModel, tokenizer: Tokenizer, history: checkpoint.History
) -> None:
    """Save a model that was mixed or imported, rather than trained by steps, as a run."""
    with checkpoint.locked(path):
        checkpoint.save(path, architecture, model, tokenizer, history)
        checkpoint.keep_metrics(path, 0)  # removes those of a run that this one replaces


@contextmanager
def removed_if_empty(path: Path) -> Iterator[None]:
    """Remove the folder of a new run afterwards if a failure has left it empty."""
    try:
        yield
    finally:
        with suppress(OSError):
            path.rmdir()
