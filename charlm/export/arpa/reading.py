"""Reading an ARPA file as a model.

Symbols: the A tokens that the words of a file stand for, the boundary first; behind them, where they are predicted,
</s> (A), <unk> (A + 1) and <s> (A + 2). Only tokens are contexts: the boundary is <s> there.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np

from charlm.errors import DataError
from charlm.export.arpa.parsing import Arpa, Section
from charlm.export.arpa.unpacking import unpacked
from charlm.export.arpa.vocabulary import Vocabulary, vocabulary
from charlm.models.ngram import NGram
from charlm.models.ngram.smoothing import Estimate, Numbers
from charlm.models.ngram.table import TOLERANCE, Deviation, Entries, normalised, relabelled
from charlm.models.ngram.trie import tensors_of
from charlm.models.ngram.windows import Integers
from charlm.progress import Listener, silent
from charlm.tokenizers import Tokenizer


def read_arpa(
    file: IO[bytes],
    name: str = "ARPA file",
    *,
    space: str | None = None,
    newline: str | None = None,
    renormalize: bool = False,
    progress: Listener = silent,
    on_note: Callable[[str], None] | None = None,
) -> tuple[NGram, Tokenizer]:
    """The n-gram in an ARPA file, packed by gzip, bzip2 or xz or not, and the tokenizer that goes with it.

    A file that charlm wrote brings its tokenizer. Words of any other are characters, bytes or longer pieces of a text,
    spelled as `words` says; `space` and `newline` are the words for those two. `space` is ▁ if it is left open, and
    "" if there is none. `newline` is ⏎ if the file has it; if not, or where it is "</s>", a line feed is read as </s>
    and then <s>: a line is a sentence, and its score KenLM's.

    <unk>'s probability, with what the 1-grams leave of 1, is shared by the bytes that spell all other characters.
    What follows each context is scaled to add up to exactly 1, where `renormalize` allows it by any factor.
    `on_note` is told what of the file the model does not hold, or holds otherwise than one may expect.

    Raises DataError that says in which line of `name` the file is damaged or unfit, UsageError for a word that cannot
    be what it is given as.
    """
    arpa = Arpa(unpacked(file, name), name, progress)
    sections = arpa.sections()
    singles = next(sections)
    words = vocabulary(arpa, singles, space, newline)
    left_out: Counter[str] = Counter()
    rows = [_single(arpa, singles, words), *(_rows(section, words, left_out) for section in sections)]
    arpa.notes += [f"{count:,} n-grams are left out that {what}" for what, count in left_out.items() if count]
    progress("building", 1.0)
    levels = _linked(arpa, rows)
    estimates, deviation = normalised(levels)
    if deviation.contexts:
        _report(arpa, rows, deviation, renormalize)
    unknown = len(words.ids) + 1
    if any((level.symbol == unknown).any() for level in levels[1:]):  # see `_model`: it has at least its 1-gram's share
        estimates, _ = normalised(levels, raised=unknown)
    model = _model(words, levels, estimates)
    if on_note:
        for note in arpa.notes:
            on_note(note)
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


def _single(arpa: Arpa, section: Section, words: Vocabulary) -> _Rows:
    """The 1-grams, row s being symbol s."""
    A = len(words.ids)
    log, backoff, line = np.full(A + 3, -99.0), np.zeros(A + 3), np.full(A + 3, section.line)
    log[words.symbols], backoff[words.symbols] = section.probability, section.backoff
    line[words.symbols] += np.arange(len(words.symbols))
    begin, log[0], backoff[A:] = log[0], -99.0, 0.0
    probability = _power(log)
    total = float(probability.sum())
    if -99 < begin < 0 and total + 10**begin <= 1 + TOLERANCE:  # KenLM has 0 for <s>, SRILM -99, IRSTLM predicts it
        probability[A + 2] = 10**begin
        total += 10**begin
    if total < 1 - TOLERANCE:
        probability[A + 1] += 1 - total
        arpa.notes.append(f"the 1-grams add up to {total:.4g}: characters that are no word get the rest of 1")
    return _Rows(np.arange(A + 3)[:, None], probability, _power(backoff), line)


def _rows(section: Section, words: Vocabulary, left_out: Counter[str]) -> _Rows:
    """The n-grams of a length beyond 1, without those whose context is one that no text has."""
    A = len(words.ids)
    grams = words.symbols.astype(np.min_scalar_type(A + 2))[section.grams]
    last, context = grams[:, -1], grams[:, :-1]
    last[last == 0] = A + 2
    unknown = (context == A + 1).any(1)
    never = (context == A).any(1) | (context[:, 1:] == 0).any(1)
    left_out["go on after <unk>, which charlm spells in bytes"] += int((unknown & ~never).sum())
    left_out["go on after </s>, or have <s> inside: no text has them"] += int(never.sum())
    backoff = np.where(last < A, section.backoff, 0.0)
    line = section.line + np.arange(len(grams))
    return _Rows(grams, _power(section.probability), _power(backoff), line)[np.flatnonzero(~unknown & ~never)].ordered()


def _model(words: Vocabulary, levels: Sequence[Entries], estimates: Sequence[Estimate]) -> NGram:
    """The model of n-grams in which the boundary, never a target, has what is predicted but cannot come in a text."""
    A, V = len(words.ids), words.tokenizer.vocab_size
    become = np.append(np.arange(A), (words.newline or 0, 0, 0))  # of </s>, <unk> and <s>
    mass = estimates[0].mass.copy()
    unknown = float(mass[A + 1])
    if V > A:  # tokens that are no word have <unk>'s probability, which longer contexts only back off to
        mass[A + 1] = 0.0
    first = Estimate(mass, estimates[0].backoff)
    new, tables = relabelled(levels, [first, *estimates[1:]], become, words.newline)
    unigram = np.full(V, unknown / max(1, V - A))
    unigram[words.ids] = tables[0].mass
    config = NGram.Config(order=len(levels), smoothing=None)
    return NGram.from_tensors(config, V, tensors_of(words.ids, new, tables, unigram))


def _report(arpa: Arpa, rows: Sequence[_Rows], deviation: Deviation, renormalize: bool) -> None:
    """Raise, or note, that probabilities do not add up to 1."""
    contexts, length, row, total = deviation
    what = "after this n-gram" if length else "of the 1-grams"
    more = f" (one of {contexts:,} such contexts)" if contexts > 1 else ""
    line = int(rows[length - 1].line[row]) if length else int(rows[0].line.min())
    problem = arpa.wrong(f"the probabilities {what} add up to {total:.4g}, not 1{more}", line)
    if not renormalize:
        raise DataError(f"{problem}: `renormalize=True` scales them")
    arpa.notes.append(f"{problem}: scaled")


def _power(log: Numbers) -> Numbers:
    """10 to the logarithms, those taken as 0 or beyond all bounds from 99 on, as is the custom."""
    result: Numbers = 10.0 ** log.clip(-99, 99)
    return result


def _linked(arpa: Arpa, rows: list[_Rows]) -> list[Entries]:
    """The n-grams of each length, with the rows of those without their last, or first, symbol.

    Of an n-gram that ends another, but is not in the file, the shorter context tells the probability: it is added.
    """
    S = len(rows[0].grams)
    nothing = np.zeros(S, np.int64)
    levels = [Entries(nothing, np.arange(S), nothing, rows[0].probability, rows[0].backoff)]
    keys = [np.arange(S)]  # of each n-gram among those of its length, ascending
    while (length := len(levels)) < len(rows):
        here = rows[length]
        symbol = here.grams[:, -1].astype(np.int64)
        parent: Integers = here.grams[:, 0].astype(np.int64)
        for at in range(1, length):
            parent = _find(keys[at], parent * S + here.grams[:, at])
        if (parent < 0).any():
            what = f"the {length}-gram that this begins with is not in the file"
            raise arpa.wrong(what, int(here.line[parent < 0].min()))
        own = parent * S + symbol
        if (same := np.flatnonzero(own[1:] == own[:-1])).size:
            raise arpa.wrong(f"line {here.line[same[0]]} has the same n-gram", int(here.line[same[0] + 1]))
        suffix = _find(keys[-1], levels[-1].suffix[parent] * S + symbol)
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
    equal = np.append(keys, -1)[at] == wanted
    return np.where(equal, at, -1)
