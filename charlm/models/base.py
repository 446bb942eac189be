"""The one interface. A model reads a stream of ids, carrying a state, and says the log-probability of what comes next.

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

from charlm.config import BOUNDARY, Settings
from charlm.progress import Listener, silent

torch.ones(64).exp().log()  # the first exp or log of a process can be off by 1e-4: let it be this one

State = tuple[Tensor, ...]
"""A value, never mutated. Dimension 0 of every leaf is the stream; what else a leaf holds is the model's own affair."""

UNSEEN = 1e-7
"""The probability at which an id that does not occur in the training text begins."""

UNFIT = "the weights do not fit the configuration"


def select(state: State, streams: Tensor) -> State:
    """The state of the given streams, in that order: re-orders, repeats or drops them. streams: (B',) int64."""
    return tuple(leaf.index_select(0, streams) for leaf in state)


def detach(state: State) -> State:
    """The same state with its history cut: back-propagation through time stops here."""
    return tuple(leaf.detach() for leaf in state)


class LanguageModel(nn.Module, ABC):
    """What every architecture is. `__init__(config, vocab_size)` builds it; nothing else is needed to load it.

    Whoever reads a text feeds `charlm.config.BOUNDARY` first; that id is never a target.
    The laws that every subclass obeys (normalised, causal, chunk-invariant, pure, `select` commutes, `score` agrees
    with `forward`, save and load to the bit) are tested for every entry of `ARCHITECTURES`.
    """

    Config: ClassVar[type[Settings]]
    parameters_are: ClassVar[str] = "parameters"  # what `parameters_count` counts

    by_gradient: ClassVar[bool] = True  # whether it is trained by gradient descent on `score`, as all by default are
    carries_state: ClassVar[bool] = True  # whether training hands the state from one segment of a stream to the next
    least_segment: int = 1  # a model that starts each segment afresh must have met its whole context in training
    chunk: ClassVar[int] = 1024  # tokens of a stream that `score` is best given at a time

    config: Settings
    vocab_size: int

    @abstractmethod
    def initial_state(self, streams: int) -> State:
        """The state before anything has been read, for B = `streams` streams, on the model's device."""

    @abstractmethod
    def forward(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """(B, T) int64 -> (B, T, V) float32; [b, t] = ln P(next | all that stream b has read up to and with t)."""

    def score(self, tokens: Tensor, targets: Tensor, state: State) -> tuple[Tensor, State]:
        """(B, T), (B, T) -> (B, T) float32: ln P of the targets only. Models override it where that is cheaper."""
        log_probs, state = self(tokens, state)
        return log_probs.gather(-1, targets.unsqueeze(-1)).squeeze(-1), state

    def read_vocabulary(self, pieces: Sequence[str]) -> None:
        """Told before training how each id is spelled, V texts; "" for bytes that are no character alone."""

    def expect(self, counts: Tensor, *, anew: bool = True) -> None:
        """Told before training how often each id occurs in the text, (V,). `anew`: nothing was learned before."""

    def learn_only(self, counts: Tensor) -> None:
        """Told when training begins or goes on: the other ids may be left out while it lasts. counts: (V,)."""

    def seen_ids(self) -> Tensor:
        """(V,) bool: the ids that training showed to the model, and so those worth drawing; by default all."""
        return torch.ones(self.vocab_size, dtype=torch.bool)

    @property
    def adapts(self) -> bool:
        """Whether it goes on learning from what it reads, as an n-gram with a cache does; `frozen` does not."""
        return False

    def frozen(self) -> "LanguageModel":
        """The same model as it was trained, which learns nothing from what it reads; it shares the numbers."""
        return self

    @property
    def chosen(self) -> Mapping[str, Any]:
        """What this model has where its settings may be left open, by the names of the settings."""
        return {}

    @property
    def parameters_count(self) -> int:
        """How many numbers were learned: weights for a network, counts for a counting model."""
        return sum(p.numel() for p in self.parameters())

    @classmethod
    def check_shapes(cls, config: Settings, vocab_size: int, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Raises ValueError for shapes of tensors, by name, that no such model has; takes no memory."""
        try:
            with torch.device("meta"):
                expected = {name: tuple(tensor.shape) for name, tensor in _named(cls(config, vocab_size)).items()}
        except (RuntimeError, TypeError, OverflowError):  # a size beyond what a tensor can have
            raise ValueError(UNFIT) from None
        if expected != shapes:
            raise ValueError(UNFIT)

    @classmethod
    def from_tensors(cls, config: Settings, vocab_size: int, tensors: Mapping[str, Tensor]) -> "LanguageModel":
        """The model whose numbers these are, by name, tied ones once; `check_shapes` lets theirs pass.

        Raises ValueError for tensors that contradict each other or are of another type.
        """
        with torch.random.fork_rng():
            model = cls(config, vocab_size)
        with torch.no_grad():
            for name, tensor in _named(model).items():
                if tensor.dtype != tensors[name].dtype:
                    raise ValueError(UNFIT)
                tensor.copy_(tensors[name])
        return model


class CountingModel(LanguageModel):
    """A model that is fitted by counting its training text once, not by gradient descent.

    `found` is what `fit` learned that the tensors do not tell: JSON values by name, for the run's card.
    `validation_nats`: what a token of `validation` cost before it was counted, if `fit` looked; nats.
    """

    by_gradient = False
    parameters_are = "counts"
    found: Mapping[str, Any] = {}
    validation_nats: float | None = None

    @property
    def parameters_count(self) -> int:
        """How many numbers its tensors hold."""
        return sum(tensor.numel() for tensor in self.state_dict().values())

    @abstractmethod
    def fit(
        self,
        tokens: np.ndarray[Any, Any],
        validation: np.ndarray[Any, Any],
        progress: Listener = silent,
        before: Callable[["CountingModel"], None] | None = None,
    ) -> None:
        """Count `tokens` (N,), tune what needs tuning on `validation` (M,), then count those too.

        Neither stream holds the boundary id. `progress` is told (what is being done, fraction done). `before` is shown
        the model as it is without the counts of `validation`: what it then says of them is not hindsight.
        """

    def estimated_seconds(self, tokens: np.ndarray[Any, Any]) -> float:  # noqa: ARG002
        """About how long `fit` will take on this machine as busy as it is; 0 where that is not known."""
        return 0.0

    @classmethod
    def check_shapes(cls, config: Settings, vocab_size: int, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Nothing to compare: how much was counted, only the tensors tell."""

    @classmethod
    @abstractmethod
    def from_tensors(cls, config: Settings, vocab_size: int, tensors: Mapping[str, Tensor]) -> "CountingModel":
        """Rebuild a fitted model from its `state_dict`. Raises ValueError for tensors that contradict each other."""


class Dropout(nn.Module):
    """While training, zeroes a share of the inputs and scales up the rest (Srivastava et al. 2014).

    One random 64-bit word decides for eight numbers, several times faster on a CPU than one draw each; the share is
    therefore rounded to 1/256. Where several processes share a batch, each draws for all of it and takes its `rows`.
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
        kept = words.view(torch.uint8)[:count].view(shape)[self.rows] >= self.threshold
        return x * kept * (256 / (256 - self.threshold))


class Network(LanguageModel):
    """A model trained by gradient descent: ids -> features -> one logit an id.

    A share FLOOR of the probability is spread evenly over the vocabulary, and half of it after an id that training
    never showed, of which the network knows nothing. So a character spelled in bytes that do not occur costs about 22
    bits for its first byte and 9 for each of the others, instead of whatever training has pushed them to.
    """

    FLOOR: ClassVar[float] = 1e-4
    FLOOR_AFTER_UNKNOWN: ClassVar[float] = 0.5

    output: nn.Linear
    known: Tensor  # (V,) bool: the ids that training has shown
    occurring: Tensor | None = None  # while training: the ids there is something to learn about, ascending, (K,)

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.register_buffer("known", torch.ones(vocab_size, dtype=torch.bool))

    @torch.no_grad()
    def expect(self, counts: Tensor, *, anew: bool = True) -> None:
        """A new model predicts each id as often as it occurs, whatever came before.

        Ids that do not occur (most bytes) start improbable, and training leaves them out (`occurring`). Otherwise
        hundreds of useless logits must first be learned away, which costs more than anything else in a run of a minute.
        """
        if anew:
            self.output.bias.copy_((counts / counts.sum()).clamp(min=UNSEEN).log())
            self.output.weight[counts == 0] = 0.0
            self.known.zero_()
            self.known[BOUNDARY] = True
        self.known |= counts > 0

    def learn_only(self, counts: Tensor) -> None:
        """Leaves out what neither the text has nor an earlier one, which may have to be unlearned."""
        learned = self.output.weight.detach().any(1)
        learned[BOUNDARY] = False  # never a target; its row is not 0 where it is tied to the embedding
        self.occurring = (learned | (counts > 0)).nonzero().squeeze(1)

    def seen_ids(self) -> Tensor:
        """As the interface says."""
        return self.known

    @abstractmethod
    def features(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """(B, T) int64 -> (B, T, D): what the output layer reads, and the state after the last token."""

    def forward(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """As the interface says."""
        features, state = self.features(tokens, state)
        log_probs = self.output(features).float().log_softmax(-1)  # (B, T, V)
        return self._floored(log_probs, tokens.unsqueeze(-1)), state

    def score(self, tokens: Tensor, targets: Tensor, state: State) -> tuple[Tensor, State]:
        """As the interface says, without a (B, T, V) tensor of log-probabilities."""
        features, state = self.features(tokens, state)
        weight: Tensor = self.output.weight
        bias: Tensor = self.output.bias
        wanted = targets.flatten()
        if self.training and self.occurring is not None:
            weight, bias = weight[self.occurring], bias[self.occurring]
            wanted = torch.searchsorted(self.occurring, wanted)
        logits = nn.functional.linear(features, weight, bias).flatten(0, 1).float()  # (B T, V or K)
        log_probs = -nn.functional.cross_entropy(logits, wanted, reduction="none")
        return self._floored(log_probs.view(targets.shape), tokens), state

    def _floored(self, log_probs: Tensor, tokens: Tensor) -> Tensor:
        """Mix in the even spread; `tokens`, the ids last read, must broadcast to `log_probs`."""
        shares = log_probs.new_tensor([self.FLOOR_AFTER_UNKNOWN, self.FLOOR])
        kept, spread = torch.log1p(-shares), torch.log(shares / self.vocab_size)
        known = self.known[tokens].long()
        return torch.logaddexp(log_probs + kept[known], spread[known])


def _named(model: nn.Module) -> dict[str, Tensor]:
    """Every number of a model, tied weights once."""
    return dict([*model.named_parameters(), *model.named_buffers()])


def device_of(model: nn.Module) -> torch.device:
    """The device that the model's numbers live on."""
    return next(chain(model.parameters(), model.buffers()), torch.empty(0)).device


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Dropout off, no warnings of numbers out of bounds, which whoever asked looks for; then back to what it was."""
    training = model.training
    model.eval()
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            yield
    finally:
        model.train(training)
