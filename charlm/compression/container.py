"""The compressed file: what it is of and how to decode it, then the blocks, then, if it is embedded, the run.

8 bytes    `COMPRESSED_MARK`
2 + 4      format version; length of the header (little-endian, as all numbers here)
header     JSON, UTF-8: the fields of `Header`
4          CRC-32 of all before it
blocks     one after the other: 32-bit words of constriction's range coder
files      of an embedded run, one after the other
"""

import dataclasses
import json
import re
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from charlm.config import ADAPTATIONS
from charlm.errors import DataError
from charlm.own_files import CARD, COMPRESSED_MARK, RUN_FILE

FORMAT = 1
MAX_BLOCKS = 1024
MAX_THREADS = 1024
MAX_FILES = 8  # of an embedded run
MAX_NUMBER = 2**48  # bytes, tokens
BYTES_PER_WORD = 4  # bytes of the coder's words

_START = struct.Struct("<8sHI")
_CRC = struct.Struct("<I")
_SHA256 = re.compile("[0-9a-f]{64}")


class Part(NamedTuple):
    """A stretch of the file: its name (of a file; empty for a block), how many bytes, their CRC-32."""

    name: str
    size: int
    crc32: int

    @classmethod
    def of(cls, content: bytes, name: str = "") -> "Part":
        """The description of some content."""
        return cls(name, len(content), zlib.crc32(content))


@dataclass(frozen=True)
class Header:
    """What a compressed file says of itself.

    `model` and `tokenizer` are fingerprints, `weights` is the SHA-256 of the run's weights, by which the run is found;
    `adapt` says what learns while the model reads: "none", "counts" or "all". `machine` is what
    `fingerprint.machine` says. `characters` is None for what is not UTF-8; `sha256` is that of the original bytes.
    """

    charlm: str
    run: str
    architecture: str
    adapt: str
    model: str
    weights: str
    tokenizer: str
    machine: Mapping[str, str | int]
    tokens: int
    bytes: int
    characters: int | None
    sha256: str
    blocks: Sequence[Part]
    files: Sequence[Part]

    @property
    def backend(self) -> str:
        """The backend of the engine that gave the probabilities."""
        return str(self.machine["backend"])

    @property
    def threads(self) -> int:
        """How many threads it computed with."""
        return int(self.machine["threads"])

    @classmethod
    def from_json(cls, data: Any) -> "Header":
        """Raises ValueError, KeyError or TypeError for what `dataclasses.asdict` did not make of a header."""
        if set(data) != {field.name for field in dataclasses.fields(cls)}:
            raise ValueError("other fields than a header has")
        parts = {name: tuple(Part(*part) for part in data[name]) for name in ("blocks", "files")}
        header = cls(**{**data, **parts})
        if not header._is_sound():
            raise ValueError("values that no header has")
        return header

    def _is_sound(self) -> bool:
        texts = (self.charlm, self.run, self.architecture, self.adapt, *(part.name for part in self.parts))
        numbers = [self.tokens, self.bytes, *(n for part in self.parts for n in part[1:])]
        numbers += [] if self.characters is None else [self.characters]
        hashes = (self.model, self.tokenizer, self.sha256, *([self.weights] if self.weights else []))
        return (
            all(isinstance(text, str) for text in texts)
            and all(type(number) is int and 0 <= number <= MAX_NUMBER for number in numbers)
            and all(isinstance(digest, str) and bool(_SHA256.fullmatch(digest)) for digest in hashes)
            and all(isinstance(name, str) and type(value) in (str, int) for name, value in self.machine.items())
            and self.adapt in ADAPTATIONS
            and isinstance(self.machine["backend"], str)
            and type(self.machine["threads"]) is int
            and 1 <= self.machine["threads"] <= MAX_THREADS
            and min(1, self.tokens) <= len(self.blocks) <= min(MAX_BLOCKS, self.tokens)
            and self.tokens <= self.bytes
            and not any(part.size % BYTES_PER_WORD or part.name for part in self.blocks)
            and len(self.files) == len({part.name for part in self.files}) <= MAX_FILES
            and all(part.name == CARD or RUN_FILE.fullmatch(part.name) for part in self.files)
        )

    @property
    def parts(self) -> Sequence[Part]:
        """What follows the header."""
        return [*self.blocks, *self.files]


class Container(NamedTuple):
    """A compressed file: the header, the blocks, and the files of an embedded run by name."""

    header: Header
    blocks: Sequence[bytes]
    files: Mapping[str, bytes]

    def to_bytes(self) -> bytes:
        """The file's content."""
        text = json.dumps(dataclasses.asdict(self.header), separators=(",", ":"), ensure_ascii=False)
        encoded = text.encode(errors="backslashreplace")  # half a surrogate, as in odd names, the way JSON spells it
        start = _START.pack(COMPRESSED_MARK, FORMAT, len(encoded)) + encoded
        return b"".join([start, _CRC.pack(zlib.crc32(start)), *self.blocks, *self.files.values()])

    @classmethod
    def from_bytes(cls, content: bytes, name: str) -> "Container":
        """Raises DataError that begins with the name of the file, for anything that is not whole and intact."""
        header, at = _header(content, name)
        size = at + sum(part.size for part in header.parts)
        if len(content) != size:
            what = "cut short" if len(content) < size else "followed by something else"
            raise DataError(f"{name}: {what}: it has {len(content):,} bytes of {size:,}; take a whole copy")
        contents = []
        for number, part in enumerate(header.parts, 1):
            contents.append(content[at : at + part.size])
            at += part.size
            if zlib.crc32(contents[-1]) != part.crc32:
                where = part.name or f"block {number} of {len(header.blocks)}"
                raise DataError(f"{name}: damaged in {where}: its checksum is wrong; take an intact copy")
        blocks, files = contents[: len(header.blocks)], contents[len(header.blocks) :]
        return cls(header, blocks, {part.name: data for part, data in zip(header.files, files, strict=True)})


def _header(content: bytes, name: str) -> tuple[Header, int]:
    """The header of a compressed file, and the byte after it."""
    if not content.startswith(COMPRESSED_MARK) and not COMPRESSED_MARK.startswith(content or b"-"):
        if content.startswith(COMPRESSED_MARK[:4]):
            raise DataError(f"{name}: damaged by a change of line ends; copy it as a binary file")
        raise DataError(f"{name}: not a file that `charlm compress` wrote")
    try:
        _, version, length = _START.unpack_from(content)
        if version != FORMAT:
            raise DataError(f"{name}: format {version}, this charlm reads {FORMAT}: upgrade charlm to read it")
        end = _START.size + length
        (crc32,) = _CRC.unpack_from(content, end)
        if zlib.crc32(content[:end]) != crc32:
            raise DataError(f"{name}: damaged in its header: the checksum is wrong; take an intact copy")
        return Header.from_json(json.loads(content[_START.size : end])), end + _CRC.size
    except struct.error:
        raise DataError(f"{name}: cut short in its header; take a whole copy") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DataError(f"{name}: damaged in its header: not what charlm writes; take an intact copy") from None
