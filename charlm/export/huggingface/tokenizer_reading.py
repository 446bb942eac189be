"""tokenizer.json read as a tokenizer of ours, and which of its ids are which of ours.

What is read: bytes and byte-level BPE as GPT-2 has them, characters with bytes for all others, and what
`huggingface.tokenizer` writes. Whatever changes a text before it is cut is refused.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from charlm.config import BOUNDARY
from charlm.export.huggingface.families import Unfit
from charlm.export.huggingface.tokenizer import BYTE_CHARACTERS
from charlm.tokenizers import FIRST_BYTE, FIRST_PIECE, Tokenizer
from charlm.tokenizers.bpe import BPE
from charlm.tokenizers.bytes import Bytes
from charlm.tokenizers.characters import Characters
from charlm.tokenizers.sentencepiece import SentencePiece

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_ASCII = np.arange(128)  # the characters that an imported tokenizer is said to have seen: nobody knows which it did
_BYT5_OFFSET = 3  # of the bytes in ByT5, which has no tokenizer.json

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer, and for each of its ids the id in the file, (V,)."""

    tokenizer: Tokenizer
    theirs: list[int]


def read_tokenizer(content: Json, boundary: int | None) -> Vocabulary:
    """The tokenizer of a tokenizer.json. `boundary` is the id that begins a text if the file itself names none.

    Raises Unfit that says what of it cannot be held, KeyError, TypeError, ValueError or AttributeError for nonsense.
    """
    model = content["model"]
    if (normalizer := content.get("normalizer")) is not None:
        raise Unfit(f"it changes texts before it cuts them (normalizer {_kind(normalizer)})")
    special = {int(token["id"]): token["content"] for token in content.get("added_tokens") or ()}
    if plain := [token["content"] for token in content.get("added_tokens") or () if not token.get("special")]:
        raise Unfit(f"it has an added token, {plain[0]!r}, that is cut out of texts")
    named = _begins_texts(content.get("post_processor"))
    boundary = named if named is not None else boundary
    if boundary is None:
        raise Unfit("no token begins a text: give bos_token_id or eos_token_id in config.json")
    entries = _entries(model)
    names = {name: token for name, token in entries.items() if token not in special and token != boundary}
    tokenizer, ids = _reader(content, model)(model, names)
    return Vocabulary(tokenizer, [boundary, *ids])


def byt5() -> Vocabulary:
    """ByT5's bytes; its padding begins a text, as in its decoder."""
    return Vocabulary(Bytes((), _ASCII), [0, *range(_BYT5_OFFSET, _BYT5_OFFSET + 256)])


def _begins_texts(post_processor: Any) -> int | None:
    """The id that a template puts before a text."""
    if not isinstance(post_processor, Mapping) or post_processor.get("type") != "TemplateProcessing":
        return None
    first = post_processor["single"][0]
    name = first.get("SpecialToken", {}).get("id")
    return None if name is None else int(post_processor["special_tokens"][name]["ids"][0])


def _entries(model: Json) -> dict[str, int]:
    """The names of all ids."""
    vocabulary = model["vocab"]
    if isinstance(vocabulary, Mapping):
        return {str(name): int(token) for name, token in vocabulary.items()}
    return {str(name): token for token, (name, _) in enumerate(vocabulary)}


Reader = Callable[[Json, Mapping[str, int]], tuple[Tokenizer, list[int]]]


def _reader(content: Json, model: Json) -> Reader:
    """Which kind of tokenizer this is, by its model and by what cuts a text before."""
    kind, cutter = model.get("type"), content.get("pre_tokenizer") or {}
    if kind == "BPE" and _kind(cutter) == "ByteLevel":
        if cutter.get("add_prefix_space"):
            raise Unfit("it puts a space before a text (add_prefix_space)")
        if not model.get("merges"):
            return _bytes
        if cutter.get("use_regex", True):
            return _byte_pairs
    if kind == "BPE" and not cutter and not model.get("merges"):
        return _characters
    if kind in ("BPE", "Unigram") and model.get("byte_fallback") and _is_ours(cutter):
        return _pieces
    more = f", cut before by {_kind(cutter)}" if cutter else ""
    raise Unfit(f"a tokenizer of this kind is not read: {kind}{more}")


