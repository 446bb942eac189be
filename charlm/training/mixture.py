"""A mixture trained as one run: first what counts, then the network beside it, and how to weigh them.

The weights are tuned on the validation slice while nothing that is asked has learned from it: the n-gram is asked
before it counts the slice, the network just before the slice joins its training text, or at the end if it never does.
A network that is half trained makes other weights than one that is done: 0.003 nats per character worse, as measured.
"""

import time
from functools import partial

from torch import Tensor

from charlm.config import Settings
from charlm.corpus import Stream
from charlm.errors import UsageError
from charlm.mixing import Places
from charlm.models import CountingModel, LanguageModel, Mixture, MixtureConfig
from charlm.progress import Listener
from charlm.training.budget import Budget

RESERVED = 0.05  # of a budget of time, for the tuning at its end
MOST_RESERVED = 5.0  # seconds


def learner(architecture: str, config: Settings) -> tuple[str, Settings]:
    """Whose training settings count, and its own settings: the one network of a mixture, or the model itself.

    Raises UsageError for a mixture of anything but one network and models that count.
    """
    if not isinstance(config, MixtureConfig):
        return architecture, config
    networks = [(member.architecture, member.config) for member in config.members if member.kind.by_gradient]
    counting = [member for member in config.members if issubclass(member.kind, CountingModel)]
    if len(networks) != 1 or len(counting) != len(config.members) - 1:
        raise UsageError("a mixture is trained with one network and models that count; `charlm mix` makes all others")
    return networks[0]


def network_of(model: LanguageModel) -> LanguageModel:
    """The member of a mixture that is trained by gradient descent, or the model itself."""
    if isinstance(model, Mixture):
        (model,) = (member for member in model.each() if member.by_gradient)
    return model


class Weighing:
    """Counts what members of a mixture count, and weighs the members once the network stands."""

    def __init__(self, mixture: Mixture, ids: Stream, validation: Stream, stage: Listener) -> None:
        began = time.monotonic()
        self.mixture = mixture
        self.places = Places(validation, mixture.vocab_size)
        self.said: dict[int, Tensor] = {}
        self.nats_per_token: float | None = None  # of the weighed mixture on the validation slice
        for number, member in enumerate(mixture.each()):
            if isinstance(member, CountingModel):
                member.fit(ids, validation, stage, partial(self._ask, number))
        self.seconds = time.monotonic() - began

    def _ask(self, number: int, member: LanguageModel) -> None:
        self.said[number] = self.places.said(member)

    @staticmethod
    def reserved(budget: Budget) -> float:
        """Seconds to keep of a budget for what the call takes at its end."""
        return min(MOST_RESERVED, RESERVED * (budget.seconds or 0.0))

    def __call__(self) -> None:
        """Weigh the members by what they say of the validation slice; those that count have said it before."""
        voices = [
            self.said[number] if number in self.said else self.places.said(member)
            for number, member in enumerate(self.mixture.each())
        ]
        self.nats_per_token = self.places.tune(self.mixture, voices)
