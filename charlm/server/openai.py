"""OpenAI's completions and chat completions as values: requests, and responses to JSON. Pure functions.

Shapes of responses: https://platform.openai.com/docs/api-reference/completions and …/chat.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from charlm.decoding import Sampling

Json = dict[str, Any]
Prompt = str | tuple[int, ...]
"""A text, or the ids of one."""


@dataclass(frozen=True)
class Completion:
    """What a request for completions asks for."""

    model: str
    prompts: tuple[Prompt, ...]
    max_tokens: int = 16
    n: int = 1
    echo: bool = False
    log_probs: int | None = None  # how many alternatives are listed beside each token; None: nothing is
    stop: tuple[str, ...] = ()
    seed: int | None = None
    sampling: Sampling = field(default_factory=Sampling)
    beams: int | None = None
    length_penalty: float = 0.0
    stream: bool = False
    include_usage: bool = False


class ScoredToken(NamedTuple):
    """One token of an answer or of an echoed prompt."""

    id: int
    log_prob: float | None  # natural logarithm; None for the boundary, which is never predicted
    top: Sequence[tuple[int, float]]  # the likeliest ids in its place with their log-probabilities, likeliest first
    offset: int  # the number of characters of prompt and answer before the one in which it begins


@dataclass
class Choice:
    """One text of an answer, or what a step adds to it."""

    index: int
    text: str = ""
    scored: list[ScoredToken] = field(default_factory=list)
    finish_reason: str | None = None

    def add(self, more: "Choice") -> None:
        """Append the next part of the same text."""
        self.text += more.text
        self.scored += more.scored
        self.finish_reason = more.finish_reason or self.finish_reason


def merged(parts: Iterable[Choice]) -> list[Choice]:
    """The parts that several steps have added, joined to one part a choice."""
    choices: dict[int, Choice] = {}
    for part in parts:
        choices.setdefault(part.index, Choice(part.index)).add(part)
    return list(choices.values())


@dataclass
class Usage:
    """Tokens read and written."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    def to_json(self) -> Json:
        """With their sum."""
        total = self.prompt_tokens + self.completion_tokens
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": total,
        }


def log_probs_json(scored: Iterable[ScoredToken], names: Sequence[str]) -> Json:
    """`logprobs` of a choice; `names` spell each id. Of two ids that are spelled the same the likelier is listed."""
    tokens, log_probs, tops, offsets = list[str](), list[float | None](), list[Json | None](), list[int]()
    for token in scored:
        tokens.append(names[token.id])
        log_probs.append(token.log_prob)
        offsets.append(token.offset)
        top: Json = {}
        for id, log_prob in token.top:
            top.setdefault(names[id], log_prob)
        if token.log_prob is not None:
            top.setdefault(names[token.id], token.log_prob)
        tops.append(None if token.log_prob is None else top)
    return {"tokens": tokens, "token_logprobs": log_probs, "top_logprobs": tops, "text_offset": offsets}


@dataclass(frozen=True)
class Header:
    """The fields that all parts of one answer have in common."""

    id: str
    created: int
    model: str
    fingerprint: str
    names: Sequence[str]  # of the ids, as the API spells them
    log_probs: bool

    def response(self, kind: str, choices: Sequence[Json], **more: Any) -> Json:
        """A response, or a part of one."""
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "choices": choices,
            **more,
        }


def completion_choice(choice: Choice, header: Header) -> Json:
    """A choice, or a part of it in a stream."""
    return {
        "index": choice.index,
        "text": choice.text,
        "finish_reason": choice.finish_reason,
        "logprobs": log_probs_json(choice.scored, header.names) if header.log_probs else None,
    }


def chat_choice(choice: Choice, _header: Header) -> Json:
    """A choice of a chat."""
    message = {"role": "assistant", "content": choice.text}
    return {"index": choice.index, "message": message, "finish_reason": choice.finish_reason, "logprobs": None}


def chat_part(choice: Choice, _header: Header) -> Json:
    """A part of a choice of a chat in a stream."""
    delta = {"role": "assistant", "content": choice.text} if choice.text else {}
    return {"index": choice.index, "delta": delta, "finish_reason": choice.finish_reason, "logprobs": None}
