"""How much of the text before a character a model makes use of: its bits when it may see only the last few."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from charlm.analysis.surprisal import Reading
from charlm.evaluation.scoring import characters_of, windowed_token_bits
from charlm.models.base import CountingModel, LanguageModel
from charlm.progress import Listener, silent
from charlm.tokenizers.base import Tokenizer

CONTEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class ContextPoint(NamedTuple):
    """What a text costs a model that sees only the last `context` characters, as told by a sample of `characters`.

    `error` is the standard error of that, in bits per character; 0 where the sample is all of the text.
    """

    context: int
    bits_per_character: float
    characters: int
    error: float


def context_curve(
    model: LanguageModel,
    tokenizer: Tokenizer,
    reading: Reading,
    contexts: Sequence[int] = CONTEXTS,
    *,
    tokens: int | None = None,
    progress: Listener = silent,
) -> tuple[ContextPoint, ...]:
    """`evaluate(context=C)` for several C below the text's length, each from a sample for which `tokens` are read.

    The sample is spread evenly over the text and asked how much more it costs at this context than with all of it; that
    is added to the figure of the whole text (a difference estimator: Cochran 1977, "Sampling Techniques", 7.8, with
    slope 1). So the curve ends in the reported figure, and where the sample is all of the text it is the evaluation's.
    By default 65,536 tokens are read, and four times as many by a model that counts, which is quicker. Raises
    UsageError for a context below 1, TrainingFault as `evaluate` does.
    """
    tokens = tokens or (1 << 18 if isinstance(model, CountingModel) else 1 << 16)
    begun, _ = characters_of(tokenizer)
    K, N = len(reading.ids), reading.text.characters
    found = []
    contexts = [context for context in contexts if context < N or context == contexts[0]]
    for number, context in enumerate(contexts):
        size = min(K, max(1, tokens // max(1, context * K // N)))
        asked = (2 * np.arange(size) + 1) * K // (2 * size)
        bits = np.concatenate(list(windowed_token_bits(model, tokenizer, reading.ids, context, asked)))
        more = bits - reading.token_bits[asked]
        figure = (reading.bits + float(more.mean()) * K) / N
        error = float(more.std()) * K / N * ((1 / size - 1 / K) ** 0.5)
        found.append(ContextPoint(context, figure, int(begun[reading.ids[asked]].sum()), error))
        progress("context", (number + 1) / len(contexts))
    return tuple(found)
