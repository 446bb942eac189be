"""What no model at all achieves: the numbers that a trained model has to beat."""

import lzma
import math
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Protocol

from charlm.corpus import Text

UNICODE = 0x110000 - 0x800
"""Characters there are: all code points but the surrogates."""


class Compressor(Protocol):
    """What zlib's and lzma's compressors share."""

    def compress(self, data: bytes, /) -> bytes: ...  # noqa: D102
    def flush(self) -> bytes: ...  # noqa: D102


COMPRESSORS: dict[str, tuple[Callable[[], Compressor], int]] = {
    "gzip -9": (lambda: zlib.compressobj(9, zlib.DEFLATED, 31), 2**20),
    "xz -9": (lambda: lzma.LZMACompressor(preset=9), 2**26),
}
"""How each is started, and how many bytes of the training text it is given first: no fewer than it can look back on."""


def baselines(training: Text, held_out: Text) -> dict[str, float]:
    """Bits per character of the held-out text without a model, by the name that a table shows.

    A compressor costs compressed(training + held out) - compressed(training); of a very long training text it gets the
    end. Both texts are read as streams.
    """
    bits = {"uniform": uniform_bits(training, held_out)}
    for name, (start, reach) in COMPRESSORS.items():
        before = _tail(training, reach)
        both = _compressed(start(), chain([before], _bytes(held_out)))
        bits[name] = 8.0 * (both - _compressed(start(), [before]))
    return {name: total / held_out.characters for name, total in bits.items()}


def uniform_bits(training: Text, held_out: Text) -> float:
    """Bits of the held-out text when every character of the training text's alphabet is equally likely.

    Where the held-out text has others, the alphabet gets an escape sign, after which all the rest of Unicode is.
    """
    alphabet = _counts(training).keys()
    unseen = sum(count for character, count in _counts(held_out).items() if character not in alphabet)
    return held_out.characters * math.log2(len(alphabet) + (unseen > 0)) + unseen * math.log2(UNICODE - len(alphabet))


def _counts(text: Text) -> Counter[str]:
    counts: Counter[str] = Counter()
    for chunk in text.chunks():
        counts.update(chunk)
    return counts


def _bytes(text: Text) -> Iterator[bytes]:
    return (chunk.encode() for chunk in text.chunks())


def _tail(text: Text, size: int) -> bytes:
    """The last `size` bytes of a text, or all of it."""
    kept: deque[bytes] = deque()
    excess = -size  # bytes held beyond the size
    for chunk in _bytes(text):
        kept.append(chunk)
        excess += len(chunk)
        while excess >= len(kept[0]):
            excess -= len(kept.popleft())
    return b"".join(kept)[-size:]


def _compressed(compressor: Compressor, chunks: Iterable[bytes]) -> int:
    return sum(len(compressor.compress(chunk)) for chunk in chunks) + len(compressor.flush())
