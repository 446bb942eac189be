"""What the words of an ARPA file are to charlm: which tokenizer has them, and the id of each."""

import json
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from charlm.config import BOUNDARY
from charlm.errors import CheckpointError, DataError
from charlm.export.parsing import Arpa, shown
from charlm.export.words import BEGIN, END, SPECIAL, meaning, spelled, words
from charlm.models.ngram.counting import Integers
from charlm.tokenizers import TOKENIZERS, Tokenizer
from charlm.tokenizers.base import FILE
from charlm.tokenizers.bytes import Bytes
from charlm.tokenizers.characters import Characters

COMMENT = b"# tokenizer "  # begins the line before \data\ that holds what a tokenizer needs


class Vocabulary(NamedTuple):
    """W words, and the A symbols that they stand for: tokens in the order of their ids, the boundary first."""

    tokenizer: Tokenizer
    ids: Integers  # (A,) the token of each symbol
    symbols: Integers  # (W,) the symbol of each word; that of <s> is 0, of </s> A, of <unk> A + 1


def comment(tokenizer: Tokenizer) -> bytes:
    """A line, for the head of a file, from which `vocabulary` makes the tokenizer."""
    (content,) = tokenizer.files().values()
    return COMMENT + content


def vocabulary(arpa: Arpa, line: int, space: str, newline: str) -> Vocabulary:
    """Of a file whose 1-grams begin at this line. Raises DataError for a word that has no id, or the id of another."""

    def wrong(number: int, what: str) -> DataError:
        return arpa.wrong(f"{shown(list(arpa.words)[number])} {what}", line + number)

    names: list[str] = []
    for number, word in enumerate(arpa.words):
        try:
            names.append(word.decode())
        except UnicodeDecodeError:
            raise wrong(number, "is not UTF-8; convert the file first") from None
    tokenizer = _brought(arpa)
    missing = "is no word of the tokenizer in this file's head"
    if tokenizer is None:
        meanings = {name: meaning(name, space, newline) for name in names if name not in SPECIAL}
        tokenizer = _tokenizer(meanings.values())
        names = [spelled(meanings[name]) if name in meanings else name for name in names]
        missing = "is longer than a character: only n-grams of characters can be imported (see --space, --newline)"
    V = tokenizer.vocab_size
    known = {word: token for token, word in enumerate(words(tokenizer))}
    known |= {name: V + (name != END) for name in SPECIAL if name != BEGIN}
    tokens = np.array([known.get(name, -1) for name in names])
    if (tokens < 0).any():
        raise wrong(int(np.argmin(tokens)), missing)
    ids, first = np.unique(np.append(tokens, (BOUNDARY, V, V + 1)), return_index=True)
    if (others := np.setdiff1d(np.arange(len(tokens)), first)).size:
        raise wrong(int(others[0]), "stands for the same as another word")
    return Vocabulary(tokenizer, ids[:-2], np.searchsorted(ids, tokens))


def _brought(arpa: Arpa) -> Tokenizer | None:
    """The tokenizer in the head, if there is one."""
    for line, text in arpa.head:
        if text.startswith(COMMENT):
            content = text.removeprefix(COMMENT) + b"\n"
            try:
                return TOKENIZERS[json.loads(content)["kind"]].from_files({FILE: content})
            except (ValueError, KeyError, TypeError, RecursionError, CheckpointError):
                raise arpa.wrong("the tokenizer in this comment is damaged; get an intact copy", line) from None
    return None


def _tokenizer(meanings: Iterable[str | int]) -> Tokenizer:
    """The tokenizer of these characters and bytes: all else it spells in bytes, as any tokenizer does."""
    characters = sorted(ord(what) for what in meanings if isinstance(what, str) and len(what) == 1)
    ascii_bytes = [what for what in meanings if isinstance(what, int) and what < 0x80]
    seen = np.unique(np.array([*characters, *ascii_bytes], np.int64))
    spelled_out = any(isinstance(what, int) for what in meanings)
    if spelled_out and not characters:
        return Bytes((), seen)
    return Characters(np.unique(np.array(characters, np.int64)), seen)
