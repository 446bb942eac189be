"""Reading an ARPA file as a model."""

from dataclasses import dataclass
from typing import IO

import numpy as np

from charlm.export.parsing import Arpa, Section
from charlm.export.vocabulary import Vocabulary, vocabulary
from charlm.export.words import NEWLINE, SPACE
from charlm.models.ngram import NGram
from charlm.models.ngram.counting import Integers
from charlm.models.ngram.smoothing import Numbers
from charlm.models.ngram.table import Entries, Unnormalised, tabulate
from charlm.progress import Listener, silent
from charlm.tokenizers import Tokenizer


def read_arpa(
    file: IO[bytes],
    name: str = "ARPA file",
    *,
    space: str = SPACE,
    newline: str = NEWLINE,
    progress: Listener = silent,
) -> tuple[NGram, Tokenizer]:
    """The n-gram in an ARPA file, and the tokenizer that goes with it.

    A file that charlm wrote brings its tokenizer. Any other must be of characters or bytes, spelled as `words` says;
    `space` and `newline` are the words for those two. <unk>'s probability is shared by the bytes that spell all other
    characters. What follows each context is scaled to add up to exactly 1. Raises DataError that says in which line of
    `name` the file is damaged, or is no model of characters.
    """
    arpa = Arpa(file, name, progress)
    sections = arpa.sections()
    singles = next(sections)
    words = vocabulary(arpa, singles.line, space, newline)
    single, unigram = _single(singles, words)
    rows = [single, *(_rows(arpa, section, words) for section in sections)]
    progress("building", 1.0)
    levels = _linked(arpa, rows)
    config = NGram.Config(order=len(levels), smoothing=None)
    try:
        model = tabulate(config, words.tokenizer.vocab_size, words.ids, unigram, levels)
    except Unnormalised as problem:
        line = int(rows[problem.length - 1].line[problem.row]) if problem.length else singles.line
        what = "after this n-gram" if problem.length else "of the 1-grams"
        raise arpa.wrong(f"the probabilities {what} add up to {problem.total:.4g}, not 1", line) from None
    return model.eval(), words.tokenizer


@dataclass(frozen=True)
class _Rows:
    """The M n-grams of one length in lexicographic order."""

    grams: Integers  # (M, length) symbols
    probability: Numbers  # (M,); NaN: not in the file
    backoff: Numbers  # (M,)
    line: Integers  # (M,); 0: not in the file

    def __getitem__(self, rows: Integers) -> "_Rows":
        return _Rows(self.grams[rows], self.probability[rows], self.backoff[rows], self.line[rows])

    def ordered(self) -> "_Rows":
        return self[np.lexsort(self.grams.T[::-1])]

    def and_missing(self, grams: Integers) -> "_Rows":
        """With other n-grams, each once, to which the file gives what the shorter context gives."""
        grams = np.unique(grams, axis=0)
        M = len(grams)
        added = (grams, np.full(M, np.nan), np.ones(M), np.zeros(M, np.int64))
        own = (self.grams, self.probability, self.backoff, self.line)
        return _Rows(*map(np.concatenate, zip(own, added, strict=True))).ordered()


def _single(section: Section, words: Vocabulary) -> tuple[_Rows, Numbers]:
    """The 1-grams, row s being symbol s; and (V,) the probability of every token."""
    A, V = len(words.ids), words.tokenizer.vocab_size
    log, backoff, line = np.full(A + 2, -99.0), np.zeros(A + 2), np.full(A + 2, section.line)
    log[words.symbols], backoff[words.symbols] = section.probability, section.backoff
    line[words.symbols] += np.arange(len(words.symbols))
    log[0] = log[A]  # the boundary is </s> where it is predicted
    probability = _power(log)
    unseen = V - A
    unigram = np.full(V, probability[A + 1] / max(1, unseen))
    unigram[words.ids] = probability[:A]
    grams = np.arange(A)[:, None]
    return _Rows(grams, probability[:A], _power(backoff[:A]), line[:A]), unigram


def _rows(arpa: Arpa, section: Section, words: Vocabulary) -> _Rows:
    """The n-grams of a length beyond 1; </s> becomes the boundary, which it is."""
    A = len(words.ids)
    kind = np.min_scalar_type(A + 1)
    grams = words.symbols.astype(kind)[section.grams]
    for wrong, what in (
        (grams == A + 1, "<unk> inside an n-gram: charlm spells what it does not know in bytes, it has no such symbol"),
        (grams[:, 1:] == 0, "<s> behind the beginning of an n-gram"),
        (grams[:, :-1] == A, "</s> before the end of an n-gram"),
    ):
        if wrong.any():
            raise arpa.wrong(what, section.line + int(np.argmax(wrong.any(1))))
    grams[grams == A] = 0
    line = section.line + np.arange(len(grams))
    return _Rows(grams, _power(section.probability), _power(section.backoff), line).ordered()


def _power(log: Numbers) -> Numbers:
    """10 to the logarithms, those taken as 0 or beyond all bounds from 99 on, as is the custom."""
    result: Numbers = 10.0 ** log.clip(-99, 99)
    return result


def _linked(arpa: Arpa, rows: list[_Rows]) -> list[Entries]:
    """The n-grams of each length, with the rows of those without their last, or first, symbol.

    Of an n-gram that ends another, but is not in the file, the shorter context tells the probability: it is added.
    """
    A = len(rows[0].grams)
    nothing = np.zeros(A, np.int64)
    levels = [Entries(nothing, np.arange(A), nothing, rows[0].probability, rows[0].backoff)]
    keys = [np.arange(A)]  # of each n-gram among those of its length, ascending
    while (length := len(levels)) < len(rows):
        here = rows[length]
        symbol = here.grams[:, -1].astype(np.int64)
        parent: Integers = here.grams[:, 0].astype(np.int64)
        for at in range(1, length):
            parent = _find(keys[at], parent * A + here.grams[:, at])
        if (parent < 0).any():
            what = f"the {length}-gram that this begins with is not in the file"
            raise arpa.wrong(what, int(here.line[parent < 0].min()))
        own = parent * A + symbol
        if (same := np.flatnonzero(own[1:] == own[:-1])).size:
            raise arpa.wrong(f"line {here.line[same[0]]} has the same n-gram", int(here.line[same[0] + 1]))
        suffix = _find(keys[-1], levels[-1].suffix[parent] * A + symbol)
        if (suffix < 0).any():
            rows[length - 1] = rows[length - 1].and_missing(here.grams[suffix < 0, 1:])
            del levels[-1], keys[-1]
            continue
        keys.append(own)
        levels.append(Entries(parent, symbol, suffix, here.probability, here.backoff))
    return levels


def _find(keys: Integers, wanted: Integers) -> Integers:
    """Where each wanted number is among the keys, -1 where it is not."""
    at = np.searchsorted(keys, wanted)
    found = np.append(keys, -1)[at] == wanted
    return np.where(found, at, -1)
