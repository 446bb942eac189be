"""Files too large for memory, seen through maps: what was read once does not stay."""

import mmap

BYTES_PER_STRIDE = 16 << 20
"""Bytes of a map that are read between two calls of `forget`."""


def forget(mapped: mmap.mmap | None) -> None:
    """Give back the memory that reading a map took; what is read again comes from the file again."""
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):  # Windows takes it back by itself
        mapped.madvise(mmap.MADV_DONTNEED)
