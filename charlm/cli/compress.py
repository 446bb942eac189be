"""`charlm compress`: compress a text with the probabilities of a run."""

import json
from pathlib import Path
from typing import Any

import click

from charlm import checkpoint
from charlm.cli.binary import STANDARD, check_output, input_name, is_terminal, output_name, read_binary, write_binary
from charlm.cli.coding import coding_view
from charlm.cli.live import stop_on_signal
from charlm.cli.options import GroupedCommand, force_option, json_option, option, output_option, refuse
from charlm.cli.runs import RUN
from charlm.cli.setting_options import given, settings_options
from charlm.cli.terminal import print_message
from charlm.compression import Compressed, CompressionConfig, Content, compress, files_of
from charlm.compression.portable import BACKEND as INTEGER
from charlm.errors import UsageError
from charlm.evaluation import token_bits
from charlm.models import adapted
from charlm.progress import duration

SUFFIX = ".clm"


@click.command("compress", cls=GroupedCommand)
@click.argument("file", type=click.Path(path_type=Path))
@option("--run", type=RUN, help="The run whose model predicts the text.  [default: the newest]")
@output_option(f"The file, - for standard output.  [default: FILE{SUFFIX}; - for standard input]")
@option("--embed", is_flag=True, help="Put the run into the file, which then needs nothing else to be decompressed.")
@force_option("Replace the file.")
@settings_options("Options", {"compress": CompressionConfig})
@json_option()
def command(
    file: Path, run: Path | None, output: Path | None, embed: bool, force: bool, as_json: bool, **values: Any
) -> None:
    """Compress FILE (- for standard input), any text or bytes, with the probabilities of a run's model.

    Every token takes -log2 of its probability in bits, so the size of the file is what `charlm evaluate` reports. The
    file is decoded and compared before it is kept. Decompressing it needs the same run, the same kind of processor and
    the same versions, and says what differs. FILE itself stays.
    """
    config = CompressionConfig(**given(values, CompressionConfig))
    if config.backend == INTEGER:
        refuse({"threads"}, f"has no effect with --backend {INTEGER}")
    path = output or Path(STANDARD if str(file) == STANDARD else f"{file}{SUFFIX}")
    if str(path) == STANDARD:
        _check_standard_output(as_json=as_json)
    check_output(path, file, force=force)
    loaded = checkpoint.load(run or checkpoint.newest())
    with stop_on_signal(), coding_view(input_name(file)) as view:
        content = Content.of_bytes(read_binary(file), loaded.tokenizer)
        compressed = compress(
            loaded.model,
            loaded.tokenizer,
            content,
            config,
            run=loaded.name,
            weights=loaded.weights,
            files=files_of(loaded.model, loaded.tokenizer) if embed else None,
            on_progress=view,
        )
        one_stream_bits = _bits_of_one_stream(compressed, loaded, content)
        write_binary(path, compressed.content)
    if as_json:
        click.echo(json.dumps(_as_json(compressed, path, loaded, one_stream_bits, verified=config.verify)))
    for line in _sentences(compressed, path, one_stream_bits, verified=config.verify):
        print_message(line, "green")


def _check_standard_output(*, as_json: bool) -> None:
    """Raises UsageError for options that do not go with a file on standard output, and for a terminal there."""
    if as_json:
        raise UsageError("--json and -o - both want standard output: name a file")
    refuse({"force"}, "replaces a file, and the file goes to standard output")
    if is_terminal():
        raise UsageError("a terminal shows no compressed file: name a file with --output, or pipe it on")


def _bits_of_one_stream(compressed: Compressed, run: checkpoint.Run, content: Content) -> float:
    """The bits of the text if it were not cut into blocks, from the probabilities alone."""
    if len(compressed.container.blocks) <= 1:
        return compressed.bits
    model = adapted(run.model, compressed.container.header.adapt)
    return float(sum(bits.sum() for bits in token_bits(model, content.ids)))


def _as_json(
    compressed: Compressed, path: Path, run: checkpoint.Run, one_stream_bits: float, *, verified: bool
) -> dict[str, Any]:
    header = compressed.container.header
    return {
        "file": str(path),
        "run": str(run.path),
        "bytes": header.bytes,
        "characters": header.characters,
        "tokens": header.tokens,
        "adapt": header.adapt,
        "file_bytes": len(compressed.content),
        "stored_bits": compressed.stored_bits,
        "header_bits": compressed.header_bits,
        "embedded_bits": compressed.embedded_bits,
        "predicted_bits": compressed.bits,
        "predicted_bits_in_one_stream": one_stream_bits,
        "streams": len(header.blocks),
        "threads": header.threads,
        "backend": header.backend,
        "verified": verified,
        "seconds": compressed.seconds,
    }


def _sentences(compressed: Compressed, path: Path, one_stream_bits: float, *, verified: bool) -> list[str]:
    """Sizes, speed and the cost of blocks, a sentence each."""
    header, streams = compressed.container.header, len(compressed.container.blocks)
    units, unit = (header.bytes, "byte") if header.characters is None else (header.characters, "character")
    embedded = f", {compressed.embedded_bits // 8:,} of them the run" if compressed.embedded_bits else ""
    lines = [
        f"{output_name(path)}: {header.bytes:,} bytes in {len(compressed.content):,} "
        f"({compressed.header_bits // 8:,} of them the header{embedded}), in {duration(compressed.seconds)}, "
        f"{units / max(compressed.seconds, 1e-9):,.0f} {unit}s/s; {'verified' if verified else 'not verified'}"
    ]
    if units:
        figure = f"{compressed.stored_bits / units:.4f} bits per {unit} without the header"
        lines.append(f"{figure}; {compressed.stored_bits:,} bits stored, {compressed.bits:,.0f} predicted")
    if streams > 1:
        lines.append(
            f"{streams} streams, each without the context before it, cost {compressed.bits - one_stream_bits:+,.0f} "
            f"bits ({compressed.bits / one_stream_bits - 1:+.2%}); --streams 1 avoids that"
        )
    return lines
