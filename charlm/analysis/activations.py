"""What single units of a network follow in a text (Karpathy et al. 2016; LSTMVis, Strobelt et al. 2018).

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
"""A unit or a property that varies less than this is constant."""

VECTORS = ("output of the last layer", "hidden state of the last layer", "memory cell of the last layer")
"""What is read, by the number of vectors that a layer carries from one token to the next."""


@dataclass(frozen=True)
class Unit:
    """One unit: its number in the vector from 0, the property of the text that it follows best, their correlation, and
    its value after each character (N,), in standard deviations from its mean.
    """

    number: int
    follows: str
    correlation: float
    values: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Activations:
    """The units of one network that follow a property of the text best, best first, all different.

    `vector` names what the units are part of, `size` is its length H, `characters` the length of text read.
    """

    vector: str
    size: int
    characters: int
    units: tuple[Unit, ...]


def activations(model: LanguageModel, tokenizer: Tokenizer, text: Text, *, count: int = 6) -> Activations:
    """The units whose values correlate best with the `properties` of a text: for each property the best unit.

    A recurrent network is read by its state after each token, any other by what its output layer reads. Raises
    UsageError for a model that is no network, DataError and CheckpointError as `evaluate` does.
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
    """(T,) ids -> (T, H): the state or the features after each of them."""
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
    """Columns of mean 0 and standard deviation 1; constant ones are 0."""
    centred, deviation = values - values.mean(0), values.std(0)
    scaled: Floats = np.where(deviation > MIN_STD, centred / np.maximum(deviation, MIN_STD), 0.0)
    return scaled


def properties(text: str) -> dict[str, Floats]:
    """Simple properties of each character of a text and of what stands before it, by name; each (N,)."""
    rows = {
        "the position in the line": _since(text, "\n"),
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


def _since(text: str, mark: str, most: int = 100) -> list[float]:
    """How many characters ago the mark stood, `most` at most."""
    found, count = [], 0
    for character in text:
        count = 0 if character == mark else min(most, count + 1)
        found.append(float(count))
    return found


def _run_lengths(text: str) -> list[float]:
    """The number of letters and digits without a break up to each character."""
    found, count = [], 0
    for character in text:
        count = count + 1 if character.isalnum() else 0
        found.append(float(count))
    return found


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
