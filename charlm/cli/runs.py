"""Runs as commands take them: by folder or by their name in checkpoints/, offered by shell completion."""

from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from charlm import checkpoint


class RunPath(click.Path):
    """A run: its folder, or its name in checkpoints/, which becomes the folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:  # noqa: ARG002
        """The folder of the run, or the path as it is if there is none: loading it then says so."""
        return checkpoint.find_run(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The runs in checkpoints/ by name, the newest first, and folders."""
        return [*offered(ctx, param, incomplete), CompletionItem(incomplete, type="dir")]


RUN = RunPath()


def offered(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """The names of the runs in checkpoints/ that begin with what has been typed."""
    return [CompletionItem(path.name) for path in checkpoint.runs() if path.name.startswith(incomplete)]


def offered_with_files(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """For an argument that may also be a text: runs by name, and files."""
    return [*offered(ctx, param, incomplete), CompletionItem(incomplete, type="file")]
