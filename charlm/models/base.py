"""The interface of all models: a model reads a stream of ids, carrying a state, and computes ln P of the next id.

Shapes: B streams, T time steps, V vocabulary, H hidden width, D model width, W attention window.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from charlm.config import BOUNDARY, Settings
from charlm.progress import Listener, silent
from charlm.ranks import Ranks

torch.ones(64).exp().log()  # the first exp or log of a process can be off by 1e-4, so it is done here

State = tuple[Tensor, ...]
"""A value, never mutated. Dimension 0 of every leaf is the stream; the rest is up to the model."""

MIN_INITIAL_PROBABILITY = 1e-7
"""The initial probability of an id that does not occur in the training text."""

WEIGHTS_DO_NOT_FIT = "the weights do not fit the configuration"


def select(state: State, streams: Tensor) -> State:
    """The state of the given streams (B',) int64, in that order: they may be re-ordered, repeated or dropped."""
    return tuple(leaf.index_select(0, streams) for leaf in state)


def detach(state: State) -> State:
    """The same state without its history of gradients: back-propagation through time stops here."""
    return tuple(leaf.detach() for leaf in state)


class LanguageModel(nn.Module, ABC):
    """The base class of every architecture. `__init__(config, vocab_size)` builds an untrained model.

    A text is read with `charlm.config.BOUNDARY` before its first id; the boundary is never a target.
    Every subclass obeys these laws, which are tested for every entry of `ARCHITECTURES`: log-probabilities are
    normalised, causal and independent of how a text is split into calls; states are not mutated; `select` commutes with
    `forward`; `score` agrees with `forward`; a saved and loaded model gives the same bits.
    """

    Config: ClassVar[type[Settings]]
    parameters_are: ClassVar[str] = "parameters"  # what `parameters_count` counts

    by_gradient: ClassVar[bool] = True  # whether it is trained by gradient descent on `score`
    carries_state: ClassVar[bool] = True  # whether training carries the state from one segment of a stream to the next
    min_segment: int = 1  # tokens; a model that does not carry its state needs segments as long as its context
    chunk: ClassVar[int] = 1024  # tokens per call of `score` at which a long text is scored fastest

    config: Settings
    vocab_size: int

    @abstractmethod
    def initial_state(self, streams: int) -> State:
        """The state of B = `streams` streams before any token, on the model's device."""

    @abstractmethod
    def forward(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """(B, T) int64 -> (B, T, V) float32; [b, t] = ln P(next id | all ids of stream b up to and including t)."""

    def score(self, tokens: Tensor, targets: Tensor, state: State) -> tuple[Tensor, State]:
        """(B, T), (B, T) -> (B, T) float32: ln P of the targets only. Models that can compute it faster override it."""
        log_probs, state = self(tokens, state)
        return log_probs.gather(-1, targets.unsqueeze(-1)).squeeze(-1), state

    def read_vocabulary(self, pieces: Sequence[str]) -> None:
        """Called before training with the spelling of each id, V texts; "" for bytes that are no character alone."""

    def expect(self, counts: Tensor, *, anew: bool = True) -> None:
        """Called before training with the count of each id in the text, (V,). `anew`: the model is untrained."""

    def learn_only(self, counts: Tensor) -> None:
        """Called when training starts or resumes, with the count of each id (V,): ids with count 0 may be left out."""

    def seen_ids(self) -> Tensor:
        """(V,) bool: the ids that occurred in training, which are the ids worth sampling; by default all."""
        return torch.ones(self.vocab_size, dtype=torch.bool)

    @property
    def adapts(self) -> bool:
        """Whether it learns from the text that it reads, as an n-gram with a cache does."""
        return False

    @property
    def adaptation(self) -> str:
        """What changes while a text is read: "none", "counts", or "all" (see `charlm.models.adapting`)."""
        return "counts" if self.adapts else "none"

    @property
    def in_parallel(self) -> bool:
        """Whether many streams are read much faster together than one after the other, at little memory each."""
        return True

    def frozen(self) -> "LanguageModel":
        """The same model, sharing its tensors, without learning from the text that it reads."""
        return self

    @property
    def chosen(self) -> Mapping[str, Any]:
        """The values that training chose for settings that may be unset, by the names of the settings."""
        return {}

    @property
    def parameters_count(self) -> int:
        """The number of parameters: weights of a network, counts of a counting model."""
        return sum(p.numel() for p in self.parameters())

    @classmethod
    def check_shapes(cls, config: Settings, vocab_size: int, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Raises ValueError unless a model with these settings has tensors of these names and shapes.

        Allocates no memory for them.
        """
        try:
            with torch.device("meta"):
                expected = {
                    name: tuple(tensor.shape) for name, tensor in _named_tensors(cls(config, vocab_size)).items()
                }
        except (RuntimeError, TypeError, OverflowError):  # a size that no tensor can have
            raise ValueError(WEIGHTS_DO_NOT_FIT) from None
        if expected != shapes:
            raise ValueError(WEIGHTS_DO_NOT_FIT)

    @classmethod
    def from_tensors(cls, config: Settings, vocab_size: int, tensors: Mapping[str, Tensor]) -> "LanguageModel":
        """The model with these tensors, by name, tied ones once, whose shapes passed `check_shapes`.

        Raises ValueError for tensors that contradict each other or have another type.
        """
        with torch.random.fork_rng():
            model = cls(config, vocab_size)
        with torch.no_grad():
            for name, tensor in _named_tensors(model).items():
                if tensor.dtype != tensors[name].dtype:
                    raise ValueError(WEIGHTS_DO_NOT_FIT)
                tensor.copy_(tensors[name])
        return model


class CountingModel(LanguageModel):
    """A model that is fitted by counting its training text once, not by gradient descent.

    `fit_results`: what `fit` reports for the run's history, JSON values by name.
    `validation_nats`: nats per token of `validation` before it was counted; None if `fit` did not score it.
    `shares_counting`: whether several processes share the work in `fit_together`.
    """

    by_gradient = False
    parameters_are = "counts"
    shares_counting = False
    fit_results: Mapping[str, Any] = {}
    validation_nats: float | None = None

    @property
    @override
    def parameters_count(self) -> int:
        return sum(tensor.numel() for tensor in self.state_dict().values())

    @abstractmethod
    def fit(
        self,
        tokens: np.ndarray[Any, Any],
        validation: np.ndarray[Any, Any],
        progress: Listener = silent,
        before: Callable[["CountingModel"], None] | None = None,
    ) -> None:
        """Count `tokens` (N,), tune parameters on `validation` (M,), then count `validation` too.

        Neither stream contains the boundary id. `progress` is called with (activity, fraction done). `before` is called
        with the model before `validation` is counted, so that it can be evaluated on `validation`.
        """

    def fit_together(
        self,
        ranks: Ranks,
        tokens: np.ndarray[Any, Any],
        validation: np.ndarray[Any, Any],
        progress: Listener = silent,
        before: Callable[["CountingModel"], None] | None = None,
    ) -> None:
        """`fit` by several processes, all of which call this; only the model of rank 0 is fitted, here by it alone."""
        if ranks.is_main:
            self.fit(tokens, validation, progress, before)

    def estimated_seconds(self, tokens: np.ndarray[Any, Any]) -> float:  # noqa: ARG002
        """The estimated time of `fit` on this machine under its present load; 0 if it is not known."""
        return 0.0

    @classmethod
    @override
    def check_shapes(cls, config: Settings, vocab_size: int, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Accepts all shapes: they depend on what was counted, and `from_tensors` checks them."""

    @classmethod
    @abstractmethod
    @override
    def from_tensors(cls, config: Settings, vocab_size: int, tensors: Mapping[str, Tensor]) -> "CountingModel": ...


class Dropout(nn.Module):
    """While training, zeroes a share of the inputs and scales up the others (Srivastava et al. 2014).

    One random 64-bit word decides for eight inputs, which is several times faster on a CPU than one draw each; so the
    share is rounded to 1/256. Processes that share a batch each draw for all of it and take their `rows`.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.threshold = min(255, round(256 * share))
        self.batch: int | None = None  # None: that of the inputs
        self.rows = slice(None)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, ...), of any shape."""
        if not self.training or not self.threshold:
            return x
        shape = (self.batch or len(x), *x.shape[1:])
        count = math.prod(shape)
        words = torch.empty(-(-count // 8), dtype=torch.int64, device=x.device).random_(-(2**63), None)
        keep = words.view(torch.uint8)[:count].view(shape)[self.rows] >= self.threshold
        return x * keep * (256 / (256 - self.threshold))


class Network(LanguageModel):
    """A model trained by gradient descent: ids -> features -> one logit for each id.

    The softmax is mixed with a uniform distribution over the vocabulary. Its weight is FLOOR, or FLOOR_AFTER_UNKNOWN
    after an id that did not occur in training, because the network has learned nothing about that id. So a character
    spelled in bytes that did not occur costs about 22 bits for its first byte and 9 for each of the others.
    """

    FLOOR: ClassVar[float] = 1e-4
    FLOOR_AFTER_UNKNOWN: ClassVar[float] = 0.5

    output: nn.Linear
    known: Tensor  # (V,) bool: the ids that occurred in training
    occurring: Tensor | None = None  # (K,) ascending: the ids whose logits are computed while training; None: all

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.register_buffer("known", torch.ones(vocab_size, dtype=torch.bool))

    @override
    @torch.no_grad()
    def expect(self, counts: Tensor, *, anew: bool = True) -> None:
        """Initialise the output layer of an untrained model so that it predicts the unigram frequencies.

        Ids that do not occur (most bytes) start with a small probability, and training leaves them out (`occurring`).
        Otherwise a run of a minute would spend most of its time on lowering hundreds of useless logits.
        """
        if anew:
            self.output.bias.copy_((counts / counts.sum()).clamp(min=MIN_INITIAL_PROBABILITY).log())
            self.output.weight[counts == 0] = 0.0
            self.known.zero_()
            self.known[BOUNDARY] = True
        self.known |= counts > 0

    @override
    def learn_only(self, counts: Tensor) -> None:
        """Leave out the ids that occur neither in this text nor in one that the model was trained on before."""
        learned = self.output.weight.detach().any(1)
        learned[BOUNDARY] = False  # never a target, but its row is not 0 if the weights are tied
        self.occurring = (learned | (counts > 0)).nonzero().squeeze(1)

    @override
    def seen_ids(self) -> Tensor:
        return self.known

    @abstractmethod
    def features(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """(B, T) int64 -> (B, T, D): the input of the output layer, and the state after the last token."""

    @override
    def forward(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        features, state = self.features(tokens, state)
        log_probs = self.output(features).float().log_softmax(-1)  # (B, T, V)
        return self._floored(log_probs, tokens.unsqueeze(-1)), state

    @override
    def score(self, tokens: Tensor, targets: Tensor, state: State) -> tuple[Tensor, State]:
        """Does not allocate log-probabilities (B, T, V)."""
        features, state = self.features(tokens, state)
        weight: Tensor = self.output.weight
        bias: Tensor = self.output.bias
        target_columns = targets.flatten()
        if self.training and self.occurring is not None:
            weight, bias = weight[self.occurring], bias[self.occurring]
            target_columns = torch.searchsorted(self.occurring, target_columns)
        logits = nn.functional.linear(features, weight, bias).flatten(0, 1).float()  # (B T, V or K)
        log_probs = -nn.functional.cross_entropy(logits, target_columns, reduction="none")
        return self._floored(log_probs.view(targets.shape), tokens), state

    def _floored(self, log_probs: Tensor, tokens: Tensor) -> Tensor:
        """Mix in the uniform distribution; `tokens`, the ids read last, must broadcast to `log_probs`."""
        weights = log_probs.new_tensor([self.FLOOR_AFTER_UNKNOWN, self.FLOOR])
        of_softmax, uniform = torch.log1p(-weights), torch.log(weights / self.vocab_size)
        known = self.known[tokens].long()
        return torch.logaddexp(log_probs + of_softmax[known], uniform[known])


def _named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The parameters and buffers of a model, tied weights once."""
    return dict([*model.named_parameters(), *model.named_buffers()])


def device_of(model: nn.Module) -> torch.device:
    """The device of the model's tensors; the CPU if it has none."""
    return next(chain(model.parameters(), model.buffers()), torch.empty(0)).device


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Switch to evaluation mode and back; without NumPy's warnings of overflow and NaN, which callers check for."""
    training = model.training
    model.eval()
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            yield
    finally:
        model.train(training)
