"""What the words of an ARPA file are to charlm: which tokenizer has them, and the id of each."""

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from charlm.config import BOUNDARY
from charlm.errors import CheckpointError, UsageError
from charlm.export.arpa.parsing import Arpa, Section, quoted
from charlm.export.arpa.words import (
    NEWLINE_MARK,
    SENTENCE_BEGIN,
    SENTENCE_END,
    SPACE_MARK,
    SPECIAL,
    meaning,
    spelled,
    words,
)
from charlm.models.ngram.windows import Integers
from charlm.tokenizers import TOKENIZERS, Tokenizer
from charlm.tokenizers.base import TOKENIZER_FILE
from charlm.tokenizers.bytes import Bytes
from charlm.tokenizers.characters import Characters
from charlm.tokenizers.sentencepiece import SentencePiece, carried

COMMENT = b"# tokenizer "  # begins the line before \data\ that holds what a tokenizer needs
SELDOM = 20.0  # nats that a character which is no word is less probable than the rarest word, where a text is cut


class Vocabulary(NamedTuple):
    """W words, and the A symbols that they stand for: tokens in the order of their ids, the boundary first."""

    tokenizer: Tokenizer
    ids: Integers  # (A,) the token of each symbol
    symbols: Integers  # (W,) the symbol of each word; that of <s> is 0, of </s> A, of <unk> A + 1
    newline: int | None  # the symbol of a line feed that is </s> and then <s>; None: a word of its own, or none


def comment(tokenizer: Tokenizer) -> bytes:
    """A line, for the head of a file, from which `vocabulary` makes the tokenizer."""
    (content,) = tokenizer.files().values()
    return COMMENT + content


def vocabulary(arpa: Arpa, singles: Section, space: str | None, newline: str | None) -> Vocabulary:
    """Of a file with these 1-grams. What `space` and `newline` are, `read_arpa` says.

    Raises DataError for a word that has no id, or the id of another; UsageError for options that the file rules out.
    """
    names = _decoded(arpa, singles.line)
    _check_option(arpa, "space", space, names)
    _check_option(arpa, "newline", newline, names)
    tokenizer = _brought(arpa)
    if tokenizer:
        for option, word in (("space", space), ("newline", newline)):
            if word is not None:
                raise UsageError(
                    f"has no effect: {arpa.name} brings its own tokenizer, which says it; leave it out", option
                )
        return _numbered(arpa, singles.line, tokenizer, names, ends_lines=False)
    if space is not None and space == newline:
        raise UsageError(f"and `newline` are both {space!r}: one word cannot stand for two characters", "space")
    of_space, of_newline = (SPACE_MARK if space is None else space), (NEWLINE_MARK if newline is None else newline)
    meanings = {name: meaning(name, of_space, of_newline) for name in names if name not in SPECIAL}
    ends_lines = newline == SENTENCE_END or (SENTENCE_END in names and not _any_holds(meanings, "\n"))
    if any(isinstance(what, str) and len(what) > 1 for what in meanings.values()):
        tokenizer = _pieces(arpa, singles, meanings, space, ends_lines)
    else:
        tokenizer = _characters(meanings, ends_lines)
    arpa.notes += _notes(meanings, space, newline, ends_lines)
    own = [spelled(meanings[name]) if name in meanings else name for name in names]
    return _numbered(arpa, singles.line, tokenizer, own, ends_lines=ends_lines)


def _decoded(arpa: Arpa, line: int) -> list[str]:
    names: list[str] = []
    for number, word in enumerate(arpa.words):
        try:
            names.append(word.decode())
        except UnicodeDecodeError:
            raise arpa.wrong(f"{quoted(word)} is not UTF-8; convert the file first", line + number) from None
    return names


def _check_option(arpa: Arpa, option: str, word: str | None, names: Sequence[str]) -> None:
    if word is None or (option, word) == ("space", ""):
        return
    if word in SPECIAL and (option, word) != ("newline", SENTENCE_END):
        raise UsageError(f"{word}: that is never a character of a text; name the word that stands for one", option)
    if word not in names:
        raise UsageError(f"{word!r}: {arpa.name} has no such word; name one of its 1-grams", option)


def _brought(arpa: Arpa) -> Tokenizer | None:
    """The tokenizer in the head, if there is one."""
    for line, text in arpa.head:
        if text.startswith(COMMENT):
            content = text.removeprefix(COMMENT) + b"\n"
            try:
                return TOKENIZERS[json.loads(content)["kind"]].from_files({TOKENIZER_FILE: content})
            except (ValueError, KeyError, TypeError, RecursionError, CheckpointError):
                raise arpa.wrong("the tokenizer in this comment is damaged; get an intact copy", line) from None
    return None


def _any_holds(meanings: Mapping[str, str | int], character: str) -> bool:
    """Whether a word is this ASCII character, or holds it."""
    return any(what == ord(character) if isinstance(what, int) else character in what for what in meanings.values())


