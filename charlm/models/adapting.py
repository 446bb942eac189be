"""What of a model goes on learning while it reads a text: nothing, its counts, or the weights of networks as well.

Shapes: B streams, T time steps, V vocabulary, P parameters, S tokens of a segment.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from typing_extensions import override

from charlm.config import ADAPTATIONS, Settings, setting
from charlm.errors import UsageError
from charlm.models.base import LanguageModel, State
from charlm.models.mixture import Mixture

SQUARES_DECAY = 0.999
"""The decay of the moving average of squared gradients, per step."""


@dataclass(frozen=True)
class Dynamic(Settings):
    """How a network learns from what it reads; the defaults had the lowest loss on a validation slice."""

    rate: float = setting(4e-4, "step of each weight along a gradient that is as large as root_mean_square", above=0.0)
    decay: float = setting(1e-3, "share of the way back to the trained weights at each step", min=0.0, below=1.0)
    segment: int = setting(64, "tokens between two steps", min=1)


def adapted(model: LanguageModel, adapt: str | None, dynamic: Dynamic | None = None) -> LanguageModel:
    """The model that reads a text with this adaptation, one of `ADAPTATIONS`; None: as the model was trained.

    It shares the tensors of `model`, which never change. Raises UsageError for what the model cannot have.
    """
    if adapt is None:
        return model
    if adapt not in ADAPTATIONS:
        raise UsageError(f"must be one of {', '.join(ADAPTATIONS)}, not {str(adapt)[:30]!r}", "adapt")
    if adapt not in adaptations(model):
        why = "does not count what it reads" if adapt == "counts" else "has no gradients of its own to learn by"
        raise UsageError(f"{adapt}: {type(model).__name__} {why}; leave it out", "adapt")
    if adapt == "none":
        return model.frozen()
    return model if adapt == "counts" else _dynamic(model, dynamic or Dynamic())


def adaptations(model: LanguageModel) -> list[str]:
    """Those of `ADAPTATIONS` that a model can have."""
    has = {"none": True, "counts": model.adapts, "all": _has_network(model)}
    return [adapt for adapt in ADAPTATIONS if has[adapt]]


def nearest(model: LanguageModel, adapt: str | None) -> str | None:
    """The adaptation itself, or the most that the model can have of it."""
    if adapt not in ADAPTATIONS:
        return adapt
    return [one for one in ADAPTATIONS[: ADAPTATIONS.index(adapt) + 1] if one in adaptations(model)][-1]


def _has_network(model: LanguageModel) -> bool:
    return any(map(_has_network, model.each())) if isinstance(model, Mixture) else model.by_gradient


def _dynamic(model: LanguageModel, settings: Dynamic) -> LanguageModel:
    """The model with every network in it made one that learns."""
    if isinstance(model, Mixture):
        return model.of([_dynamic(member, settings) for member in model.each()])
    return DynamicNetwork(model, settings) if model.by_gradient else model


class DynamicNetwork(LanguageModel):
    """Dynamic evaluation: a network that learns from every S tokens of a stream once they have been predicted.

    This is the RMS rule with decay of Krause et al. 2018 (arXiv 1709.07432), with mean squares of the gradients so far
    instead of those on the training text. The weights of a stream are part of its state:

        the weights and the mean squares of their gradients, (B, P); the number of steps, (B,); the tokens read since
        the last step, (B, S), and how many they are, (B,); the network's state before these tokens, and after them.
    """

    by_gradient = False

    def __init__(self, network: LanguageModel, settings: Dynamic) -> None:
        super().__init__()
        self.config, self.vocab_size, self.settings = network.config, network.vocab_size, settings
        self.scoring = _Scoring(network)
        self.train(network.training)
        self.shapes = {name: weight.shape for name, weight in self.scoring.named_parameters()}

    @property
    def network(self) -> LanguageModel:
        """The network, as it was trained."""
        return self.scoring.network

    @property
    def trained(self) -> Tensor:
        """The network's own weights, (P,)."""
        return torch.cat([weight.detach().flatten() for weight in self.scoring.parameters()])

    @property
    @override
    def adapts(self) -> bool:
        return True

    @property
    @override
    def adaptation(self) -> str:
        return "all"

    @property
    @override
    def in_parallel(self) -> bool:
        return False

    @property
    @override
    def chosen(self) -> Mapping[str, Any]:
        return self.network.chosen

    @property
    @override
    def parameters_count(self) -> int:
        return self.network.parameters_count

    @override
    def seen_ids(self) -> Tensor:
        return self.network.seen_ids()

    @override
    def frozen(self) -> LanguageModel:
        return self.network

    @override
    def initial_state(self, streams: int) -> State:
        before = self.network.initial_state(streams)
        weights = self.trained.expand(streams, -1)
        steps = torch.zeros(streams, dtype=torch.int64, device=weights.device)
        tokens = steps.unsqueeze(1).expand(-1, self.settings.segment)
        return weights, torch.zeros_like(weights), steps, tokens, steps, *before, *before

    @override
    def forward(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        return self._streams(tokens, None, state)

    @override
    def score(self, tokens: Tensor, targets: Tensor, state: State) -> tuple[Tensor, State]:
        return self._streams(tokens, targets, state)

    def _streams(self, tokens: Tensor, targets: Tensor | None, state: State) -> tuple[Tensor, State]:
        """`forward`, or with targets `score`: one stream after the other, as each has weights of its own."""
        results, states, learned = [], [], False
        for b in range(len(tokens)):
            own = slice(b, b + 1)
            stream = tuple(leaf[own] for leaf in state)
            log_probs, after = self._stream(tokens[own], None if targets is None else targets[own], stream)
            results.append(log_probs)
            states.append(after)
            learned |= after[0] is not stream[0]
        if len(states) == 1:
            return results[0], states[0]
        leaves = [torch.cat(leaf) if n > 1 or learned else state[n] for n, leaf in enumerate(zip(*states, strict=True))]
        return torch.cat(results), tuple(leaves)

    def _stream(self, tokens: Tensor, targets: Tensor | None, state: State) -> tuple[Tensor, State]:
        """One stream, (1, T): to the end of a segment, a step, and so on."""
        done, results = 0, []
        while done < tokens.shape[1]:
            room = self.settings.segment - int(state[4])
            if not room:  # the next token is the last target of the segment
                state, room = self._learned(tokens[:, done : done + 1], state), self.settings.segment
            part = slice(done, done + room)
            aims = () if targets is None else (targets[:, part],)
            log_probs, state = self._predicted(tokens[:, part], aims, state)
            results.append(log_probs)
            done += log_probs.shape[1]
        return torch.cat(results, 1), state

    def _predicted(self, piece: Tensor, aims: Sequence[Tensor], state: State) -> tuple[Tensor, State]:
        """What the stream's weights predict after each token of a piece, which is noted."""
        weights, squares, steps, tokens, count, *both = state
        before, now = both[: len(both) // 2], both[len(both) // 2 :]
        read, size = int(count), piece.shape[1]
        with torch.no_grad():
            log_probs, after = self._call(weights, piece, *aims, tuple(now))
        noted = torch.cat([tokens[:, :read], piece, tokens[:, read + size :]], 1)
        return log_probs, (weights, squares, steps, noted, count + size, *before, *after)

    def _learned(self, next_token: Tensor, state: State) -> State:
        """The state after a step by the gradients of the segment just read, which begins the next."""
        with _with_gradients():
            weights, squares, steps, tokens, count, *both = (leaf.detach().clone() for leaf in state)
            before, now = both[: len(both) // 2], both[len(both) // 2 :]
            weights.requires_grad_()
            targets = torch.cat([tokens[:, 1:], next_token], 1)
            log_probs, _ = self._call(weights, tokens, targets, tuple(before))
            (gradient,) = torch.autograd.grad(-log_probs.mean(), weights)
            weights, steps = weights.detach(), steps + 1
            squares = SQUARES_DECAY * squares + (1 - SQUARES_DECAY) * gradient**2
            root_mean_square = (squares / (1 - SQUARES_DECAY**steps)).sqrt() + 1e-8  # without gradients so far it is 0
            weights = weights.addcdiv(gradient, root_mean_square, value=-self.settings.rate)
            weights = weights.lerp(self.trained, self.settings.decay)
            return weights, squares, steps, tokens, torch.zeros_like(count), *now, *now

    def _call(self, weights: Tensor, *arguments: Any) -> tuple[Tensor, State]:
        """The network's `forward`, or with targets its `score`, with these weights (1, P)."""
        parts = torch.split(weights[0], [shape.numel() for shape in self.shapes.values()])
        named = {name: part.view(shape) for part, (name, shape) in zip(parts, self.shapes.items(), strict=True)}
        with torch.backends.cudnn.flags(enabled=False):  # it has no gradients in evaluation mode
            result: tuple[Tensor, State] = functional_call(self.scoring, named, arguments)
            return result


class _Scoring(nn.Module):
    """A network's `forward` for (tokens, state), and its `score` for (tokens, targets, state)."""

    def __init__(self, network: LanguageModel) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor, *rest: Any) -> Any:
        return self.network.score(tokens, *rest) if len(rest) == 2 else self.network(tokens, *rest)


@contextmanager
def _with_gradients() -> Iterator[None]:
    with torch.inference_mode(False), torch.enable_grad():
        yield
