"""What each kind of context saves at one place: the difference that it makes to leave out its inputs of the mixers."""

import numpy as np

from charlm.models.contexts.carried import CARRIED
from charlm.models.contexts.model import STATIC, Contexts
from charlm.models.contexts.reader import Outputs, Reader
from charlm.models.contexts.tables import CONTEXTS, Array, Trust

KINDS_OF_CONTEXT = {  # and the numbers of the contexts, see `hashing`; the last is the match
    "the last 1 to 3 characters": (1, 2, 3),
    "the last 4 to 8 characters": (4, 5, 6, 7),
    "some of the last five characters": (13, 14, 15, 16, 17, 18),
    "the word so far and those before it": (8, 9, 10, 11, 12, 25),
    "upper and lower case, letters and digits": (27, 28, 29, 36),
    "this line so far": (23, 24, 26),
    "the lines above": (19, 20, 21, 22),
    "what followed where the text was alike": (30, 31, 32, 33, 34, 35),
    "the longest match": (CONTEXTS,),
}


def nats_by_kind(model: Contexts, tokens: Array, target: int) -> dict[str, float]:
    """The nats that each of KINDS_OF_CONTEXT saves in predicting `target` after tokens (T,), which begin with 0.

    They are those of the model as training left it, and need not add up: contexts know much of the same.
    """
    reader = _static(model)
    ids = tokens[None].astype(np.int64)
    nothing = _outputs(reader, np.zeros((1, 0), np.int32))
    start = np.zeros((1, 0), np.int32), np.zeros((1, CARRIED), np.int64)
    history, carried = reader.read(*start, ids[:, :-1], nothing)

    def log_prob(by: Reader) -> float:
        code = min(int(reader.vocabulary.codes[target]), len(reader.vocabulary.ids))
        outputs = _outputs(reader, np.array([[code]], np.int32))
        by.read(history, carried, ids[:, -1:], outputs)
        return float(outputs.scores[0, 0])

    whole = log_prob(reader)
    return {name: whole - log_prob(_without(reader, contexts)) for name, contexts in KINDS_OF_CONTEXT.items()}


def _static(model: Contexts) -> Reader:
    """What reads by the model as training left it, as `Contexts.frozen` does, with the tables of `model.reader`."""
    trust = Trust(*(model.get_buffer(STATIC + name).cpu().numpy() for name in Trust._fields))
    return Reader(model.reader.vocabulary, trust, model.reader.base)


def _without(reader: Reader, contexts: tuple[int, ...]) -> Reader:
    """The same without the inputs of some contexts: two each, after the constant those of the match."""
    weights = reader.trust.weights.copy()
    for context in contexts:
        first = 2 * context + (context == CONTEXTS)
        weights[:, first : first + 2] = 0
    return Reader(reader.vocabulary, reader.trust._replace(weights=weights), reader.base)


def _outputs(reader: Reader, targets: Array) -> Outputs:
    rows = np.zeros((1, 0, len(reader.vocabulary.ids) + 1), np.float32)
    return Outputs(targets, np.zeros(targets.shape, np.float32), rows)
