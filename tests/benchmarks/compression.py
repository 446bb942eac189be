"""Held-out texts compressed by runs and by general compressors: bits per character and speed.

    python tests/benchmarks/compression.py RUN [RUN ...] [--streams 1 64] [--speed-only CHARACTERS]

The runs are to be trained on the same text; what they held out is compressed, and decompressed, by each of them in one
stream, and in 64. The general compressors get the text that the runs learned from, too, where they can use it: their
figure is compressed(training + held out) - compressed(training), beside that of the held-out text alone. zstd and
brotli want `pip install zstandard brotli`, zpaq its program on the PATH; those that are missing are left out.
"""

import argparse
import bz2
import lzma
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from charlm import checkpoint
from charlm.compression import CompressionConfig, Container, Content, compress, decompress
from charlm.corpus import Split, reopen
from charlm.evaluation import evaluate

Compressor = Callable[[bytes], int]


def general() -> Iterator[tuple[str, Compressor]]:
    """The compressors that are here: name, and the size that they make of some bytes."""
    yield "bzip2 -9", lambda data: len(bz2.compress(data, 9))
    yield "xz -9e", lambda data: len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))
    with suppress(ImportError):
        import zstandard

        yield "zstd -19", lambda data: len(_zstd(zstandard, data))
    with suppress(ImportError):
        import brotli

        yield "brotli -11", lambda data: len(brotli.compress(data, quality=11, lgwin=24))
    if shutil.which("zpaq"):
        yield "zpaq -m5", _zpaq


def _zstd(zstandard, data: bytes) -> bytes:  # type: ignore[no-untyped-def]
    parameters = zstandard.ZstdCompressionParameters.from_level(19, window_log=27, enable_ldm=True)
    return zstandard.ZstdCompressor(compression_params=parameters).compress(data)  # type: ignore[no-any-return]


def _zpaq(data: bytes) -> int:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "text").write_bytes(data)
        subprocess.run(["zpaq", "a", "x.zpaq", "text", "-m5"], cwd=folder, check=True, capture_output=True)
        return (Path(folder) / "x.zpaq").stat().st_size


def tell_general(split: Split) -> None:
    """A line for each compressor."""
    training, held_out = (part.read().encode() for part in (split.training, split.held_out))
    for name, size in general():
        begun = time.perf_counter()
        alone = size(held_out)
        seconds = time.perf_counter() - begun
        after = size(training + held_out) - size(training)
        figures = (8 * bytes_ / split.held_out.characters for bytes_ in (alone, after))
        print("{}: {:.3f} bits per character, {:.3f} after the training text".format(name, *figures), end="")
        print(f", {split.held_out.characters / seconds:,.0f} characters/s", flush=True)


def tell_run(path: Path, split: Split, streams: list[int], speed_only: int | None) -> None:
    """A line for each number of streams; of the whole text, or for speed only of its beginning."""
    run, text = checkpoint.load(path), split.held_out
    if speed_only:
        text = text.slice(0, speed_only)
    claimed = evaluate(run.model, run.tokenizer, text)
    content = Content.of_bytes(text.read().encode(), run.tokenizer)
    for number in streams:
        made = compress(run.model, run.tokenizer, content, CompressionConfig(streams=number, verify=False))
        begun = time.perf_counter()
        back = decompress(Container.from_bytes(made.content, path.name), run.model, run.tokenizer)
        seconds = time.perf_counter() - begun
        assert back == text.read().encode()
        print(
            f"{path.name}, {number} streams, {made.container.header.backend}: claimed {claimed.bits_per_character:.4f} "
            f"bits per character, stored {made.stored_bits / text.characters:.4f} "
            f"({made.stored_bits / claimed.bits:.5f} times), header {made.header_bits // 8} bytes; characters/s: "
            f"compressing {text.characters / made.seconds:,.0f}, decompressing {text.characters / seconds:,.0f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=checkpoint.find_run)
    parser.add_argument("--streams", nargs="+", type=int, default=[1, 64])
    parser.add_argument("--speed-only", type=int, metavar="CHARACTERS")
    arguments = parser.parse_args()
    split = reopen(checkpoint.read_history(arguments.runs[0]).corpus, "train the runs again").split
    print(f"{split.held_out.name}: {split.held_out.characters:,} characters held out")
    if not arguments.speed_only:
        tell_general(split)
    for path in arguments.runs:
        tell_run(path, split, arguments.streams, arguments.speed_only)


if __name__ == "__main__":
    main()
