"""A GGUF file, version 3: named values, then tensors of float32 (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).

Everything is little-endian. A string is its length in bytes, uint64, and UTF-8.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

import numpy as np
from torch import Tensor

ALIGNMENT = 32
"""Each tensor begins at a multiple of so many bytes."""

VERSION = 3
UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9  # the types of values
TENSOR_FLOAT32 = 0  # the type of a tensor

Value = bool | int | float | str | Sequence[int] | Sequence[float] | Sequence[str]


def pieces(values: Mapping[str, Value], tensors: Mapping[str, Tensor]) -> Iterator[bytes]:
    """The file's bytes, in pieces. A tensor's dimensions are listed from the innermost to the outermost."""
    arrays = {name: tensor.detach().cpu().float().contiguous().numpy() for name, tensor in tensors.items()}
    offsets = accumulate((_aligned(array.nbytes) for array in arrays.values()), initial=0)
    head = b"GGUF" + struct.pack("<IQQ", VERSION, len(arrays), len(values))
    head += b"".join(_string(name) + _value(value) for name, value in values.items())
    for (name, array), offset in zip(arrays.items(), offsets, strict=False):
        head += _string(name) + struct.pack(f"<I{array.ndim}Q", array.ndim, *array.shape[::-1])
        head += struct.pack("<IQ", TENSOR_FLOAT32, offset)
    yield head.ljust(_aligned(len(head)), b"\0")
    for array in arrays.values():
        yield array.astype("<f4", copy=False).tobytes().ljust(_aligned(array.nbytes), b"\0")


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _string(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def _value(value: Value) -> bytes:
    """The type and the content of a value."""
    match value:
        case bool():
            return struct.pack("<I?", BOOL, value)
        case int():
            return struct.pack("<II", UINT32, value)
        case float():
            return struct.pack("<If", FLOAT32, value)
        case str():
            return struct.pack("<I", STRING) + _string(value)
        case _:
            return _array(value)


def _array(value: Sequence[int] | Sequence[float] | Sequence[str]) -> bytes:
    """An empty array is one of strings."""
    if value and isinstance(value[0], int):
        kind, content = INT32, np.asarray(value, "<i4").tobytes()
    elif value and isinstance(value[0], float):
        kind, content = FLOAT32, np.asarray(value, "<f4").tobytes()
    else:
        kind, content = STRING, b"".join(_string(str(text)) for text in value)
    return struct.pack("<IIQ", ARRAY, kind, len(value)) + content
