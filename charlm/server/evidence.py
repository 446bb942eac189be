"""What a model's own parts say of a prediction: gradients, attention, contexts that were counted, members' weights.

Lists over characters begin with the nearest one before the place. Shapes: K members, V vocabulary.
"""

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from charlm.analysis.attention import attention_maps
from charlm.analysis.embeddings import tables_of
from charlm.analysis.gradients import gradient_times_input
from charlm.analysis.surprisal import character_bits
from charlm.config import BOUNDARY
from charlm.inference import reading
from charlm.models.base import LanguageModel, device_of
from charlm.models.contexts import Contexts
from charlm.models.mixture import Mixture
from charlm.models.ngram import NGram
from charlm.models.transformer import Transformer
from charlm.server.expect import Ids
from charlm.server.library import ServedModel

MAX_ATTENDED_CHARACTERS = 120  # which `attention_maps` reads, however they are spelled
MAX_READ_TOKENS = 512
"""Before the place; what stands further back is left out."""

Evidence = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Predicted:
    """The tokens that spell a text up to a character, and which of them, the last ones, spell that character."""

    text: str
    ids: Ids
    first: int  # of the tokens of the last character
    reach: int  # characters before it that are considered

    @property
    def before(self) -> npt.NDArray[np.int64]:
        """The ids before the character, MAX_READ_TOKENS at most, with the boundary before them."""
        return np.concatenate([[BOUNDARY], self.ids[: self.first][-MAX_READ_TOKENS:]]).astype(np.int64)


def evidence(model: ServedModel, predicted: Predicted) -> Generator[None, None, Evidence]:
    """All that can be said of this model, by name."""
    found: Evidence = {}
    for kind, find in FINDERS:
        if isinstance(model.run.model, kind):
            found |= find(model, model.run.model, predicted)
            yield
    return found


def _gradients(model: ServedModel, network: LanguageModel, predicted: Predicted) -> Evidence:
    """`gradients`: by gradient x input, how many bits each character adds to the evidence for this one."""
    if not tables_of(network):
        return {}
    targets = predicted.ids[predicted.first :]
    stream = np.concatenate([predicted.before, targets])
    nats = gradient_times_input(network, stream, len(targets), predicted.reach)
    values = np.zeros(len(predicted.ids))
    known = min(len(nats), predicted.first)  # the boundary is no character
    values[predicted.first - known : predicted.first] = nats[:known][::-1]
    return {"gradients": _by_character(model, predicted, values / math.log(2))}


def _attention(model: ServedModel, network: LanguageModel, predicted: Predicted) -> Evidence:
    """`attention`: of each layer, of each head, the weight of each character."""
    before = predicted.text[:-1][-MAX_ATTENDED_CHARACTERS:]
    maps = attention_maps(network, model.tokenizer, before)
    ids = model.tokenizer.encode(before).astype(np.uint32)
    count = min(predicted.reach, len(before))
    layers = maps.weights[:, :, -1, 1:]  # those of the last token, without the boundary
    rows = [[character_bits(model.tokenizer, ids, row, len(before)) for row in layer] for layer in layers]
    return {"attention": [[row[::-1][:count].round(4).tolist() for row in layer] for layer in rows]}


def _by_character(model: ServedModel, predicted: Predicted, values: npt.NDArray[np.float64]) -> list[float]:
    """The values of the tokens, divided among their characters, of the characters within reach."""
    place = len(predicted.text) - 1
    values = character_bits(model.tokenizer, predicted.ids.astype(np.uint32), values, place + 1)
    return [round(value, 4) for value in values[:place][::-1][: predicted.reach].tolist()]


def _contexts(model: ServedModel, network: LanguageModel, predicted: Predicted) -> Evidence:
    """`matched`: the longest context that was counted."""
    assert isinstance(network, NGram)
    tokens = predicted.before[-network.order :]
    lengths, _ = network.matched(torch.from_numpy(tokens)[None].to(device_of(network)), network.initial_state(1))
    length = min(int(lengths[0, -1]), network.order - 1)
    context = [id for id in tokens[len(tokens) - length :].tolist() if id != BOUNDARY]
    return {"matched": model.tokenizer.decode(context)}


def _kinds(model: ServedModel, network: LanguageModel, predicted: Predicted) -> Evidence:  # noqa: ARG001
    """`kinds`: how many bits each kind of context saves."""
    from charlm.models.contexts.ablation import nats_by_kind

    assert isinstance(network, Contexts)
    saved = nats_by_kind(network, predicted.before, int(predicted.ids[predicted.first]))
    kinds = sorted(saved.items(), key=lambda kind: -kind[1])
    return {"kinds": [{"name": name, "bits": round(nats / math.log(2), 4)} for name, nats in kinds]}


def _members(model: ServedModel, network: LanguageModel, predicted: Predicted) -> Evidence:  # noqa: ARG001
    """`members`: the weight of each member at the place, and what the character costs by it alone."""
    assert isinstance(network, Mixture)
    tokens, target = (
        torch.from_numpy(predicted.before)[None].to(device_of(network)),
        int(predicted.ids[predicted.first]),
    )
    with reading(network):
        experts, _ = network.expert_log_probs(tokens, network.initial_state(1))  # (1, T, K, V)
        weights = network.combination.weights(experts[0, -1]).tolist()
    costs = (experts[0, -1, :, target] / -math.log(2)).tolist()
    names = [member.architecture for member in network.config.members]
    return {
        "members": [
            {"name": name, "weight": round(weight, 4), "bits": round(bits, 4)}
            for name, weight, bits in zip(names, weights, costs, strict=True)
        ]
    }


FINDERS: tuple[tuple[type[LanguageModel], Callable[[ServedModel, Any, Predicted], Evidence]], ...] = (
    (LanguageModel, _gradients),  # of those that have embeddings
    (Transformer, _attention),
    (NGram, _contexts),
    (Contexts, _kinds),
    (Mixture, _members),
)
"""What is asked of models of each class."""
