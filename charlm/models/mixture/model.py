"""A mixture: several trained models as one, which says what they say together.

Models that make different mistakes predict better together: counts remember what was written, a network guesses what
could be. The mixture asks nothing of its members but the laws of the interface, and obeys them itself, so a mixture can
be a member too.

Shapes: B streams, T time steps, K members, V vocabulary.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from charlm.config import Settings, setting
from charlm.errors import CharlmError, UsageError
from charlm.models.base import UNFIT, LanguageModel, State
from charlm.models.mixture.combining import COMBINATIONS, Combination
from charlm.models.ngram import NGram
from charlm.models.recurrent import LSTM

MOST_MEMBERS = 16
DEEPEST = 4  # mixtures of mixtures of ...
CACHE = 1 << 15  # tokens that the usual n-gram remembers: more than alone, since the network reads no faster than it
CELLS = 1 << 20  # numbers that a member may say in one go
PIECE = 1 << 17  # and that are combined in one go
MEMBER, COMBINATION = "members.{}.", "combination."  # what the names of their tensors begin with

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
        """What `to_json` of the mixture's settings made of it."""
        if not isinstance(data, Mapping) or set(data) != {"architecture", "config"}:
            raise error(f"{where}: a member of the mixture is not described as one; the file is damaged")
        name = data["architecture"]
        if not isinstance(name, str) or name not in _architectures():
            raise error(f"{where}: unknown architecture {str(name)[:30]!r}; a newer charlm may know it")
        return cls(name, _architectures()[name].Config.from_json(data["config"], where, error))


def _architectures() -> Mapping[str, type[LanguageModel]]:
    from charlm.models import ALL_ARCHITECTURES  # which lists this one too

    return ALL_ARCHITECTURES


def usual_members(network: Settings = LSTM.Config(width=384)) -> tuple[Member, ...]:  # noqa: B008
    """What counts, and the settings of an LSTM, which learns best beside it."""
    return Member("ngram", NGram.Config(cache=CACHE)), Member("lstm", network)


@dataclass(frozen=True)
class MixtureConfig(Settings):
    """What a mixture can be told, and what it is made of."""

    combine: str = setting("gate", "how the members' probabilities become one", choices=tuple(COMBINATIONS))
    members: tuple[Member, ...] = field(default_factory=usual_members)

    def __post_init__(self) -> None:
        """A mixture of something, and not of too much."""
        super().__post_init__()
        if not 2 <= len(self.members) <= MOST_MEMBERS:
            raise UsageError(f"a mixture has 2 to {MOST_MEMBERS} members, not {len(self.members)}")
        if self.depth > DEEPEST:
            raise UsageError(f"these are mixtures within mixtures, {self.depth} deep; {DEEPEST} is the most")

    @property
    def depth(self) -> int:
        """1 for a mixture of models, 2 if one of them is a mixture, ..."""
        return 1 + max(getattr(member.config, "depth", 0) for member in self.members)

    @classmethod
    def names(cls) -> list[str]:
        """Its own settings, and those of the members that are trained with it."""
        return list(
            dict.fromkeys([*super().names(), *(name for m in usual_members() for name in type(m.config).names())])
        )

    def changed(self, options: Mapping[str, Any]) -> "MixtureConfig":
        """Each option goes to all who have it."""

        def those_of(names: Sequence[str]) -> dict[str, Any]:
            return {name: value for name, value in options.items() if name in names}

        members = (Member(m.architecture, m.config.changed(those_of(m.config.names()))) for m in self.members)
        return replace(self, members=tuple(members), **those_of(super().names()))

    @classmethod
    def from_json(cls, data: Any, where: str, error: type[CharlmError] = UsageError) -> "MixtureConfig":
        """As `Settings` says, member by member."""
        if isinstance(data, Mapping) and isinstance(members := data.get("members"), list):
            if len(members) > MOST_MEMBERS:
                raise error(f"{where}: a mixture has 2 to {MOST_MEMBERS} members, not {len(members)}")
            data = {**data, "members": tuple(Member.from_json(member, where, error) for member in members)}
        elif isinstance(data, Mapping) and "members" in data:
            raise error(f"{where}: the members of the mixture are not listed; the file is damaged")
        return super().from_json(data, where, error)