def _characters(meanings: Mapping[str, str | int], ends_lines: bool) -> Tokenizer:
    """The tokenizer of these characters and bytes: all else it spells in bytes, as any tokenizer does."""
    characters = {ord(what) for what in meanings.values() if isinstance(what, str)}
    spelled_out = [what for what in meanings.values() if isinstance(what, int)]
    newline = {ord("\n")} if ends_lines else set()
    seen = np.array(sorted(characters | newline | {what for what in spelled_out if what < 0x80}), np.int64)
    if spelled_out and not characters:
        return Bytes((), seen)
    return Characters(np.array(sorted(characters | newline), np.int64), seen)


def _pieces(
    arpa: Arpa, singles: Section, meanings: Mapping[str, str | int], space: str | None, ends_lines: bool
) -> Tokenizer:
    """The tokenizer of words longer than a character: it cuts a text where the 1-grams make it most probable.

    A character that occurs in longer words only gets an id as well, so that every text of these characters can be cut.
    """
    scores: dict[str, float] = {}
    spaced = space is not None or _any_holds(meanings, " ")
    for row, (word, log10) in enumerate(zip(arpa.words, singles.probability.clip(-99).tolist(), strict=True)):
        what = meanings.get(word.decode(), 0)
        if isinstance(what, int):
            continue
        if len(what) > 1 and not spaced:
            raise arpa.wrong(
                f"{quoted(word)} is longer than a character, and no word is a space: whole words do not say what "
                "stands between them. Name the space (`space=WORD`; '' if a text has none)",
                singles.line + row,
            )
        if not all(map(carried, what)):
            odd = next(character for character in what if not carried(character))
            raise arpa.wrong(
                f"U+{ord(odd):04X} cannot be in a vocabulary with words of several characters", singles.line + row
            )
        scores[what] = log10 * np.log(10)
    if ends_lines:
        scores["\n"] = 0.0  # nothing else begins or ends with it
    rare = min(scores.values()) - SELDOM
    scores |= dict.fromkeys(set("".join(scores)) - set(scores), rare)
    spelled_out = {what for what in meanings.values() if isinstance(what, int) and what < 0x80}
    seen = np.array(sorted({*map(ord, "".join(scores)), *spelled_out}), np.int64)
    return SentencePiece([(text, float(np.float32(scores[text]))) for text in sorted(scores)], "unigram", seen)


def _numbered(arpa: Arpa, line: int, tokenizer: Tokenizer, names: Sequence[str], *, ends_lines: bool) -> Vocabulary:
    """The symbols of words spelled as charlm spells them."""
    V = tokenizer.vocab_size
    known = {word: token for token, word in enumerate(words(tokenizer))}
    known |= {name: V + (name != SENTENCE_END) for name in SPECIAL if name != SENTENCE_BEGIN}
    tokens = np.array([known.get(name, -1) for name in names])
    if (tokens < 0).any():
        number = int(np.argmin(tokens))
        word = quoted(list(arpa.words)[number])
        raise arpa.wrong(f"{word} is no word of the tokenizer in this file's head", line + number)
    newline = tokenizer.encode("\n").tolist() if ends_lines else []  # one id
    others = [BOUNDARY, *newline, V, V + 1]
    ids, first = np.unique(np.append(tokens, others), return_index=True)
    twice = np.setdiff1d(np.arange(len(tokens)), first)
    if twice.size or np.isin(newline, tokens).any():
        number = int(twice[0]) if twice.size else tokens.tolist().index(newline[0])
        raise arpa.wrong(f"{quoted(list(arpa.words)[number])} stands for the same as another word", line + number)
    symbol = int(np.searchsorted(ids, newline[0])) if newline else None
    return Vocabulary(tokenizer, ids[:-2], np.searchsorted(ids, tokens), symbol)


def _notes(meanings: Mapping[str, str | int], space: str | None, newline: str | None, ends_lines: bool) -> list[str]:
    """What the user may not expect of these words."""
    notes = []
    longer = [name for name, what in meanings.items() if isinstance(what, str) and len(what) > 1]
    if longer:
        some = ", ".join(map(repr, longer[:3])) + ", …" * (len(longer) > 3)
        notes.append(
            f"{len(longer):,} of {len(meanings):,} words are longer than a character ({some}): "
            "a text is cut into words as the 1-grams make it most probable"
        )
    if space is None and not _any_holds(meanings, " "):
        notes.append("no word stands for a space, which is spelled as an unknown character: see `space`")
    if newline is None and ends_lines:
        notes.append(
            "no word stands for a line feed: each line is a sentence, its end </s> and then <s>; see `newline`"
        )
    elif newline is None and not _any_holds(meanings, "\n"):
        notes.append("no word stands for a line feed, which is spelled as an unknown character: see `newline`")
    return notes
