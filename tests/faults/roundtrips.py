"""Files of every sort, compressed and decompressed by models of every kind: the same bytes each time."""

import random
import time
from collections.abc import Callable
from pathlib import Path

from charlm.compression import CompressionConfig, Container, Content, compress, decompress
from charlm.models import ARCHITECTURES, CountingModel, LanguageModel
from charlm.tokenizers import TOKENIZERS, Tokenizer
from faults.mutations import WORDS
from faults.processes import SMALL, Tally

LONGEST = 120  # bytes, but for the long lines
LONG_LINE = 1 << 20
LONG_EVERY = 250  # files
OWN_FILES = sorted(path for path in Path(__file__).parents[1].rglob("*.py") if path.stat().st_size)

Coders = dict[tuple[str, str], tuple[LanguageModel, Tokenizer]]


def coders() -> Coders:
    """A small model of each architecture with each tokenizer."""
    made = {}
    for name, tokenizers in TOKENIZERS.items():
        sizes = {"vocab_size": 265} if name == "sentencepiece" else {}
        tokenizer = tokenizers.train([WORDS], tokenizers.Config(**sizes))
        for architecture, kind in ARCHITECTURES.items():
            known = kind.Config.names()
            config = kind.Config().changed({n: v // 4 if n == "width" else v for n, v in SMALL.items() if n in known})
            model = kind(config, tokenizer.vocab_size).eval()
            if isinstance(model, CountingModel):
                model.read_vocabulary(tokenizer.whole_texts)
                ids = tokenizer.encode(WORDS * 20)
                model.fit(ids[:-99], ids[-99:])
            made[architecture, name] = model, tokenizer
    return made


def _own_file(rng: random.Random) -> bytes:
    content = rng.choice(OWN_FILES).read_bytes()
    begin = rng.randrange(len(content))
    return content[begin : begin + rng.randrange(LONGEST)]


def _emoji(rng: random.Random) -> bytes:
    return "".join(rng.choices("😀👩\u200d👧🇨🇿é漢\u0301\ufeff \n", k=rng.randrange(30))).encode()


SORTS: dict[str, Callable[[random.Random], bytes]] = {
    "empty": lambda _: b"",
    "one byte": lambda rng: rng.randbytes(1),
    "NULs": lambda rng: b"\0" * rng.randrange(40) + b"a" * rng.randrange(3) + b"\0",
    "words": lambda rng: " ".join(rng.choices(WORDS.split(), k=rng.randrange(25))).encode(),
    "CRLF": lambda rng: b"\r\n".join(rng.choices(WORDS.encode().split(), k=rng.randrange(25))),
    "emoji": _emoji,
    "random bytes": lambda rng: rng.randbytes(rng.randrange(LONGEST)),
    "characters cut in two": lambda rng: _emoji(rng)[rng.randrange(3) : -1],
    "halves of surrogates": lambda rng: b"\xed\xa0\xbd" * rng.randrange(9) + b"\xed\xb2\x80 the" * rng.randrange(5),
    "other encodings": lambda rng: "žluťoučký kůň".encode(rng.choice(["cp1250", "utf-16", "utf-8-sig", "utf-32"])),
    "files of this repository": _own_file,
}


def round_trips(count: int, folder: Path, seed: int) -> Tally:
    """`count` files, each by all coders; of those with a long line, by one of them in many streams."""
    tally, made, sorts = Tally("round trips"), coders(), list(SORTS)
    begun = time.monotonic()
    for number in range(count):
        rng = random.Random(f"{seed} {number}")
        if number % LONG_EVERY == LONG_EVERY // 2:
            data, which = (WORDS.strip().encode() * (LONG_LINE // len(WORDS) + 1))[:LONG_LINE], [("rnn", "characters")]
            tally.add("long lines")
        else:
            sort = sorts[number % len(sorts)]
            data, which = SORTS[sort](rng), list(made)
            tally.add(sort)
        for coder in which:
            config = CompressionConfig(rng.choice([1, 1, 2, 5]) if len(data) < LONG_LINE else 1024, verify=False)
            tally.check(_same(data, *made[coder], config), f"file {number} by {coder}")
    tally.add("seconds", time.monotonic() - begun)
    return tally


def _same(data: bytes, model: LanguageModel, tokenizer: Tokenizer, config: CompressionConfig) -> bool:
    made = compress(model, tokenizer, Content.of_bytes(data, tokenizer), config)
    back = decompress(Container.from_bytes(made.content, "x.clm"), model, tokenizer)
    return back == data
