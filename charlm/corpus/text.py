"""A text on disk or in memory, addressed by characters (Unicode code points)."""

import hashlib
import mmap
from collections.abc import Iterator
from functools import cached_property

import numpy as np

from charlm.corpus.mapping import BYTES_PER_STRIDE, forget
from charlm.errors import DataError

MAX_CHUNK_BYTES = 1 << 20  # bytes of UTF-8 in one chunk, at most
_BYTES_PER_INDEX_ENTRY = 1 << 16  # bytes between two entries of the character index


class _Buffer:
    """Valid UTF-8 and an index into it: how many characters begin before each `_BYTES_PER_INDEX_ENTRY`."""

    def __init__(self, data: bytes | mmap.mmap | memoryview) -> None:
        self.bytes = np.frombuffer(data, np.uint8)  # (bytes,)
        whole = data.obj if isinstance(data, memoryview) else data
        self.mapped = whole if isinstance(whole, mmap.mmap) else None
        strips = (np.frombuffer(strip, np.uint8) for strip in self.strips(self.bytes.data))
        blocks = (
            strip[at : at + _BYTES_PER_INDEX_ENTRY]
            for strip in strips
            for at in range(0, len(strip), _BYTES_PER_INDEX_ENTRY)
        )
        counts = np.fromiter((np.count_nonzero(_starts(block)) for block in blocks), np.int64)
        self.before = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])  # (blocks + 1,)
        self.characters = int(self.before[-1])

    def strips(self, part: memoryview) -> Iterator[memoryview]:
        """A part of the bytes in order, in long strips; of a mapped file no more than one stays in memory."""
        for at in range(0, len(part), BYTES_PER_STRIDE):
            yield part[at : at + BYTES_PER_STRIDE]
            forget(self.mapped)

    def offset(self, character: int) -> int:
        """The byte at which a character begins; the length of the buffer for the one behind the last."""
        if character == self.characters:
            return len(self.bytes)
        block = int(np.searchsorted(self.before, character, side="right")) - 1
        starts = np.flatnonzero(
            _starts(self.bytes[block * _BYTES_PER_INDEX_ENTRY : (block + 1) * _BYTES_PER_INDEX_ENTRY])
        )
        return block * _BYTES_PER_INDEX_ENTRY + int(starts[character - self.before[block]])


def _starts(block: np.ndarray[tuple[int], np.dtype[np.uint8]]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return block.view(np.int8) > -65  # all but 0b10xxxxxx, the continuation bytes


class Text:
    """A part of a text, from one character to another; a value. Slices share the bytes and the index."""

    def __init__(self, buffer: _Buffer, name: str, start: int, stop: int) -> None:
        self.name = name
        self.characters = stop - start
        self._buffer, self._start = buffer, start
        self._utf8 = buffer.bytes.data[buffer.offset(start) : buffer.offset(stop)]

    @classmethod
    def from_utf8(cls, data: bytes | mmap.mmap | memoryview, name: str) -> "Text":
        """All of `data`, which must be valid UTF-8 and must not change."""
        buffer = _Buffer(data)
        return cls(buffer, name, 0, buffer.characters)

    @classmethod
    def from_string(cls, text: str, name: str) -> "Text":
        """A text in memory. Raises DataError for a lone surrogate, which UTF-8 cannot say."""
        try:
            return cls.from_utf8(text.encode(), name)
        except UnicodeEncodeError as problem:
            raise DataError(
                f"{name}: character {problem.start} is half a surrogate pair, which UTF-8 cannot say; take it out"
            ) from None

    @property
    def bytes(self) -> int:
        """The length in bytes of UTF-8."""
        return self._utf8.nbytes

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the UTF-8 bytes, in hexadecimal."""
        digest = hashlib.sha256()
        for strip in self._buffer.strips(self._utf8):
            digest.update(strip)
        return digest.hexdigest()

    def slice(self, start: int = 0, stop: int | None = None) -> "Text":
        """The characters from `start` up to `stop`, as `str[start:stop]` would have it; nothing is copied."""
        first, last, _ = slice(start, stop).indices(self.characters)
        return Text(self._buffer, self.name, self._start + first, self._start + max(first, last))

    def chunks(self) -> Iterator[str]:
        """The text in order, in pieces of at most `MAX_CHUNK_BYTES` bytes that end with a newline where they can.

        Where the cuts fall depends on the characters of this text alone, not on what it was sliced from.
        """
        at = 0
        while at < self.bytes:
            window = bytes(self._utf8[at : at + MAX_CHUNK_BYTES + 1])
            cut = len(window)
            if cut > MAX_CHUNK_BYTES:
                cut = window.rfind(b"\n", 0, MAX_CHUNK_BYTES) + 1 or MAX_CHUNK_BYTES
                while window[cut] & 0xC0 == 0x80:
                    cut -= 1
            yield window[:cut].decode()
            at += cut
            if at % BYTES_PER_STRIDE < cut or at == self.bytes:
                forget(self._buffer.mapped)

    def read(self) -> str:
        """The whole text as one str."""
        return str(self._utf8, "utf-8")

    def __repr__(self) -> str:
        return f"<Text {self.name!r}: {self.characters} characters, {self.bytes} bytes>"
