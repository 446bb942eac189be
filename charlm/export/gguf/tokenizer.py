"""A tokenizer as llama.cpp's byte-level BPE, in which every id keeps its number.

A token is written as the characters that GPT-2 has for its bytes. A character of several bytes is merged from them:
from the first two, then with each byte that follows. So characters and bytes are kinds of BPE, and every text has the
ids that charlm gives it.
"""

from charlm.config import BOUNDARY
from charlm.errors import UsageError
from charlm.export.gguf.file import Value
from charlm.export.huggingface.tokenizer import BOUNDARY_TOKEN, BYTE_CHARACTERS
from charlm.tokenizers import FIRST_BYTE, FIRST_PIECE, Tokenizer

NORMAL_TOKEN, CONTROL_TOKEN, UNUSED_TOKEN = 1, 3, 5  # kinds of tokens
TOKENIZER_KINDS = ("characters", "bytes", "bpe")
"""The tokenizers that byte-level BPE holds."""


def tokenizer_values(tokenizer: Tokenizer) -> dict[str, Value]:
    """What a GGUF file says of its tokenizer. Raises UsageError for SentencePiece, whose spaces llama.cpp rewrites."""
    if tokenizer.kind not in TOKENIZER_KINDS:
        raise UsageError(
            f"{tokenizer.kind}: a GGUF file has no place for it; train with a tokenizer of characters or bytes"
        )
    names = [_spelled(piece) for piece in tokenizer.pieces()]
    kinds = [NORMAL_TOKEN] * len(names)
    names[BOUNDARY], kinds[BOUNDARY] = BOUNDARY_TOKEN, CONTROL_TOKEN
    learned = set(names[FIRST_PIECE:])
    for token in range(FIRST_BYTE, FIRST_PIECE):
        if names[token] in learned:  # a character of one byte, which is always read as the character
            names[token], kinds[token] = f"<0x{token - FIRST_BYTE:02X}>", UNUSED_TOKEN
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": names,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": _merges(tokenizer, names),
        "tokenizer.ggml.bos_token_id": BOUNDARY,
        "tokenizer.ggml.eos_token_id": BOUNDARY,
        "tokenizer.ggml.padding_token_id": BOUNDARY,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": False,
    }


def _spelled(piece: bytes) -> str:
    return "".join(BYTE_CHARACTERS[byte] for byte in piece)


def _merges(tokenizer: Tokenizer, names: list[str]) -> list[str]:
    """Pairs in the order in which they are merged, "left right"."""
    if tokenizer.kind == "bpe":
        return [f"{names[left]} {names[right]}" for left, right in tokenizer.vocabulary()["merges"]]
    pieces = map(_spelled, tokenizer.pieces()[FIRST_PIECE:])
    return list(dict.fromkeys(f"{piece[:cut]} {piece[cut]}" for piece in pieces for cut in range(1, len(piece))))
