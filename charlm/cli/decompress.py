"""`charlm decompress`: decompress what `charlm compress` wrote."""

import json
import time
from pathlib import Path

import click

from charlm import checkpoint
from charlm.cli.binary import STANDARD, check_output, input_name, output_name, read_binary, write_binary
from charlm.cli.coding import coding_view
from charlm.cli.compress import SUFFIX
from charlm.cli.live import stop_on_signal
from charlm.cli.options import GroupedCommand, force_option, json_option, option, output_option
from charlm.cli.runs import RUN
from charlm.cli.terminal import print_message
from charlm.compression import Container, decompress, embedded_run, find_run
from charlm.errors import UsageError
from charlm.progress import duration


@click.command("decompress", cls=GroupedCommand)
@click.argument("file", type=click.Path(path_type=Path))
@option(
    "--run",
    type=RUN,
    help="The run that FILE was compressed with.  [default: the one in FILE, or in checkpoints/ with these weights]",
)
@output_option(f"The file, - for standard output.  [default: FILE without {SUFFIX}; - for standard input]")
@force_option("Replace the file; and try even if model, versions or processor differ: the checksum decides.")
@json_option()
def command(file: Path, run: Path | None, output: Path | None, force: bool, as_json: bool) -> None:
    """Decompress FILE (- for standard input), which `charlm compress` wrote.

    It computes as FILE says it was compressed, with the same number of threads, and writes nothing unless the SHA-256
    of the result is that of the original.
    """
    path = output or _default_output(file)
    if str(path) == STANDARD and as_json:
        raise UsageError("--json and -o - both want standard output: name a file")
    check_output(path, file, force=force)
    name, content = input_name(file), bytes(read_binary(file))
    container, begun = Container.from_bytes(content, name), time.monotonic()
    if run is None and container.files:
        loaded = embedded_run(container, name)
    else:
        loaded = checkpoint.load(run or find_run(container.header, name))
    with stop_on_signal(), coding_view(name) as view:
        data = decompress(container, loaded.model, loaded.tokenizer, name, force=force, on_progress=view)
        write_binary(path, data)
    seconds = time.monotonic() - begun
    if as_json:
        click.echo(json.dumps({"file": str(path), "bytes": len(data), "seconds": seconds}))
    print_message(f"{output_name(path)}: {len(data):,} bytes in {duration(seconds)}", "green")


def _default_output(file: Path) -> Path:
    if str(file) == STANDARD:
        return file
    if file.suffix != SUFFIX or file.stem == SUFFIX:
        raise UsageError(f"{file}: does not end in {SUFFIX}, so what to call the text is not known; name it with -o")
    return file.with_suffix("")
