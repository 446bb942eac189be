"""What a run becomes in another program's format."""

from dataclasses import dataclass

from torch import Tensor

from charlm.models import LanguageModel, Network, State


@dataclass(frozen=True)
class Fit:
    """How a run fits a format.

    `form` names what it becomes there. `lost` says in a sentence each what the format cannot hold. `model` gives the
    probabilities that the other program computes, so that the loss can be measured; it is the run's own where nothing
    is lost.
    """

    form: str
    lost: tuple[str, ...]
    model: LanguageModel


class WithoutFloor(LanguageModel):
    """A network whose probabilities are the softmax of its logits alone; it shares the weights."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network, self.config, self.vocab_size = network, network.config, network.vocab_size

    def initial_state(self, streams: int) -> State:
        """The network's own."""
        return self.network.initial_state(streams)

    def forward(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """(B, T) -> (B, T, V), as the network before its floor."""
        features, state = self.network.features(tokens, state)
        return self.network.output(features).float().log_softmax(-1), state
