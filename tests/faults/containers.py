"""Compressed files that somebody has tampered with: refused, or the text that was compressed; never another one.

Half of the time all checksums are made right again, as only malice would: then the content itself is met.
"""

import dataclasses
import json
import random
import struct
import warnings
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from charlm.checkpoint import CARD
from charlm.compression import CompressionConfig, Container, Content, compress, decompress, embedded_run, files_of
from charlm.errors import CharlmError
from charlm.models import ARCHITECTURES, LanguageModel
from charlm.tokenizers import TOKENIZERS, Tokenizer
from faults.mutations import WORDS, _edit, _garbled, _in_batches, edited_json, rehearse
from faults.processes import SMALL, Tally

START = struct.Struct("<8sHI")  # as in charlm.compression.container
KINDS = (("ngram", "characters"), ("lstm", "bytes"), ("transformer", "sentencepiece"), ("mixture", "characters"))
TEXTS = (b"", b"x", WORDS.encode() * 2, b"the \xff\x00 cat\xed\xb2\x80\r\n" * 6, "žluť \U0001f600 ".encode() * 8)


class Base(NamedTuple):
    """A compressed file, taken apart, and what it was made of."""

    text: bytes
    model: LanguageModel
    tokenizer: Tokenizer
    container: Container


def bases() -> list[Base]:
    """Texts of several kinds by models of several kinds, in one stream and in three, with and without the run."""
    made = []
    for architecture, name in KINDS:
        kind, tokenizers = ARCHITECTURES[architecture], TOKENIZERS[name]
        tokenizer = tokenizers.train([WORDS], tokenizers.Config(**({"vocab_size": 265} if name[0] == "s" else {})))
        known = kind.Config.names()
        config = kind.Config().changed({n: v // 4 if n == "width" else v for n, v in SMALL.items() if n in known})
        model = kind(config, tokenizer.vocab_size).eval()
        if architecture == "ngram":
            ids = tokenizer.encode(WORDS * 20)
            model.fit(ids[:-99], ids[-99:])
        for number, text in enumerate(TEXTS):
            content = Content.of_bytes(text, tokenizer)
            files = files_of(model, tokenizer) if number % 2 else None
            config = CompressionConfig(streams=1 + 2 * (number % 3 > 0))
            made.append(
                Base(text, model, tokenizer, compress(model, tokenizer, content, config, files=files).container)
            )
    return made


def written(header: Any, blocks: list[bytes], files: dict[str, bytes], *, vouch: bool = True) -> bytes:
    """A file of these parts; with `vouch` every size and checksum is right."""
    if vouch:
        header["blocks"] = [["", len(block), zlib.crc32(block)] for block in blocks]
        header["files"] = [[name, len(data), zlib.crc32(data)] for name, data in files.items()]
    text = json.dumps(header).encode(errors="surrogatepass")
    start = START.pack(b"\x93CLM\r\n\x1a\n", 1, len(text)) + text
    return b"".join([start, struct.pack("<I", zlib.crc32(start)), *blocks, *files.values()])


Parts = tuple[Any, list[bytes], dict[str, bytes]]
Change = Callable[[Parts, random.Random, list[Base]], None]


def edit_header(parts: Parts, rng: random.Random, others: list[Base]) -> None:
    for _ in range(rng.choice([1, 1, 2, 5])):
        _edit(parts[0], rng)


def edit_numbers(parts: Parts, rng: random.Random, others: list[Base]) -> None:
    """Other sizes of the text, threads, backend: plausible ones."""
    header = parts[0]
    name = rng.choice(["tokens", "bytes", "characters", "threads", "backend"])
    if name in ("threads", "backend"):
        header["machine"][name] = rng.choice([1, 2, 3, 1000]) if name == "threads" else rng.choice(["compiled", "x"])
    else:
        header[name] = max(0, (header[name] or 0) + rng.choice([-3, -1, 1, 2, 100, 10**6, 2**40]))


def garble_block(parts: Parts, rng: random.Random, others: list[Base]) -> None:
    at = rng.randrange(len(parts[1]))
    block = _garbled(parts[1][at], rng)
    parts[1][at] = block + b"\0" * (-len(block) % 4)


def swap_blocks(parts: Parts, rng: random.Random, others: list[Base]) -> None:
    rng.shuffle(parts[1])


def lose_block(parts: Parts, rng: random.Random, others: list[Base]) -> None:
    del parts[1][rng.randrange(len(parts[1]))]


def take_others(parts: Parts, rng: random.Random, others: list[Base]) -> None:
    """The blocks, the run or the header's words of another file."""
    other = rng.choice(others).container
    match rng.randrange(3):
        case 0:
            parts[1][:] = other.blocks
        case 1:
            parts[2].clear()
            parts[2].update(other.files)
        case 2:
            name = rng.choice([field.name for field in dataclasses.fields(other.header)])
            parts[0][name] = json.loads(json.dumps(dataclasses.asdict(other.header)))[name]


def garble_run(parts: Parts, rng: random.Random, others: list[Base]) -> None:
    name = rng.choice(sorted(parts[2]))
    content = parts[2][name]
    parts[2][name] = edited_json(content, rng) if name == CARD and rng.random() < 0.7 else _garbled(content, rng)


CHANGES: list[Change] = [edit_header, edit_numbers, garble_block, garble_block, swap_blocks, lose_block, take_others,
                         garble_run]  # fmt: skip


def containers(count: int, folder: Path, seed: int) -> Tally:
    """`count` changed files: refused, or the text."""
    tally, made = Tally("changed compressed files"), bases()
    for base in made:
        rehearse(lambda: _tried(base.container.to_bytes(), base, made, force=False))  # noqa: B023

    def one(number: int, _: Path) -> str:
        rng = random.Random(f"{seed} {number}")
        base = rng.choice(made)
        if rng.random() < 0.4:
            content = _garbled(base.container.to_bytes(), rng)
        else:
            header = json.loads(json.dumps(dataclasses.asdict(base.container.header)))
            parts = (header, list(base.container.blocks), dict(base.container.files))
            for _ in range(rng.choice([1, 1, 1, 2])):
                with suppress(IndexError, KeyError, TypeError, ValueError):  # there is nothing of the kind to change
                    rng.choice(CHANGES)(parts, rng, made)
            content = written(*parts, vouch=rng.random() < 0.8)
        return _tried(content, base, made, force=rng.random() < 0.5)

    _in_batches(count, folder, one, tally)
    return tally


def _tried(content: bytes, base: Base, made: list[Base], *, force: bool) -> str:
    """Decompress it, by the run inside if there is one; what came of it."""
    try:
        container = Container.from_bytes(content, "x.clm")
        run = embedded_run(container, "x.clm") if container.files else base
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            text = decompress(container, run.model, run.tokenizer, "x.clm", force=force)
    except CharlmError as problem:
        assert len(str(problem)) < 1500, "an error longer than anybody reads"
        return "refused"
    assert text in {other.text for other in made}, "a wrong text"
    return "the text" if text == base.text else "another text that was compressed"