def _kind(part: Any) -> str:
    return str(part.get("type"))[:40] if isinstance(part, Mapping) else str(part)[:40]


def _is_ours(cutter: Any) -> bool:
    """Whether a text is cut at the characters that are no pieces, as charlm writes it."""
    return _kind(cutter) == "Split" and cutter.get("behavior") == "Isolated" and "Regex" in cutter.get("pattern", {})


def _bytes(model: Json, names: Mapping[str, int]) -> tuple[Tokenizer, list[int]]:  # noqa: ARG001
    return Bytes((), _ASCII), _of_bytes(names)


def _of_bytes(names: Mapping[str, int]) -> list[int]:
    """The ids of the 256 bytes."""
    missing = [byte for byte, name in enumerate(BYTE_CHARACTERS) if name not in names]
    if missing:
        raise Unfit(f"it has no id for the byte 0x{missing[0]:02X}, so not every text can be spelled")
    return [names[name] for name in BYTE_CHARACTERS]


def _byte_pairs(model: Json, names: Mapping[str, int]) -> tuple[Tokenizer, list[int]]:
    """GPT-2's: what a merge makes has an id; ids that no merge makes are out of reach, and left out."""
    single = _of_bytes(names)
    value = {name: byte for byte, name in enumerate(BYTE_CHARACTERS)}
    pairs = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
    made = dict.fromkeys(left + right for left, right in pairs)
    pieces = [bytes(value[character] for character in name) for name in made]
    ours = {name: FIRST_BYTE + byte for name, byte in value.items()}
    ours |= {name: FIRST_PIECE + number for number, name in enumerate(made)}
    tokenizer = BPE(pieces, [(ours[left], ours[right]) for left, right in pairs], _ASCII)
    return tokenizer, [*single, *(names[name] for name in made)]


def _characters(model: Json, names: Mapping[str, int]) -> tuple[Tokenizer, list[int]]:  # noqa: ARG001
    """Characters in the order of their code points, whatever their order was; bytes by name."""
    single = _named_bytes(names)
    characters = {ord(name): token for name, token in names.items() if len(name) == 1}
    codes = np.array(sorted(characters), np.int64)
    tokenizer = Characters(codes, np.union1d(codes, _ASCII))
    return tokenizer, [*single, *(characters[code] for code in codes.tolist())]


def _named_bytes(names: Mapping[str, int]) -> list[int]:
    """The ids of <0x00> to <0xFF>."""
    ids = {int(match[1], 16): token for name, token in names.items() if (match := _BYTE.fullmatch(name))}
    if len(ids) < 256:
        byte = next(byte for byte in range(256) if byte not in ids)
        raise Unfit(f"it has no token <0x{byte:02X}>, so not every text can be spelled")
    return [ids[byte] for byte in range(256)]


def _pieces(model: Json, names: Mapping[str, int]) -> tuple[Tokenizer, list[int]]:
    """What `huggingface.tokenizer` writes for SentencePiece."""
    single = _named_bytes(names)
    texts = [name for name in sorted(names, key=names.__getitem__) if names[name] not in set(single)]
    if model["type"] == "Unigram":
        scores = dict(model["vocab"])
    else:
        made = dict.fromkeys("".join(pair) for pair in model["merges"])
        scores = dict.fromkeys(texts, 0.0) | {text: -float(rank) for rank, text in enumerate(made, 1)}
    listed = [(text, float(scores[text])) for text in texts]
    seen = np.union1d(_ASCII, [ord(character) for character in "".join(texts)]).astype(np.int64)
    tokenizer = SentencePiece(listed, "unigram" if model["type"] == "Unigram" else "bpe", seen)
    return tokenizer, [*single, *(names[text] for text in texts)]


def is_partial(pieces: Sequence[bytes]) -> list[bool]:
    """Which pieces begin or end within a character, single bytes apart."""
    return [number >= FIRST_PIECE and not _whole(piece) for number, piece in enumerate(pieces)]


def _whole(piece: bytes) -> bool:
    try:
        piece.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


assert BOUNDARY == 0  # the order of `Vocabulary.theirs`
