"""A mixture trained as one run: first its counting members, then its network, and the gates that weigh them.

The gates are tuned on the validation slice before any member has learned from it: the n-gram is scored before it counts
the slice, the network just before the slice joins its training text, or at the end if it never does. Gates tuned with a
network that is half trained cost 0.003 nats per character, as measured.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from torch import Tensor

from charlm.config import Settings
from charlm.corpus import Stream
from charlm.errors import UsageError
from charlm.mixing import TuningText
from charlm.models import CountingModel, LanguageModel, Mixture, MixtureConfig
from charlm.progress import Listener
from charlm.training.budget import Budget
from charlm.training.distributed import World

TUNING_SHARE = 0.05  # of a budget of time, for the tuning at its end
MAX_TUNING_SECONDS = 5.0


def learner(architecture: str, config: Settings) -> tuple[str, Settings]:
    """The architecture and settings of what gradients train: the one network of a mixture, or the model itself.

    Raises UsageError for a mixture of anything but one network and counting models.
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


class MixtureTuning:
    """Fits the counting members of a mixture, and tunes the gates of all members once the network has learned."""

    def __init__(
        self, mixture: Mixture, ids: Stream, validation: Stream, stage: Listener, world: World | None = None
    ) -> None:
        began = time.monotonic()
        self.mixture, self.world = mixture, world or World()
        self.text = TuningText(validation, mixture.vocab_size)
        self.counted: dict[int, Tensor] = {}  # what each counting member says of the validation slice, by its number
        self.nats_per_token: float | None = None  # of the tuned mixture on the validation slice
        self._count(ids, validation, stage)
        (self.seconds,) = self.world.of_main(time.monotonic() - began)

    def _count(self, ids: Stream, validation: Stream, stage: Listener) -> None:
        """Fit the counting members side by side: most of the time each keeps but one core busy.

        Those that several processes fit together take turns, so that all processes exchange for the same one.
        """
        members = {n: member for n, member in enumerate(self.mixture.each()) if isinstance(member, CountingModel)}
        unfinished = list(members)

        def fit(number: int) -> None:
            def report(what: str, done: float) -> None:
                if number == unfinished[0]:  # one is told of at a time
                    stage(what, done)

            try:
                members[number].fit_together(self.world, ids, validation, report, partial(self._score, number))
            finally:
                unfinished.remove(number)

        shared = [number for number, member in members.items() if member.shares_counting]
        turns = [shared, *([number] for number in members if number not in shared)]

        def take_turns(numbers: list[int]) -> None:
            for number in numbers:
                fit(number)

        with ThreadPoolExecutor(len(turns)) as pool:
            list(pool.map(take_turns, turns))

    def _score(self, number: int, member: LanguageModel) -> None:
        self.counted[number] = self.text.log_probs(member)

    @staticmethod
    def reserved(budget: Budget) -> float:
        """Seconds to keep of a budget for what `tune` takes at its end."""
        return min(MAX_TUNING_SECONDS, TUNING_SHARE * (budget.seconds or 0.0))

    def tune(self) -> None:
        """Tune the gates on the validation slice; counting members were scored on it before they counted it.

        Rank 0 does it alone, as it has the counting members: they and the gates are what it saves.
        """
        if not self.world.is_main:
            return
        expert_log_probs = [
            self.counted[number] if number in self.counted else self.text.log_probs(member)
            for number, member in enumerate(self.mixture.each())
        ]
        self.nats_per_token = self.text.tune(self.mixture, expert_log_probs)
