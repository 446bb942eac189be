"""Streams of ids: a text encoded once, in memory or, when it is large, in a file that is mapped."""

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from charlm.corpus.folders import CACHE_FILE, cache_folder
from charlm.corpus.mapping import BYTES_PER_STRIDE, forget
from charlm.corpus.text import Text
from charlm.errors import DataError
from charlm.files import atomic_file
from charlm.progress import Listener, silent

MAX_CHARACTERS_IN_MEMORY = 64 << 20  # characters; a longer text is encoded into the cache
MAX_CACHE_BYTES = 16 << 30  # bytes; what was used longest ago goes first
_CACHE_FORMAT = 1  # goes into the key: raise it when the same text and encoder would give another file

Stream = npt.NDArray[np.unsignedinteger[Any]]


class Encoder(Protocol):
    """What a tokenizer must offer here. Two with equal `fingerprint` encode every text alike."""

    @property
    def vocab_size(self) -> int:
        """Every id is below it."""

    @property
    def fingerprint(self) -> str:
        """What tells it from every other encoder, vocabulary included."""

    def encode(self, text: str) -> npt.NDArray[np.int32]:
        """The ids of a text, (N,)."""


def encode(text: Text, encoder: Encoder, cache: Path | None = None, progress: Listener = silent) -> Stream:
    """The ids of a text, (N,), uint16 where the vocabulary allows it and else uint32; read-only when mapped.

    The text is encoded chunk by chunk (`Text.chunks`). Beyond 64 Mi characters the ids go into a .npy file in the
    folder `cache` (default `cache_folder()`), named by the text's SHA-256 and the encoder's fingerprint, and are
    mapped from there, now and later, until it has to make room (`MAX_CACHE_BYTES`) or `clear_cache` is called.
    `progress` is told (what is being done, fraction done). Raises DataError if the cache cannot be written.
    """
    dtype = np.dtype(np.uint16 if encoder.vocab_size <= 1 << 16 else np.uint32)
    encoded = _encoded(text, encoder, dtype, progress)
    if text.characters <= MAX_CHARACTERS_IN_MEMORY:
        return np.concatenate([np.empty(0, dtype), *encoded])
    folder = cache_folder() if cache is None else cache
    key = hashlib.sha256(f"{_CACHE_FORMAT} {text.sha256} {encoder.fingerprint}".encode()).hexdigest()
    path = folder / f"{key}.npy"
    stream = _load(path, dtype)
    if stream is None:
        _store(path, dtype, encoded)
        _make_room(folder, path)
        stream = _load(path, dtype)
    if stream is None:
        raise DataError(f"{path}: damaged as soon as it was written; is the disk full? CHARLM_CACHE moves the cache")
    return stream


def blocks(stream: Stream) -> Iterator[Stream]:
    """A stream in order, in blocks; of a mapped one no more than one stays in memory."""
    size = BYTES_PER_STRIDE // stream.itemsize
    for begin in range(0, len(stream), size):
        yield stream[begin : begin + size]
        forget(getattr(stream, "_mmap", None))


def clear_cache(folder: Path | None = None) -> int:
    """Remove every encoded corpus from the cache and say how many bytes that were; they are made again when needed."""
    files = [path for path in (folder or cache_folder()).glob("*") if CACHE_FILE.fullmatch(path.name)]
    size = sum(path.stat().st_size for path in files)
    for path in files:
        path.unlink()
    return size


def _make_room(folder: Path, newest: Path) -> None:
    """Remove the streams that were used longest ago until all of them keep to `MAX_CACHE_BYTES`; never the newest."""
    with suppress(OSError):  # another process may be at the same, or Windows have one open
        others = [path for path in folder.glob("*.npy") if CACHE_FILE.fullmatch(path.name) and path != newest]
        total = newest.stat().st_size
        for path in sorted(others, key=lambda path: -path.stat().st_mtime):
            total += path.stat().st_size
            if total > MAX_CACHE_BYTES:
                path.unlink()


def _encoded(text: Text, encoder: Encoder, dtype: "np.dtype[Any]", progress: Listener) -> Iterator[npt.NDArray[Any]]:
    done = 0
    for chunk in text.chunks():
        yield encoder.encode(chunk).astype(dtype)
        done += len(chunk)
        progress("encoding", done / text.characters)


def _load(path: Path, dtype: "np.dtype[Any]") -> Stream | None:
    """The mapped stream, or None if the file is missing, damaged or of another size than it says."""
    try:
        stream = np.load(path, mmap_mode="r", allow_pickle=False)
        whole = stream.offset + stream.nbytes == path.stat().st_size
        with suppress(OSError):  # a cache that may only be read
            path.touch()
    except (OSError, ValueError, EOFError):
        return None
    return stream if whole and stream.dtype == dtype and stream.ndim == 1 else None


def _store(path: Path, dtype: "np.dtype[Any]", blocks: Iterator[npt.NDArray[Any]]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:  # a reader, or a second writer, never meets half of it
            _write(file, dtype, blocks)
    except OSError as problem:
        raise DataError(
            f"{path.parent}: cannot keep the encoded corpus here: {problem.strerror}; "
            "CHARLM_CACHE=FOLDER chooses another place"
        ) from None


def _write(file: BinaryIO, dtype: "np.dtype[Any]", blocks: Iterator[npt.NDArray[Any]]) -> None:
    count = 0
    _write_header(file, dtype, count)
    for block in blocks:
        file.write(block.data)
        count += len(block)
    file.seek(0)
    _write_header(file, dtype, count)  # as long as the first: numpy leaves room for the count to grow


def _write_header(file: BinaryIO, dtype: "np.dtype[Any]", count: int) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (count,)}
    np.lib.format.write_array_header_1_0(file, header)
