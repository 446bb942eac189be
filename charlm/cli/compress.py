"""`charlm compress`: a text into a file, by the probabilities of a run."""

import json
from pathlib import Path
from typing import Any

import click

from charlm import checkpoint
from charlm.cli.binary import STANDARD, check_output, is_terminal, named, read_binary, write_binary
from charlm.cli.coding import coding_view
from charlm.cli.live import errors, stop_on_signal
from charlm.cli.options import GroupedCommand, given, option, refuse, settings_options
from charlm.cli.runs import RUN
from charlm.compression import Compressed, CompressionConfig, Content, compress, files_of
from charlm.compression.portable import BACKEND as INTEGER
from charlm.errors import UsageError
from charlm.evaluation import token_bits
from charlm.progress import duration

SUFFIX = ".clm"


@click.command("compress", cls=GroupedCommand)
@click.argument("file", type=click.Path(path_type=Path))
@option("--run", type=RUN, help="The run whose model predicts the text.  [default: the newest]")
@option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    help=f"The file, - for standard output.  [default: FILE{SUFFIX}; - for standard input]",
)
@option("--embed", is_flag=True, help="Put the run into the file, which then needs nothing else to be decompressed.")
@option("--force", is_flag=True, help="Replace the file.")
@settings_options("Options", {"compress": CompressionConfig})
@option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def command(
    file: Path, run: Path | None, output: Path | None, embed: bool, force: bool, as_json: bool, **values: Any
) -> None:
    """Compress FILE (- for standard input), any text or bytes, by what a run's model predicts.

    Every token takes -log2 of its probability in bits, so what a file takes is what `charlm evaluate` says. The file is
    decoded before it is kept. It can be decompressed with the same run, on the same kind of processor and with the same
    versions only, and says so where they differ. FILE itself stays.
    """
    config = CompressionConfig(**given(values, CompressionConfig))
    if config.backend == INTEGER:
        refuse({"threads"}, f"has no effect with --backend {INTEGER}")
    path = output or Path(STANDARD if str(file) == STANDARD else f"{file}{SUFFIX}")
    if str(path) == STANDARD:
        _check_standard_output(as_json=as_json)
    check_output(path, file, force=force)
    loaded = checkpoint.load(run or checkpoint.newest())
    with stop_on_signal(), coding_view(named(file)) as view:
        content = Content.of_bytes(read_binary(file), loaded.tokenizer)
        made = compress(
            loaded.model,
            loaded.tokenizer,
            content,
            config,
            run=loaded.name,
            weights=loaded.weights,
            files=files_of(loaded.model, loaded.tokenizer) if embed else None,
            on_progress=view,
        )
        whole = _bits_of_one_stream(made, loaded, content)
        write_binary(path, made.content)
    if as_json:
        click.echo(json.dumps(_as_json(made, path, loaded, whole, verified=config.verify)))
    for line in _told(made, path, whole, verified=config.verify):
        errors.print(line, style="green", soft_wrap=True)


def _check_standard_output(*, as_json: bool) -> None:
    """Raises UsageError for what cannot go with a file on standard output, or onto a terminal."""
    if as_json:
        raise UsageError("--json and -o - both want standard output: name a file")
    refuse({"force"}, "replaces a file, and the file goes to standard output")
    if is_terminal():
        raise UsageError("a terminal shows no compressed file: name a file with --output, or pipe it on")


def _bits_of_one_stream(made: Compressed, run: checkpoint.Run, content: Content) -> float:
    """What the text takes where it is not cut into blocks, by the probabilities alone."""
    if len(made.container.blocks) <= 1:
        return made.bits
    return float(sum(bits.sum() for bits in token_bits(run.model, content.ids)))


def _as_json(made: Compressed, path: Path, run: checkpoint.Run, whole: float, *, verified: bool) -> dict[str, Any]:
    header = made.container.header
    return {
        "file": str(path),
        "run": str(run.path),
        "bytes": header.bytes,
        "characters": header.characters,
        "tokens": header.tokens,
        "adapt": header.adapt,
        "file_bytes": len(made.content),
        "stored_bits": made.stored_bits,
        "header_bits": made.header_bits,
        "embedded_bits": made.embedded_bits,
        "predicted_bits": made.bits,
        "predicted_bits_in_one_stream": whole,
        "streams": len(header.blocks),
        "threads": header.threads,
        "backend": header.backend,
        "verified": verified,
        "seconds": made.seconds,
    }


def _told(made: Compressed, path: Path, whole: float, *, verified: bool) -> list[str]:
    """What came of it, in sentences."""
    header, streams = made.container.header, len(made.container.blocks)
    units, unit = (header.bytes, "byte") if header.characters is None else (header.characters, "character")
    embedded = f", {made.embedded_bits // 8:,} of them the run" if made.embedded_bits else ""
    lines = [
        f"{named_output(path)}: {header.bytes:,} bytes in {len(made.content):,} "
        f"({made.header_bits // 8:,} of them the header{embedded}), in {duration(made.seconds)}, "
        f"{units / max(made.seconds, 1e-9):,.0f} {unit}s/s; {'verified' if verified else 'not verified'}"
    ]
    if units:
        figure = f"{made.stored_bits / units:.4f} bits per {unit} without the header"
        lines.append(f"{figure}; {made.stored_bits:,} bits stored, {made.bits:,.0f} predicted")
    if streams > 1:
        lines.append(
            f"{streams} streams without the context before them cost {made.bits - whole:+,.0f} bits "
            f"({made.bits / whole - 1:+.2%}); --streams 1 does without"
        )
    return lines


def named_output(path: Path) -> str:
    """The file that was written, in a message."""
    return "standard output" if str(path) == STANDARD else str(path)
