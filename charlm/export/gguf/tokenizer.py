"""A tokenizer as one of llama.cpp's, in which every id keeps its number.

Characters and bytes are kinds of byte-level BPE, in which a token is written as the characters that GPT-2 has for its
bytes: a character of several bytes is merged from the first two, then with each byte that follows. SentencePiece's
unigrams are llama.cpp's `plamo2`, which finds the segmentation of the best total score, and its BPE is `llama`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from charlm.config import BOUNDARY
from charlm.errors import UsageError
from charlm.export.gguf.file import Value
from charlm.export.huggingface.tokenizer import BOUNDARY_TOKEN, BYTE_CHARACTERS, names_of
from charlm.tokenizers import FIRST_BYTE, FIRST_PIECE, Tokenizer

NORMAL_TOKEN, CONTROL_TOKEN, UNUSED_TOKEN, BYTE_TOKEN = 1, 3, 5, 6  # kinds of tokens
SPACE_MARK = "\u2581"
"""What `llama` writes for a space."""

MAX_SCORE = 900.0
"""The largest absolute score in `plamo2`, which rounds to 1e-4; the score of a character without a piece is -1000."""

NEVER = -2000.0
"""The score of a token that `plamo2` never takes."""


@dataclass(frozen=True)
class Kind:
    """How llama.cpp has a tokenizer, and what of a text it reads otherwise."""

    values: Callable[[Tokenizer], dict[str, Value]]
    lost: tuple[str, ...] = ()


def tokenizer_values(tokenizer: Tokenizer) -> dict[str, Value]:
    """What a GGUF file says of its tokenizer. Raises UsageError for one that llama.cpp does not have."""
    return {
        **_kind(tokenizer).values(tokenizer),
        "tokenizer.ggml.bos_token_id": BOUNDARY,
        "tokenizer.ggml.eos_token_id": BOUNDARY,
        "tokenizer.ggml.padding_token_id": BOUNDARY,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": False,
    }


def tokenizer_lost(tokenizer: Tokenizer) -> tuple[str, ...]:
    """What of a text llama.cpp reads otherwise. Raises UsageError for a tokenizer that it does not have."""
    return _kind(tokenizer).lost


def _kind(tokenizer: Tokenizer) -> Kind:
    name = tokenizer.kind
    if name == "sentencepiece":
        name += f" {tokenizer.vocabulary()['model_type']}"
    if name not in KINDS:
        raise UsageError(f"{name}: a GGUF file has no place for such a tokenizer; train with characters or bytes")
    return KINDS[name]


def _byte_level(tokenizer: Tokenizer, merges: Callable[[Tokenizer, list[str]], list[str]]) -> dict[str, Value]:
    names = [_spelled(piece) for piece in tokenizer.pieces()]
    kinds = [NORMAL_TOKEN] * len(names)
    names[BOUNDARY], kinds[BOUNDARY] = BOUNDARY_TOKEN, CONTROL_TOKEN
    learned = set(names[FIRST_PIECE:])
    for token in range(FIRST_BYTE, FIRST_PIECE):
        if names[token] in learned:  # a character of one byte, which is always read as the character
            names[token], kinds[token] = f"<0x{token - FIRST_BYTE:02X}>", UNUSED_TOKEN
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "trillion",  # GPT-2's pattern; by that name, spaces before "?" and "!" would be taken out
        "tokenizer.ggml.tokens": names,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": merges(tokenizer, names),
    }


def _spelled(piece: bytes) -> str:
    return "".join(BYTE_CHARACTERS[byte] for byte in piece)


def _merges_of_characters(tokenizer: Tokenizer, _names: list[str]) -> list[str]:
    """Pairs in the order in which they are merged, "left right"."""
    pieces = map(_spelled, tokenizer.pieces()[FIRST_PIECE:])
    return list(dict.fromkeys(f"{piece[:cut]} {piece[cut]}" for piece in pieces for cut in range(1, len(piece))))


def _merges_of_pairs(tokenizer: Tokenizer, names: list[str]) -> list[str]:
    return [f"{names[left]} {names[right]}" for left, right in tokenizer.vocabulary()["merges"]]


def _pieces(tokenizer: Tokenizer, model: str, names: list[str], scale: float = 1.0) -> dict[str, Value]:
    """Pieces with their scores, times `scale`."""
    scores = [scale * score for _, score in tokenizer.vocabulary()["pieces"]]
    return {
        "tokenizer.ggml.model": model,
        "tokenizer.ggml.tokens": names,
        "tokenizer.ggml.token_type": [CONTROL_TOKEN, *[BYTE_TOKEN] * 256, *[NORMAL_TOKEN] * len(scores)],
        "tokenizer.ggml.scores": [NEVER, *[0.0] * 256, *scores],
        "tokenizer.ggml.add_space_prefix": False,
    }


def _unigrams(tokenizer: Tokenizer) -> dict[str, Value]:
    """The best segmentation is the same for scores that are all scaled, and rounding then changes fewer."""
    largest = max(abs(score) for _, score in tokenizer.vocabulary()["pieces"])
    return _pieces(tokenizer, "plamo2", names_of(tokenizer), MAX_SCORE / (largest or 1.0))


def _bpe_pieces(tokenizer: Tokenizer) -> dict[str, Value]:
    return _pieces(tokenizer, "llama", [name.replace(" ", SPACE_MARK) for name in names_of(tokenizer)])


KINDS: Mapping[str, Kind] = {
    "characters": Kind(lambda tokenizer: _byte_level(tokenizer, _merges_of_characters)),
    "bytes": Kind(lambda tokenizer: _byte_level(tokenizer, _merges_of_characters)),
    "bpe": Kind(lambda tokenizer: _byte_level(tokenizer, _merges_of_pairs)),
    "sentencepiece unigram": Kind(
        _unigrams,
        (
            f"the boundary before a text, which llama.cpp does not put there (write {BOUNDARY_TOKEN} before a prompt)",
            "a byte order mark at the beginning of a text, which llama.cpp drops",
        ),
    ),
    "sentencepiece bpe": Kind(_bpe_pieces, (f"the character {SPACE_MARK} (U+2581): llama.cpp reads a space",)),
}
"""By kind of tokenizer; of SentencePiece, by the type of its model."""
