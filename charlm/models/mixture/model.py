"""A mixture: several trained models combined into one.

Models that make different mistakes predict better together: counts remember what occurred, a network generalises. The
mixture relies on the laws of the interface only, and obeys them itself, so a mixture can be a member too.

Shapes: B streams, T time steps, K members, V vocabulary.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from charlm.config import Settings, setting
from charlm.errors import CharlmError, UsageError
from charlm.models.base import WEIGHTS_DO_NOT_FIT, LanguageModel, State
from charlm.models.contexts import Contexts
from charlm.models.mixture.combining import COMBINATIONS, Combination
from charlm.models.ngram import NGram
from charlm.models.recurrent import LSTM

MAX_MEMBERS = 16
MAX_DEPTH = 4  # mixtures of mixtures of ...
CACHE_TOKENS = 1 << 15  # of the default n-gram; larger than without a network, which takes longer to read anyway
MAX_NUMBERS_PER_MEMBER_CALL = 1 << 20  # log-probabilities
MAX_NUMBERS_COMBINED = 1 << 17  # log-probabilities, few enough for a processor's cache
MEMBER_PREFIX, COMBINATION_PREFIX = "members.{}.", "combination."  # of the names of their tensors

T = TypeVar("T")


@dataclass(frozen=True)
class Member:
    """One model of a mixture: its architecture, by name, and its settings."""

    architecture: str
    config: Settings

    @property
    def kind(self) -> type[LanguageModel]:
        """The class that the architecture's name stands for."""
        return _architectures()[self.architecture]

    @classmethod
    def from_json(cls, data: Any, where: str, error: type[CharlmError]) -> "Member":
        """Inverse of `to_json` for one member of the settings."""
        if not isinstance(data, Mapping) or set(data) != {"architecture", "config"}:
            raise error(f"{where}: a member of the mixture is not described as one; the file is damaged")
        name = data["architecture"]
        if not isinstance(name, str) or name not in _architectures():
            raise error(f"{where}: unknown architecture {str(name)[:30]!r}; a newer charlm may know it")
        return cls(name, _architectures()[name].Config.from_json(data["config"], where, error))


def _architectures() -> Mapping[str, type[LanguageModel]]:
    from charlm.models import ALL_ARCHITECTURES  # imported late: it contains the mixture itself

    return ALL_ARCHITECTURES


def usual_members(network: Settings = LSTM.Config(width=384)) -> tuple[Member, ...]:  # noqa: B008
    """An n-gram, a model of contexts, and an LSTM, the network with the best results beside them."""
    counting = Member("ngram", NGram.Config(cache=CACHE_TOKENS)), Member("contexts", Contexts.Config())
    return *counting, Member("lstm", network)


@dataclass(frozen=True)
class MixtureConfig(Settings):
    """The settings of a mixture, and its members."""

    combine: str = setting("gate", "how the members' probabilities become one", choices=tuple(COMBINATIONS))
    members: tuple[Member, ...] = field(default_factory=usual_members)

    def __post_init__(self) -> None:
        """Raises UsageError for too few or too many members, and for mixtures nested too deeply."""
        super().__post_init__()
        if not 2 <= len(self.members) <= MAX_MEMBERS:
            raise UsageError(f"a mixture has 2 to {MAX_MEMBERS} members, not {len(self.members)}")
        if self.depth > MAX_DEPTH:
            raise UsageError(f"these are mixtures within mixtures, {self.depth} deep; {MAX_DEPTH} is the most")

    @property
    def depth(self) -> int:
        """1 for a mixture of models, 2 if one of them is a mixture, ..."""
        return 1 + max(getattr(member.config, "depth", 0) for member in self.members)

    def without(self, architecture: str) -> "MixtureConfig":
        """The same with no member of this architecture."""
        return replace(self, members=tuple(m for m in self.members if m.architecture != architecture))

    @classmethod
    def names(cls) -> list[str]:
        """The names of its own settings, and of those of the members that are trained with it."""
        return list(
            dict.fromkeys([*super().names(), *(name for m in usual_members() for name in type(m.config).names())])
        )

    @override
    def changed(self, options: Mapping[str, Any]) -> "MixtureConfig":
        """Each option changes the mixture and every member that has it."""

        def those_of(names: Sequence[str]) -> dict[str, Any]:
            return {name: value for name, value in options.items() if name in names}

        members = (Member(m.architecture, m.config.changed(those_of(m.config.names()))) for m in self.members)
        return replace(self, members=tuple(members), **those_of(super().names()))

    @classmethod
    @override
    def from_json(cls, data: Any, where: str, error: type[CharlmError] = UsageError) -> "MixtureConfig":
        if isinstance(data, Mapping) and isinstance(members := data.get("members"), list):
            if len(members) > MAX_MEMBERS:
                raise error(f"{where}: a mixture has 2 to {MAX_MEMBERS} members, not {len(members)}")
            data = {**data, "members": tuple(Member.from_json(member, where, error) for member in members)}
        elif isinstance(data, Mapping) and "members" in data:
            raise error(f"{where}: the members of the mixture are not listed; the file is damaged")
        return super().from_json(data, where, error)


