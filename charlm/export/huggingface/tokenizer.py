"""A tokenizer as tokenizer.json, the format of Hugging Face's `tokenizers` library.

Every id keeps its number: 0 is the boundary, 1 to 256 are bytes, pieces follow. Nothing is normalised, so
`decode(encode(text)) == text` holds there as it does here, for every text that Rust can hold (no lone surrogates).
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from charlm.config import BOUNDARY
from charlm.errors import UsageError
from charlm.tokenizers import FIRST_PIECE, Tokenizer

BOUNDARY_TOKEN = "<|endoftext|>"
"""The name that GPT-2 gave to the token between texts."""

_ESCAPED = re.compile(r"([\\\[\]^-])")  # what means something within the brackets of a regular expression

Json = dict[str, Any]


def tokenizer_files(tokenizer: Tokenizer) -> dict[str, bytes]:
    """tokenizer.json and tokenizer_config.json. Raises UsageError for a piece that cannot be told from a byte."""
    return {"tokenizer.json": to_json(tokenizer_json(tokenizer)), "tokenizer_config.json": to_json(CONFIG)}


CONFIG: Json = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": BOUNDARY_TOKEN,
    "eos_token": BOUNDARY_TOKEN,
    "pad_token": BOUNDARY_TOKEN,
    "padding_side": "left",
    "clean_up_tokenization_spaces": False,
    "split_special_tokens": True,  # a text that holds the boundary's name is read as it stands
}


def tokenizer_json(tokenizer: Tokenizer) -> Json:
    """The content of tokenizer.json."""
    model, pre_tokenizer, decoder = MODELS[tokenizer.kind](tokenizer)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": BOUNDARY, "content": BOUNDARY_TOKEN, "special": True, **_NO_STRIPPING}],
        "normalizer": None,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": _POST_PROCESSOR,
        "decoder": decoder,
        "model": model,
    }


def to_json(content: Json) -> bytes:
    """JSON that a person can read, as the files of an export are written."""
    return json.dumps(content, indent=1, ensure_ascii=False).encode() + b"\n"


_NO_STRIPPING = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
_BEGIN = {"SpecialToken": {"id": BOUNDARY_TOKEN, "type_id": 0}}
_POST_PROCESSOR: Json = {  # a text begins with the boundary
    "type": "TemplateProcessing",
    "single": [_BEGIN, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [_BEGIN, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {BOUNDARY_TOKEN: {"id": BOUNDARY_TOKEN, "ids": [BOUNDARY], "tokens": [BOUNDARY_TOKEN]}},
}
_BYTE_FALLBACK: Json = {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]}
_BYTE_LEVEL: Json = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}


def _bpe(vocabulary: dict[str, int], merges: Sequence[Sequence[str]], *, byte_fallback: bool) -> Json:
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": byte_fallback,
        "ignore_merges": False,
        "vocab": vocabulary,
        "merges": [list(pair) for pair in merges],
    }


def _characters(tokenizer: Tokenizer) -> tuple[Json, Json | None, Json]:
    """BPE without merges: each character alone; one that has no id is spelled in bytes."""
    return _bpe(_numbered(names_of(tokenizer)), [], byte_fallback=True), None, _BYTE_FALLBACK


def _bytes(tokenizer: Tokenizer) -> tuple[Json, Json | None, Json]:
    """BPE without merges over the characters that GPT-2 writes for bytes."""
    names = [BOUNDARY_TOKEN, *BYTE_CHARACTERS]
    assert len(names) == tokenizer.vocab_size
    return _bpe(_numbered(names), [], byte_fallback=False), _BYTE_LEVEL, _BYTE_LEVEL


def _byte_pairs(tokenizer: Tokenizer) -> tuple[Json, Json | None, Json]:
    """GPT-2's: words by its pattern, bytes written as characters."""
    names = ["".join(BYTE_CHARACTERS[byte] for byte in piece) for piece in tokenizer.pieces()]
    names[BOUNDARY] = BOUNDARY_TOKEN
    merges = [(names[left], names[right]) for left, right in tokenizer.vocabulary()["merges"]]
    by_pattern = {**_BYTE_LEVEL, "use_regex": True}
    return _bpe(_numbered(names), merges, byte_fallback=False), by_pattern, _BYTE_LEVEL


def _sentencepiece(tokenizer: Tokenizer) -> tuple[Json, Json | None, Json]:
    """Unigram or BPE; a character that is no piece is cut out before, so the model only meets what it can spell."""
    vocabulary = tokenizer.vocabulary()
    pieces: list[tuple[str, float]] = [(text, score) for text, score in vocabulary["pieces"]]
    names = names_of(tokenizer)
    characters = "".join(text for text, _ in pieces if len(text) == 1)
    others = "[^" + _ESCAPED.sub(r"\\\1", characters) + "]"
    pre_tokenizer = {"type": "Split", "pattern": {"Regex": others}, "behavior": "Isolated", "invert": False}
    if vocabulary["model_type"] == "bpe":
        model = _bpe(_numbered(names), _merges(pieces), byte_fallback=True)
    else:
        never = (min(score for _, score in pieces) - 1) * 2 * len(BOUNDARY_TOKEN)  # below what spells the longest name
        scores = [never] * FIRST_PIECE + [score for _, score in pieces]
        model = {
            "type": "Unigram",
            "unk_id": BOUNDARY,
            "vocab": [list(entry) for entry in zip(names, scores, strict=True)],
            "byte_fallback": True,
        }
    return model, pre_tokenizer, _BYTE_FALLBACK


def _merges(pieces: Sequence[tuple[str, float]]) -> list[tuple[str, str]]:
    """Every pair of pieces that makes a piece, those of the best score first, as SentencePiece merges them."""
    known = {text for text, _ in pieces}
    return [
        (text[:cut], text[cut:])
        for text, _ in sorted(pieces, key=lambda piece: -piece[1])
        for cut in range(1, len(text))
        if text[:cut] in known and text[cut:] in known
    ]


def names_of(tokenizer: Tokenizer) -> list[str]:
    """What each id is called, (V,)."""
    learned = [piece.decode("utf-8", "surrogatepass") for piece in tokenizer.pieces()[FIRST_PIECE:]]
    names = [BOUNDARY_TOKEN, *(f"<0x{value:02X}>" for value in range(256)), *map(_encodable, learned)]
    twice, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise UsageError(
            f"the piece {twice!r} has the name of a byte or of the boundary in Hugging Face's format, "
            "which cannot hold both; train with a vocabulary of another size"
        )
    return names


def _encodable(piece: str) -> str:
    """The piece; of a lone surrogate, which no text has there, a name that never matches."""
    return f"<surrogate {ord(piece):04X}>" if len(piece) == 1 and "\ud800" <= piece <= "\udfff" else piece


def _numbered(names: Sequence[str]) -> dict[str, int]:
    return {name: token for token, name in enumerate(names)}


def _byte_characters() -> list[str]:
    """The character that GPT-2 writes for each byte: its own where it can be seen, else one from U+0100 on."""
    seen = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(value) if value in seen else chr(next(others)) for value in range(256)]


BYTE_CHARACTERS = _byte_characters()
MODELS: dict[str, Callable[[Tokenizer], tuple[Json, Json | None, Json]]] = {
    "characters": _characters,
    "bytes": _bytes,
    "bpe": _byte_pairs,
    "sentencepiece": _sentencepiece,
}
"""For each kind of tokenizer its model, what cuts a text before, and what joins pieces after."""
