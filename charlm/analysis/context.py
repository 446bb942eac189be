"""How much context a model uses: bits per character when it sees only the last few characters."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from charlm.analysis.surprisal import Reading
from charlm.evaluation.scoring import windowed_token_bits
from charlm.models.base import CountingModel, LanguageModel
from charlm.progress import Listener, silent
from charlm.tokenizers.base import Tokenizer

CONTEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class ContextPoint(NamedTuple):
    """Bits per character of a model that sees only the last `context` characters, from a sample of `characters`.

    `error` is its standard error; 0 if the sample is the whole text.
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

    The sample is spread evenly over the text. The mean difference between its bits at this context and with all of it
    is added to the figure of the whole text (a difference estimator: Cochran 1977, "Sampling Techniques", 7.8, with
    slope 1). So the curve ends at the reported figure, and a sample of the whole text gives the figure of `evaluate`.
    By default 65,536 tokens are read, or four times as many by a counting model, which is faster. Raises UsageError
    for a context below 1, TrainingFault as `evaluate` does.
    """
    tokens = tokens or (1 << 18 if isinstance(model, CountingModel) else 1 << 16)
    begun = tokenizer.characters_begun
    K, N = len(reading.ids), reading.text.characters
    points = []
    contexts = [context for context in contexts if context < N or context == contexts[0]]
    for number, context in enumerate(contexts):
        size = min(K, max(1, tokens // max(1, context * K // N)))
        sampled = (2 * np.arange(size) + 1) * K // (2 * size)
        bits = np.concatenate(list(windowed_token_bits(model, tokenizer, reading.ids, context, sampled)))
        extra = bits - reading.token_bits[sampled]
        bits_per_character = (reading.bits + float(extra.mean()) * K) / N
        error = float(extra.std()) * K / N * ((1 / size - 1 / K) ** 0.5)
        points.append(ContextPoint(context, bits_per_character, int(begun[reading.ids[sampled]].sum()), error))
        progress("context", (number + 1) / len(contexts))
    return tuple(points)