class Mixture(LanguageModel):
    """Several models over the same ids, weighed by a `Combination`. The state is theirs, one after the other."""

    Config = MixtureConfig
    config: MixtureConfig
    by_gradient = False

    def __init__(self, config: MixtureConfig, vocab_size: int, members: Sequence[LanguageModel] = ()) -> None:
        """`members`, if they are there already, are what `config` says."""
        super().__init__()
        self.config, self.vocab_size = config, vocab_size
        new = (member.kind(member.config, vocab_size) for member in config.members)
        self.members = nn.ModuleList(members or new)
        self.combination: Combination = COMBINATIONS[config.combine](len(self.members))

    @property
    def chosen(self) -> Mapping[str, Any]:
        """What each member has chosen."""
        return {"members": [dict(member.chosen) for member in self.each()]}

    @property
    def parameters_count(self) -> int:
        """What the members have learned, and how to weigh them."""
        own = sum(weight.numel() for weight in self.combination.parameters())
        return own + sum(member.parameters_count for member in self.each())

    @property
    def adapts(self) -> bool:
        """Whether a member does."""
        return any(member.adapts for member in self.each())

    def frozen(self) -> "Mixture":
        """The mixture of the frozen members, weighed as when they adapted."""
        if not self.adapts:
            return self
        members = [member.frozen() for member in self.each()]
        described = (
            Member(was.architecture, member.config) for was, member in zip(self.config.members, members, strict=True)
        )
        model = Mixture(replace(self.config, members=tuple(described)), self.vocab_size, members)
        model.combination = self.combination
        return model.train(self.training)

    def each(self) -> Iterator[LanguageModel]:
        """The members."""
        for member in self.members:
            assert isinstance(member, LanguageModel)
            yield member

    def read_vocabulary(self, pieces: Sequence[str]) -> None:
        """As the interface says: each member is told."""
        for member in self.each():
            member.read_vocabulary(pieces)

    def seen_ids(self) -> Tensor:
        """As the interface says: what any member was shown."""
        return torch.stack([member.seen_ids() for member in self.each()]).any(0)

    def initial_state(self, streams: int) -> State:
        """As the interface says."""
        return tuple(leaf for member in self.each() for leaf in member.initial_state(streams))

    def _parts(self, state: State) -> list[State]:
        """Each member's part of the state."""
        return _cut(state, [len(member.initial_state(1)) for member in self.each()])

    def forward(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """As the interface says."""
        voices, state = self.voices(tokens, state)
        pieces = torch.split(voices.flatten(0, 1), max(1, PIECE // self.vocab_size))  # that stay in the caches
        return torch.cat([self.combined(piece) for piece in pieces]).view(*tokens.shape, -1), state

    def combined(self, voices: Tensor, copies: Tensor | None = None) -> Tensor:
        """(..., K, A) -> (..., A): as `Combination` says."""
        log_probs: Tensor = self.combination(voices, copies)
        return log_probs

    def voices(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """(B, T) -> (B, T, K, V): what each member says, and the state after it."""
        said = [member(tokens, part) for member, part in zip(self.each(), self._parts(state), strict=True)]
        return torch.stack([log_probs for log_probs, _ in said], 2), tuple(leaf for _, after in said for leaf in after)

    def score(self, tokens: Tensor, targets: Tensor, state: State) -> tuple[Tensor, State]:
        """As the interface says; from the members' scores alone where they are enough."""
        if self.combination.by_score:
            parts = zip(self.each(), self._parts(state), strict=True)
            scored = [member.score(tokens, targets, part) for member, part in parts]
            scores = torch.stack([score for score, _ in scored], 2).unsqueeze(-1)  # (B, T, K, 1)
            return self.combined(scores).squeeze(-1), tuple(leaf for _, after in scored for leaf in after)
        steps, found = max(1, CELLS // (len(tokens) * self.vocab_size)), []
        for piece, wanted in zip(torch.split(tokens, steps, 1), torch.split(targets, steps, 1), strict=True):
            log_probs, state = self(piece, state)
            found.append(log_probs.gather(-1, wanted.unsqueeze(-1)).squeeze(-1))
        return torch.cat(found, 1), state

    @classmethod
    def check_shapes(cls, config: Settings, vocab_size: int, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """As the interface says, member by member."""
        assert isinstance(config, MixtureConfig)
        members, own = _divided(shapes, len(config.members))
        for member, part in zip(config.members, members, strict=True):
            member.kind.check_shapes(member.config, vocab_size, part)
        expected = COMBINATIONS[config.combine](len(members)).state_dict()
        if {name: tuple(tensor.shape) for name, tensor in expected.items()} != own:
            raise ValueError(UNFIT)

    @classmethod
    def from_tensors(cls, config: Settings, vocab_size: int, tensors: Mapping[str, Tensor]) -> "Mixture":
        """As the interface says."""
        assert isinstance(config, MixtureConfig)
        parts, own = _divided(tensors, len(config.members))
        members = [
            member.kind.from_tensors(member.config, vocab_size, part)
            for member, part in zip(config.members, parts, strict=True)
        ]
        model = cls(config, vocab_size, members)
        expected = model.combination.state_dict()
        if any(own[name].dtype != tensor.dtype for name, tensor in expected.items()):
            raise ValueError(UNFIT)
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
    """What belongs to each of the members, and what to the combination. Raises ValueError for anything else."""
    prefixes = [*(MEMBER.format(number) for number in range(members)), COMBINATION]
    parts = [{name.removeprefix(p): one for name, one in named.items() if name.startswith(p)} for p in prefixes]
    if sum(map(len, parts)) != len(named):
        raise ValueError(UNFIT)
    return parts[:-1], parts[-1]
