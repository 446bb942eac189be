"""Units of a network that correlate with properties of a text (Karpathy et al. 2016; LSTMVis, Strobelt et al. 2018).

Shapes: N characters, T tokens, H units.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from charlm.analysis.surprisal import Floats, places
from charlm.config import BOUNDARY
from charlm.corpus import Stream, Text
from charlm.errors import UsageError
from charlm.evaluation.walk import ids_of
from charlm.inference import reading
from charlm.models.base import LanguageModel, Network, device_of
from charlm.models.recurrent import Recurrent
from charlm.tokenizers.base import Tokenizer

MIN_STD = 1e-6
"""A unit or a property with a smaller standard deviation is treated as constant."""

VECTORS = ("output of the last layer", "hidden state of the last layer", "memory cell of the last layer")
"""The vector analysed, by the number of vectors in the state of a layer."""


@dataclass(frozen=True)
class Unit:
    """One unit, and the property of the text with which it correlates best."""

    number: int  # its index in the vector
    follows: str  # the name of the property
    correlation: float
    values: npt.NDArray[np.float32]  # (N,): its value after each character, in standard deviations from its mean


@dataclass(frozen=True)
class Activations:
    """The different units of one network with the highest correlations, highest first.

    `vector` is the name of the vector of the units, `size` its length H, `characters` the length of the text.
    """

    vector: str
    size: int
    characters: int
    units: tuple[Unit, ...]


def activations(model: LanguageModel, tokenizer: Tokenizer, text: Text, *, count: int = 6) -> Activations:
    """The units whose values correlate best with the `properties` of a text: for each property the best unit.

    The units are those of the state of a recurrent network, or of the input of the output layer of any other network.
    Raises UsageError for a model that is no network, DataError and CheckpointError as `evaluate` does.
    """
    if not isinstance(model, Network):
        raise UsageError(
            f"{type(model).__name__} has no units; inspect an rnn, gru, lstm, transformer or feedforward run"
        )
    ids = ids_of(model, tokenizer, text)
    values = _vectors(model, ids)  # (T, H)
    first, _ = places(tokenizer, ids)
    last_token = np.searchsorted(first, np.arange(text.characters), side="right") - 1  # of each character
    values = values[last_token]
    scaled = _standardised(values)  # (N, H)
    units = list[Unit]()
    for name, values_of_property in properties(text.read()).items():
        follows = _standardised(values_of_property[:, None])[:, 0]
        correlations = scaled.T @ follows / text.characters  # (H,)
        best = int(np.abs(correlations).argmax())
        units.append(Unit(best, name, float(correlations[best]), scaled[:, best].astype(np.float32)))
    units.sort(key=lambda unit: -abs(unit.correlation))
    distinct = {unit.number: unit for unit in reversed(units) if unit.correlation}
    chosen = sorted(distinct.values(), key=lambda unit: -abs(unit.correlation))[:count]
    kind = model.carried if isinstance(model, Recurrent) else 0
    return Activations(VECTORS[min(kind, 2)], values.shape[1], text.characters, tuple(chosen))


@torch.inference_mode()
def _vectors(model: Network, ids: Stream) -> Floats:
    """(T,) ids -> (T, H): the state or the features after each id."""
    stream = np.concatenate([[BOUNDARY], ids], dtype=np.int64)
    tokens = torch.from_numpy(stream).to(device_of(model))[None]
    state, rows = model.initial_state(1), list[torch.Tensor]()
    with reading(model):
        if isinstance(model, Recurrent):
            for n in range(tokens.shape[1]):
                _, state = model.features(tokens[:, n : n + 1], state)
                rows.append(state[-1])
        else:
            for part in torch.split(tokens, model.chunk, dim=1):
                features, state = model.features(part, state)
                rows.append(features[0])
    return torch.cat(rows)[1:].double().cpu().numpy()


def _standardised(values: Floats) -> Floats:
    """Columns scaled to mean 0 and standard deviation 1; constant columns become 0."""
    centred, deviation = values - values.mean(0), values.std(0)
    scaled: Floats = np.where(deviation > MIN_STD, centred / np.maximum(deviation, MIN_STD), 0.0)
    return scaled


def properties(text: str) -> dict[str, Floats]:
    """Simple properties of each character of a text and of its left context, by name; each (N,)."""
    rows = {
        "the position in the line": list(_distances(text, "\n")),
        "the position in the word": [min(n, 12) for n in _run_lengths(text)],
        "text inside brackets": list(_depths(text)),
        'text inside "quotation marks"': list(_quoted(text)),
        "spaces and line ends": [float(c.isspace()) for c in text],
        "vowels": [float(c.lower() in "aeiou") for c in text],
        "capital letters": [float(c.isupper()) for c in text],
        "digits": [float(c.isdigit()) for c in text],
        "punctuation": [float(not c.isalnum() and not c.isspace()) for c in text],
    }
    return {name: np.array(row, dtype=np.float64) for name, row in rows.items()}


def _distances(text: str, character: str, maximum: int = 100) -> Iterator[float]:
    """The distance from each place back to the last `character`, at most `maximum`."""
    count = 0
    for current in text:
        count = 0 if current == character else min(maximum, count + 1)
        yield float(count)


def _run_lengths(text: str) -> Iterator[float]:
    """The length of the run of letters and digits that ends with each character."""
    count = 0
    for character in text:
        count = count + 1 if character.isalnum() else 0
        yield float(count)


def _depths(text: str) -> Iterator[float]:
    """1 inside ( [ { and their counterparts, 0 outside; an empty line closes all."""
    depth, before = 0, ""
    for character in text:
        depth = max(0, depth + (character in "([{") - (character in ")]}"))
        depth = 0 if character == before == "\n" else depth
        before = character
        yield float(depth > 0)


def _quoted(text: str) -> Iterator[float]:
    """1 between a pair of quotation marks, 0 outside; an empty line closes them."""
    inside, before = False, ""
    for character in text:
        inside = (inside != (character == '"') or character == "“") and character != "”"
        inside = inside and not character == before == "\n"
        before = character
        yield float(inside)
