"""Gradients through time: how much earlier inputs influence the loss, on average and at one place.

Shapes: B windows, R tokens of reach, E width of the embeddings, K tokens of the text.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from charlm.analysis.embeddings import embedding_of, tables_of
from charlm.analysis.surprisal import Floats, Integers
from charlm.config import BOUNDARY
from charlm.corpus import Text
from charlm.errors import DataError, TrainingFault
from charlm.evaluation.walk import ids_of
from charlm.models.base import LanguageModel, detach, device_of, evaluating
from charlm.tokenizers.base import Tokenizer

MAX_LOGITS = 1 << 22  # computed in one call


@dataclass(frozen=True)
class Gradients:
    """The norm of the gradient of the loss (nats) with respect to the embeddings of the token k places before."""

    norms: Floats  # (R,): for k = 0 .. R-1, the mean over some positions of a text
    positions: int  # their number


def gradients_through_time(
    model: LanguageModel, tokenizer: Tokenizer, text: Text, *, reach: int = 128, positions: int = 256
) -> Gradients:
    """The norms of d loss_t / d input_{t-k} (Bengio et al. 1994) at positions spread evenly over a text.

    The R tokens before these inputs are read first, so that the state is a typical one. In a text shorter than 2 R
    tokens, R is half of its length. Raises UsageError for a model without embeddings, TrainingFault for gradients that
    are not finite, DataError and CheckpointError as `evaluate` does.
    """
    embedding_of(model)  # raises UsageError if there is none
    stream = np.concatenate([[BOUNDARY], ids_of(model, tokenizer, text)], dtype=np.int64)
    if (K := len(stream) - 1) < 2:
        raise DataError(f"{text.name}: one token is too little to look back over; give a longer text")
    reach = min(reach, K // 2)
    first = 2 * reach - 1  # the first position with enough tokens before it
    ends = np.unique(np.linspace(first, K - 1, min(positions, K - first)).astype(np.int64))
    windows = torch.from_numpy(stream[ends[:, None] + np.arange(1 - 2 * reach, 2)])  # (B, 2 R + 1)
    total = np.zeros(reach)
    with evaluating(model), torch.backends.cudnn.flags(enabled=False):  # no gradients in evaluation mode
        for batch in torch.split(windows.to(device_of(model)), max(1, MAX_LOGITS // (reach * model.vocab_size))):
            total += _norms(model, batch, reach).sum(0).double().cpu().numpy()
    if not np.isfinite(total).all():
        raise TrainingFault(
            f"the gradients of {reach} tokens are not numbers: they explode, or the model's weights are broken\n"
            "look back less far (`reach`), or train again with a lower learning rate"
        )
    return Gradients(total / len(ends), len(ends))


def _norms(model: LanguageModel, windows: Tensor, reach: int) -> Tensor:
    """(B, 2 R + 1) ids -> (B, R): the norms for the loss of the last id, k = 0 first."""
    with torch.no_grad():
        _, state = model.score(windows[:, :reach], windows[:, 1 : reach + 1], model.initial_state(len(windows)))
    with torch.enable_grad(), _recorded_embeddings(model) as outputs:
        log_probs, _ = model.score(windows[:, reach:-1], windows[:, reach + 1 :], detach(state))
        gradients = torch.autograd.grad(-log_probs[:, -1].sum(), outputs, materialize_grads=True)
    gradient = torch.cat([each[:, -reach:] for each in gradients], -1)
    norms: Tensor = torch.linalg.vector_norm(gradient, dim=-1).flip(1)
    return norms


def gradient_times_input(model: LanguageModel, stream: Integers, targets: int, reach: int) -> Floats:
    """How much each token before the last `targets` ones of a stream contributes to ln P of those, nearest first.

    It is the embedding times the gradient of ln P with respect to it, summed over the embedding (gradient x input,
    Shrikumar et al. 2016): positive if the token makes the targets likelier. (K,) ids that begin with the boundary ->
    at most `reach` numbers. Raises UsageError for a model without embeddings.
    """
    embedding_of(model)  # raises UsageError if there is none
    ids = torch.from_numpy(stream.astype(np.int64))[None].to(device_of(model))
    count = min(reach, ids.shape[1] - targets)
    begin = ids.shape[1] - targets - count
    with evaluating(model), torch.backends.cudnn.flags(enabled=False):  # no gradients in evaluation mode
        state = model.initial_state(1)
        with torch.no_grad():
            for at in range(0, begin, model.chunk):
                end = min(at + model.chunk, begin)
                _, state = model.score(ids[:, at:end], ids[:, at + 1 : end + 1], state)
        with torch.enable_grad(), _recorded_embeddings(model) as outputs:
            log_probs, _ = model.score(ids[:, begin:-1], ids[:, begin + 1 :], detach(state))
            gradients = torch.autograd.grad(log_probs[:, -targets:].sum(), outputs, materialize_grads=True)
    size = count + targets - 1  # of the inputs; what an embedding reads before them is left out
    parts = zip(gradients, outputs, strict=True)
    products = sum((gradient * output).detach()[0, -size:].double().sum(-1) for gradient, output in parts)
    contributions: Floats = torch.as_tensor(products)[:count].flip(0).cpu().numpy()
    return contributions


def untrained(model: LanguageModel, **changes: Any) -> LanguageModel:
    """An untrained network with the same settings but for `changes`, initialised with a fixed seed."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return type(model)(replace(model.config, **changes), model.vocab_size)


@contextmanager
def _recorded_embeddings(model: LanguageModel) -> Iterator[list[Tensor]]:
    """Collect the outputs of each embedding layer (B, T, E) as leaves, so that gradients end in them."""
    outputs: list[Tensor] = []

    def record(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        outputs.append(output.detach().requires_grad_())
        return outputs[-1]

    handles = [layer.register_forward_hook(record) for layer in tables_of(model)]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
