"""How much of a text stands word for word in another: a text that was learned from measures memory, not prediction."""

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from charlm.corpus.text import Text
from charlm.progress import Listener, silent

WINDOW_BYTES = 64  # bytes of a passage that is looked for; a power of two
MAX_WINDOWS = 1 << 20  # of a text; of a longer one they are spread evenly
MAX_SEARCHED_BYTES = 1 << 28  # of each text that is searched; of one twice as long every second chunk, and so on

_BYTES_PER_STRIP = 1 << 16  # bytes hashed at once: its arrays stay in the processor's cache
_FILTER_BITS = 16  # bits of the filter for each window, at least
_SPACES = bytes.maketrans(b"\n\t", b"  ")
_HASH_BASE = 0x9E3779B97F4A7C15  # odd
_HASH_OF_BYTE = np.random.default_rng(0).integers(1 << 63, size=256, dtype=np.uint64)

Hashes = npt.NDArray[np.uint64]


def share_in(text: Text, others: Iterable[Text], progress: Listener = silent) -> float:
    """The share of a text's passages, `WINDOW_BYTES` each and one after the other, that stand in one of the others.

    Line ends, tabs and spaces count as the same. The others are read once, as streams, at every place by a rolling
    hash (Karp & Rabin 1987) of 64 bits. Memory is bounded, and time by `MAX_SEARCHED_BYTES` of each: of a longer
    text the share found is a lower bound. 0 for a text that is shorter than a passage.
    """
    passages, number = np.unique(_passages(text), return_inverse=True)
    if not len(passages):
        return 0.0
    present = np.zeros(len(passages), np.bool_)
    bits = (_FILTER_BITS * len(passages)).bit_length()
    filtered = np.zeros(1 << bits, np.bool_)
    filtered[_top(passages, bits)] = True
    for other in others:
        for hashes in _everywhere(other, progress):
            likely = hashes[filtered[_top(hashes, bits)]]
            places = np.searchsorted(passages, likely)
            places[places == len(passages)] = 0
            present[places[passages[places] == likely]] = True
    return float(present[number].mean())


def _passages(text: Text) -> Hashes:
    """The hashes of a text's passages, (N,)."""
    stride = max(1, text.bytes // WINDOW_BYTES // MAX_WINDOWS)
    parts, behind, passed = [np.empty(0, np.uint64)], b"", 0
    for chunk in _chunks(text, 1):
        data = behind + chunk
        whole = len(data) - len(data) % WINDOW_BYTES
        rows = np.frombuffer(data, np.uint8, whole).reshape(-1, WINDOW_BYTES)[
            -passed % stride :: stride
        ]  # (n, WINDOW_BYTES)
        parts += [
            _rolled(_HASH_OF_BYTE[row])[:, 0]
            for row in np.array_split(rows, len(rows) * WINDOW_BYTES // _BYTES_PER_STRIP + 1)
        ]
        behind, passed = data[whole:], passed + whole // WINDOW_BYTES
    return np.concatenate(parts)


def _everywhere(text: Text, progress: Listener) -> Iterator[Hashes]:
    """The hashes of all stretches of `WINDOW_BYTES` bytes, strip by strip."""
    every = max(1, text.bytes // MAX_SEARCHED_BYTES)
    behind, read = b"", 0
    for chunk in _chunks(text, every):
        data = np.frombuffer(behind + chunk, np.uint8)
        for begin in range(0, len(data) - WINDOW_BYTES + 1, _BYTES_PER_STRIP):
            yield _rolled(_HASH_OF_BYTE[data[begin : begin + _BYTES_PER_STRIP + WINDOW_BYTES - 1]])
        behind = b"" if every > 1 else data[max(0, len(data) - WINDOW_BYTES + 1) :].tobytes()
        read += len(chunk) * every
        progress("looking for it in the training text", min(1.0, read / text.bytes))


def _chunks(text: Text, every: int) -> Iterator[bytes]:
    """Every so-manieth chunk of a text, with spaces for line ends and tabs."""
    for number, chunk in enumerate(text.chunks()):
        if number % every == 0:
            yield chunk.encode().translate(_SPACES, b"\r")


def _rolled(hashes: Hashes) -> Hashes:
    """(..., N) of single bytes -> (..., N - WINDOW_BYTES + 1) of stretches: each of 2 k bytes is made of two of k."""
    size = 1
    while size < WINDOW_BYTES:
        left = hashes[..., :-size] * np.uint64(pow(_HASH_BASE, size, 1 << 64))
        left += hashes[..., size:]
        hashes, size = left, 2 * size
    return hashes


def _top(hashes: Hashes, bits: int) -> Hashes:
    return (hashes * np.uint64(_HASH_BASE)) >> np.uint64(64 - bits)
