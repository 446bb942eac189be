"""Writing a model as an ARPA file."""

from collections.abc import Iterable, Sequence
from typing import IO

import numpy as np
import numpy.typing as npt

from charlm import __version__
from charlm.config import BOUNDARY
from charlm.errors import UsageError
from charlm.export.arpa.vocabulary import comment
from charlm.export.arpa.words import LEGEND, SENTENCE_END, UNKNOWN_WORD, words
from charlm.export.fit import Fit
from charlm.models import LanguageModel
from charlm.models.ngram import NGram
from charlm.models.ngram.smoothing import Numbers
from charlm.models.ngram.table import entries
from charlm.models.ngram.windows import Integers
from charlm.progress import Listener, silent
from charlm.tokenizers import Tokenizer

ROWS = 1 << 14  # lines made at a time
DECIMALS = 8  # of log10, more than a float32 holds; as two groups of four
LOG_OF_ZERO = -99.0  # the logarithm of 0, as others write it

TAB_BYTE, LINE_FEED_BYTE = np.frombuffer(b"\t\n", np.uint8)

Characters = npt.NDArray[np.uint8]
Names = npt.NDArray[np.bytes_]


def _fours(texts: Iterable[str]) -> npt.NDArray[np.uint32]:
    """Texts of up to four characters, each as one word of 32 bits, zeros behind what is shorter."""
    return np.array([text.encode() for text in texts], "S4").view(np.uint32)


FOUR = _fours(f"{number:04}" for number in range(10**4))
WHOLE = _fours(f"{sign}{number}." for sign in ("", "-") for number in range(100))
ZERO_TEXT = _fours(("0", "", ""))


def fit(model: LanguageModel) -> Fit:
    """An n-gram without its cache. Raises UsageError for a model that is not an n-gram."""
    ngram = _ngram(model)
    lost = ("the cache: what it counts in the text that it reads",) if ngram.adapts else ()
    return Fit("an n-gram in the ARPA format", lost, ngram.frozen())


def _ngram(model: LanguageModel) -> NGram:
    if not isinstance(model, NGram) or not len(model.ids):
        raise UsageError("only a fitted n-gram can be written as an ARPA file: this model has no n-grams")
    return model


def write_arpa(model: LanguageModel, tokenizer: Tokenizer, file: IO[bytes], progress: Listener = silent) -> None:
    """Write an n-gram as an ARPA file that `read_arpa`, KenLM and others read.

    A comment on top holds the tokenizer; `words` says how ids are spelled. <unk> has the probability of all ids that
    the model has never seen, together. Raises UsageError for a model that is not an n-gram.
    A model's cache is left out.
    """
    model = _ngram(model).cpu()
    ids = model.ids.tolist()
    sizes = model.levels.diff().tolist()
    sizes[0] += 2  # </s> and <unk>
    file.write(f"# charlm {__version__}: {len(sizes)}-grams of {tokenizer.kind}; {LEGEND}\n".encode())
    file.write(comment(tokenizer) + b"\\data\\\n")
    file.writelines(b"ngram %d=%d\n" % numbers for numbers in enumerate(sizes, 1))
    spelled = words(tokenizer)
    names = np.array([f" {name}".encode() for name in (*(spelled[token] for token in ids), SENTENCE_END, UNKNOWN_WORD)])
    grams: Integers = np.zeros((1, 0), np.min_scalar_type(len(names)))
    done = 0
    for length, level in enumerate(entries(model), 1):
        grams = np.column_stack((grams[level.parent], level.symbol.astype(grams.dtype)))  # (M, length)
        written = _predicting(grams, ids.index(BOUNDARY), len(ids))
        logs = [np.log10(level.probability), np.log10(level.backoff)]
        if length == 1:
            written, logs = _with_specials(written, logs, model, ids)
        file.write(f"\n\\{length}-grams:\n".encode())
        for first in range(0, len(written), ROWS):
            progress(f"writing {length}-grams", (done + first) / sum(sizes))
            rows = slice(first, first + ROWS)
            file.write(_lines(names, written[rows], *(log[rows] for log in logs[: 1 + (length < len(sizes))])))
        done += len(written)
    file.write(b"\n\\end\\\n")


def _predicting(grams: Integers, boundary: int, end: int) -> Integers:
    """The n-grams with </s> for the boundary where it is predicted, and not, as <s>, where a text begins."""
    if grams.shape[1] == 1:
        return grams
    written = grams.copy()
    written[grams[:, -1] == boundary, -1] = end
    return written


def _with_specials(
    grams: Integers, logs: Sequence[Numbers], model: NGram, ids: Sequence[int]
) -> tuple[Integers, list[Numbers]]:
    """The 1-grams and behind them </s> and <unk>; <s>, which is never predicted, has a logarithm of 0, as in KenLM."""
    unseen = 1.0 - np.isin(np.arange(model.vocab_size), ids)
    unigram = model.unigram.double().numpy()
    unknown = float(unigram @ unseen)
    probability = np.append(logs[0], (np.log10(unigram[BOUNDARY]), np.log10(unknown) if unknown else LOG_OF_ZERO))
    probability[ids.index(BOUNDARY)] = 0.0
    return np.append(grams, np.array([[len(ids)], [len(ids) + 1]], grams.dtype), 0), [
        probability,
        np.append(logs[1], (0, 0)),
    ]


def _lines(names: Names, grams: Integers, *logs: Numbers) -> bytes:
    """M lines: the first logarithm, the words, the second logarithm if there is one."""
    spelled = names[grams].view(np.uint8)  # (M, ..), each name after a space
    spelled[:, 0] = TAB_BYTE
    columns = [_decimals(logs[0]), spelled]
    for log in logs[1:]:
        columns += [np.full((len(grams), 1), TAB_BYTE), _decimals(log)]
    table = np.concatenate([*columns, np.full((len(grams), 1), LINE_FEED_BYTE)], axis=1)
    return table.tobytes().translate(None, b"\0")


def _decimals(numbers: Numbers) -> Characters:
    """(M,) -> (M, 12): sign, two digits, point, eight decimals; zeros for what is not written."""
    rounded = np.rint(np.abs(numbers) * 10**DECIMALS).clip(max=100 * 10**DECIMALS - 1).astype(np.int64)
    whole, rest = rounded // 10**DECIMALS, (rounded % 10**DECIMALS).astype(np.uint32)
    written = np.stack((WHOLE[whole + 100 * (numbers < 0)], FOUR[rest // 10**4], FOUR[rest % 10**4]), axis=1)
    written[rounded == 0] = ZERO_TEXT
    return written.view(np.uint8)