class Mixture(LanguageModel):
    """Several models over the same ids, combined by a `Combination`. Its state is the concatenation of theirs."""

    Config = MixtureConfig
    config: MixtureConfig
    by_gradient = False

    def __init__(self, config: MixtureConfig, vocab_size: int, members: Sequence[LanguageModel] = ()) -> None:
        """`members`: the models that `config` describes; by default new ones."""
        super().__init__()
        self.config, self.vocab_size = config, vocab_size
        new = (member.kind(member.config, vocab_size) for member in config.members)
        self.members = nn.ModuleList(members or new)
        self.combination: Combination = COMBINATIONS[config.combine](len(self.members))

    @property
    @override
    def chosen(self) -> Mapping[str, Any]:
        return {"members": [dict(member.chosen) for member in self.each()]}

    @property
    @override
    def parameters_count(self) -> int:
        own = sum(weight.numel() for weight in self.combination.parameters())
        return own + sum(member.parameters_count for member in self.each())

    @property
    @override
    def adapts(self) -> bool:
        return any(member.adapts for member in self.each())

    @property
    @override
    def adaptation(self) -> str:
        return "all" if any(member.adaptation == "all" for member in self.each()) else super().adaptation

    @property
    @override
    def in_parallel(self) -> bool:
        return all(member.in_parallel for member in self.each())

    @override
    def frozen(self) -> "Mixture":
        """The mixture of the frozen members, with unchanged mixture weights."""
        return self.of([member.frozen() for member in self.each()]) if self.adapts else self

    def of(self, members: Sequence[LanguageModel]) -> "Mixture":
        """The mixture of other forms of its members, with unchanged mixture weights."""
        configs = (
            Member(old.architecture, member.config) for old, member in zip(self.config.members, members, strict=True)
        )
        model = Mixture(replace(self.config, members=tuple(configs)), self.vocab_size, members)
        model.combination = self.combination
        return model.train(self.training)

    def each(self) -> Iterator[LanguageModel]:
        """The members."""
        for member in self.members:
            assert isinstance(member, LanguageModel)
            yield member

    @override
    def read_vocabulary(self, pieces: Sequence[str]) -> None:
        for member in self.each():
            member.read_vocabulary(pieces)

    @override
    def seen_ids(self) -> Tensor:
        return torch.stack([member.seen_ids() for member in self.each()]).any(0)

    @override
    def initial_state(self, streams: int) -> State:
        return tuple(leaf for member in self.each() for leaf in member.initial_state(streams))

    def _parts(self, state: State) -> list[State]:
        """Each member's part of the state."""
        return _cut(state, [len(member.initial_state(1)) for member in self.each()])

    @override
    def forward(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        expert_log_probs, state = self.expert_log_probs(tokens, state)
        pieces = torch.split(expert_log_probs.flatten(0, 1), max(1, MAX_NUMBERS_COMBINED // self.vocab_size))
        return torch.cat([self.combined(piece) for piece in pieces]).view(*tokens.shape, -1), state

    def combined(self, expert_log_probs: Tensor, log_counts: Tensor | None = None) -> Tensor:
        """(..., K, A) -> (..., A), see `Combination`."""
        log_probs: Tensor = self.combination(expert_log_probs, log_counts)
        return log_probs

    def expert_log_probs(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """(B, T) -> (B, T, K, V): the log-probabilities of each member, and the state after the tokens."""
        results = [member(tokens, part) for member, part in zip(self.each(), self._parts(state), strict=True)]
        return torch.stack([log_probs for log_probs, _ in results], 2), tuple(
            leaf for _, after in results for leaf in after
        )

    @override
    def score(self, tokens: Tensor, targets: Tensor, state: State) -> tuple[Tensor, State]:
        """Uses the members' scores only, if the combination does."""
        if self.combination.by_score:
            parts = zip(self.each(), self._parts(state), strict=True)
            scored = [member.score(tokens, targets, part) for member, part in parts]
            scores = torch.stack([score for score, _ in scored], 2).unsqueeze(-1)  # (B, T, K, 1)
            return self.combined(scores).squeeze(-1), tuple(leaf for _, after in scored for leaf in after)
        steps, scores_by_piece = max(1, MAX_NUMBERS_PER_MEMBER_CALL // (len(tokens) * self.vocab_size)), []
        for piece, piece_targets in zip(torch.split(tokens, steps, 1), torch.split(targets, steps, 1), strict=True):
            log_probs, state = self(piece, state)
            scores_by_piece.append(log_probs.gather(-1, piece_targets.unsqueeze(-1)).squeeze(-1))
        return torch.cat(scores_by_piece, 1), state

    @classmethod
    @override
    def check_shapes(cls, config: Settings, vocab_size: int, shapes: Mapping[str, tuple[int, ...]]) -> None:
        assert isinstance(config, MixtureConfig)
        members, own = _divided(shapes, len(config.members))
        for member, part in zip(config.members, members, strict=True):
            member.kind.check_shapes(member.config, vocab_size, part)
        expected = COMBINATIONS[config.combine](len(members)).state_dict()
        if {name: tuple(tensor.shape) for name, tensor in expected.items()} != own:
            raise ValueError(WEIGHTS_DO_NOT_FIT)

    @classmethod
    @override
    def from_tensors(cls, config: Settings, vocab_size: int, tensors: Mapping[str, Tensor]) -> "Mixture":
        assert isinstance(config, MixtureConfig)
        parts, own = _divided(tensors, len(config.members))
        members = [
            member.kind.from_tensors(member.config, vocab_size, part)
            for member, part in zip(config.members, parts, strict=True)
        ]
        model = cls(config, vocab_size, members)
        expected = model.combination.state_dict()
        if any(own[name].dtype != tensor.dtype for name, tensor in expected.items()):
            raise ValueError(WEIGHTS_DO_NOT_FIT)
        model.combination.load_state_dict(own)
        return model


def _cut(state: State, sizes: Sequence[int]) -> list[State]:
    """The state in parts of so many leaves."""
    parts, begin = [], 0
    for size in sizes:
        parts.append(state[begin : begin + size])
        begin += size
    return parts


def _divided(named: Mapping[str, T], members: int) -> tuple[list[dict[str, T]], dict[str, T]]:
    """The tensors of each member, and of the combination. Raises ValueError for names of neither."""
    prefixes = [*(MEMBER_PREFIX.format(number) for number in range(members)), COMBINATION_PREFIX]
    parts = [{name.removeprefix(p): one for name, one in named.items() if name.startswith(p)} for p in prefixes]
    if sum(map(len, parts)) != len(named):
        raise ValueError(WEIGHTS_DO_NOT_FIT)
    return parts[:-1], parts[-1]
